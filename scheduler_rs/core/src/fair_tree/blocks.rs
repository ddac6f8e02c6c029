//! Two and more contenders: sorted, in blocks of a few dozen, with the covers of blocks and of sections of blocks.
//!
//! A B-tree of constant height, flat: entry, exit and a move are two binary searches and a copy within one block, and a
//! cover is worked out anew only where one of its ends has left. A search looks at one section's blocks and one block.

use super::{Contender, Rank};
use crate::opening::{Opening, Span};

/// Most contenders of a block.
const BLOCK: usize = 32;
/// Two neighbours with no more contenders than this become one block, so that blocks are on average at least
/// a quarter full.
const MERGED: usize = BLOCK / 2;
/// Blocks of a section: a million contenders are about 2,000 sections.
const SECTION: usize = 32;

#[derive(Debug)]
struct Block {
    /// The rank of its first contender: beside the covers, so that a search for a block stays in little memory.
    first: Rank,
    cover: Span,
    /// Ascending by rank, never empty.
    contenders: Vec<Contender>,
}

#[derive(Debug)]
pub(crate) struct Sorted {
    /// Ascending by rank.
    blocks: Vec<Block>,
    /// The cover of each section.
    sections: Vec<Span>,
    cover: Span,
}

impl Sorted {
    pub(super) fn new(a: Contender, b: Contender) -> Self {
        let contenders = if a.rank < b.rank { vec![a, b] } else { vec![b, a] };
        let cover = a.span.union(b.span);
        let block = Block { first: contenders[0].rank, cover, contenders };
        Self { blocks: vec![block], sections: vec![cover], cover }
    }

    /// The only contender, once there is no other.
    pub(super) fn only(&self) -> Option<Contender> {
        match self.blocks.as_slice() {
            [block] if block.contenders.len() == 1 => Some(block.contenders[0]),
            _ => None,
        }
    }

    pub(super) fn cover(&self) -> Span {
        self.cover
    }

    /// The union of spans is admitted exactly when one of them is, so no step is taken in vain.
    pub(super) fn first(&self, opening: Opening) -> Option<&Contender> {
        let section = self.sections.iter().position(|&cover| opening.admits(cover))?;
        let block = self.blocks[section * SECTION..].iter().find(|block| opening.admits(block.cover))?;
        block.contenders.iter().find(|contender| opening.admits(contender.span))
    }

    pub(super) fn insert(&mut self, new: Contender) {
        let mut at = self.block_of(new.rank);
        if self.blocks[at].contenders.len() == BLOCK {
            self.split(at);
            at += usize::from(self.blocks[at + 1].first < new.rank);
        }
        let block = &mut self.blocks[at];
        let place = block.contenders.partition_point(|contender| contender.rank < new.rank);
        block.contenders.insert(place, new);
        block.first = block.contenders[0].rank;
        self.widen(at, new.span);
    }

    pub(super) fn remove(&mut self, rank: Rank) {
        let (at, place) = self.find(rank);
        self.remove_at(at, place);
    }

    pub(super) fn set_span(&mut self, rank: Rank, span: Span) {
        let (at, place) = self.find(rank);
        let old = std::mem::replace(&mut self.blocks[at].contenders[place].span, span);
        self.widen(at, span);
        self.narrow(at, old);
    }

    pub(super) fn move_to(&mut self, old: Rank, new: Rank) {
        let (at, place) = self.find(old);
        if self.block_of(new) != at {
            let moved = self.remove_at(at, place);
            self.insert(Contender { rank: new, ..moved });
            return;
        }
        let block = &mut self.blocks[at];
        block.contenders[place].rank = new;
        if old < new {
            let later = &mut block.contenders[place..];
            let passed = later[1..].partition_point(|contender| contender.rank < new);
            later[..=passed].rotate_left(1);
        } else {
            let to = block.contenders[..place].partition_point(|contender| contender.rank < new);
            block.contenders[to..=place].rotate_right(1);
        }
        block.first = block.contenders[0].rank;
    }

    /// The block in which a rank belongs.
    fn block_of(&self, rank: Rank) -> usize {
        self.blocks.partition_point(|block| block.first <= rank).saturating_sub(1)
    }

    /// The block and the place in it where a contender stands.
    fn find(&self, rank: Rank) -> (usize, usize) {
        let at = self.block_of(rank);
        let place = self.blocks[at].contenders.binary_search_by_key(&rank, |contender| contender.rank);
        (at, place.expect("the contender is in the tree"))
    }

    fn remove_at(&mut self, at: usize, place: usize) -> Contender {
        let block = &mut self.blocks[at];
        let gone = block.contenders.remove(place);
        if block.contenders.is_empty() {
            self.blocks.remove(at);
            self.cover_sections(at);
            return gone;
        }
        block.first = block.contenders[0].rank;
        self.narrow(at, gone.span);
        if self.can_merge(at) {
            self.merge(at);
        } else if at > 0 && self.can_merge(at - 1) {
            self.merge(at - 1);
        }
        gone
    }

    fn split(&mut self, at: usize) {
        let upper = self.blocks[at].contenders.split_off(BLOCK / 2);
        let block = Block { first: upper[0].rank, cover: cover_of(&upper), contenders: upper };
        self.blocks[at].cover = cover_of(&self.blocks[at].contenders);
        self.blocks.insert(at + 1, block);
        self.cover_sections(at);
    }

    fn can_merge(&self, at: usize) -> bool {
        let len = |at: usize| self.blocks.get(at).map_or(BLOCK, |block| block.contenders.len());
        len(at) + len(at + 1) <= MERGED
    }

    fn merge(&mut self, at: usize) {
        let upper = self.blocks.remove(at + 1);
        let block = &mut self.blocks[at];
        block.contenders.extend(upper.contenders);
        block.cover = block.cover.union(upper.cover);
        self.cover_sections(at);
    }

    /// Something with this span has come to a block.
    fn widen(&mut self, at: usize, span: Span) {
        for cover in [&mut self.blocks[at].cover, &mut self.sections[at / SECTION], &mut self.cover] {
            *cover = cover.union(span);
        }
    }

    /// Something with this span has left a block: where it was an end, the cover may be less.
    fn narrow(&mut self, at: usize, gone: Span) {
        let block = &mut self.blocks[at];
        if !gone.reaches(block.cover) {
            return;
        }
        let old = std::mem::replace(&mut block.cover, cover_of(&block.contenders));
        let section = at / SECTION;
        if block.cover != old && gone.reaches(self.sections[section]) {
            self.sections[section] = self.section(section);
            self.cover = union_of(self.sections.iter().copied());
        }
    }

    /// Blocks from here on stand elsewhere now.
    fn cover_sections(&mut self, at: usize) {
        self.sections.truncate(at / SECTION);
        for section in self.sections.len()..self.blocks.len().div_ceil(SECTION) {
            self.sections.push(self.section(section));
        }
        self.cover = union_of(self.sections.iter().copied());
    }

    fn section(&self, section: usize) -> Span {
        union_of(self.blocks[section * SECTION..].iter().take(SECTION).map(|block| block.cover))
    }
}

fn cover_of(contenders: &[Contender]) -> Span {
    union_of(contenders.iter().map(|contender| contender.span))
}

fn union_of(spans: impl Iterator<Item = Span>) -> Span {
    spans.reduce(Span::union).expect("a cover is of something")
}
