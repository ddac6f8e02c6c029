//! Contenders in the order of what they have had, each with the span of its buckets: the first that an opening lets
//! in is found in a few short scans, however many before it are kept back.

mod blocks;

use crate::opening::{Opening, Span};
use blocks::Sorted;

/// Who has had less goes first, then who has just come, then who began to wait first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// Virtual tokens.
    pub(crate) had: u64,
    /// Of no other contender in the tree.
    pub(crate) serial: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Contender {
    rank: Rank,
    id: u32,
    span: Span,
}

/// Most trees hold one contender (a tenant's only flow, a service's only tenant): it stands in the tree itself.
#[derive(Debug)]
pub(crate) enum FairTree {
    Empty,
    One(Contender),
    Many(Box<Sorted>),
}

impl FairTree {
    pub(crate) const fn new() -> Self {
        Self::Empty
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// The span of all contenders together; none when there are none.
    pub(crate) fn cover(&self) -> Option<Span> {
        match self {
            Self::Empty => None,
            Self::One(contender) => Some(contender.span),
            Self::Many(blocks) => Some(blocks.cover()),
        }
    }

    /// The first contender with a bucket in the opening.
    pub(crate) fn first(&self, opening: Opening) -> Option<(Rank, u32)> {
        let first = match self {
            Self::Empty => None,
            Self::One(contender) => opening.admits(contender.span).then_some(contender),
            Self::Many(blocks) => blocks.first(opening),
        };
        first.map(|contender| (contender.rank, contender.id))
    }

    pub(crate) fn insert(&mut self, rank: Rank, id: u32, span: Span) {
        let new = Contender { rank, id, span };
        match self {
            Self::Empty => *self = Self::One(new),
            Self::One(old) => *self = Self::Many(Box::new(Sorted::new(*old, new))),
            Self::Many(blocks) => blocks.insert(new),
        }
    }

    pub(crate) fn remove(&mut self, rank: Rank) {
        match self {
            Self::Empty => debug_assert!(false, "the contender is in the tree"),
            Self::One(_) => *self = Self::Empty,
            Self::Many(blocks) => {
                blocks.remove(rank);
                if let Some(last) = blocks.only() {
                    *self = Self::One(last);
                }
            }
        }
    }

    /// A contender's buckets have changed.
    pub(crate) fn set_span(&mut self, rank: Rank, span: Span) {
        match self {
            Self::Empty => debug_assert!(false, "the contender is in the tree"),
            Self::One(contender) => contender.span = span,
            Self::Many(blocks) => blocks.set_span(rank, span),
        }
    }

    /// A contender has had more, or less.
    pub(crate) fn move_to(&mut self, old: Rank, new: Rank) {
        match self {
            Self::Empty => debug_assert!(false, "the contender is in the tree"),
            Self::One(contender) => contender.rank = new,
            Self::Many(blocks) => blocks.move_to(old, new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::seeded;
    use proptest::prelude::*;

    fn expected(all: &[(Rank, u32, Span)], opening: Opening) -> Option<(Rank, u32)> {
        let admitted = all.iter().filter(|(_, _, span)| opening.admits(*span));
        admitted.map(|&(rank, id, _)| (rank, id)).min()
    }

    seeded! {
        /// Whatever is inserted, moved and removed, the first is the one that a scan of all finds.
        #[test]
        fn first_is_what_a_scan_finds(
            steps in prop::collection::vec((0..3_u8, any::<usize>(), 0..20_u64, 0..12_u8, 0..12_u8), 1..200),
            openings in prop::collection::vec((0..13_u8, 0..13_u8), 10),
        ) {
            let mut tree = FairTree::new();
            let mut all: Vec<(Rank, u32, Span)> = Vec::new();
            for (serial, (kind, pick, had, low, high)) in (0..).zip(steps) {
                let span = Span { low: low.min(high), high: low.max(high) };
                if kind == 0 || all.is_empty() {
                    let rank = Rank { had, serial };
                    tree.insert(rank, serial as u32, span);
                    all.push((rank, serial as u32, span));
                } else if kind == 1 {
                    let at = pick % all.len();
                    let (rank, _, _) = all.swap_remove(at);
                    tree.remove(rank);
                } else {
                    let at = pick % all.len();
                    let (rank, id, _) = all[at];
                    let moved = Rank { had, ..rank };
                    tree.move_to(rank, moved);
                    tree.set_span(moved, span);
                    all[at] = (moved, id, span);
                }
                for &(below, from) in &openings {
                    let opening = Opening { below, from };
                    prop_assert_eq!(tree.first(opening), expected(&all, opening));
                }
                prop_assert_eq!(tree.is_empty(), all.is_empty());
            }
        }
    }
    /// The same with so many that there are several sections, on the way up and down again.
    #[test]
    fn thousands() {
        let mut tree = FairTree::new();
        let mut all: Vec<(Rank, u32, Span)> = Vec::new();
        let mut state = 1_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for step in 0..12_000 {
            let is_growing = step < 6_000;
            let middle = 10 + draw(100) as u8;
            let span = Span { low: middle - draw(3) as u8, high: middle + draw(3) as u8 };
            if all.is_empty() || draw(4) < if is_growing { 3 } else { 1 } {
                let rank = Rank { had: draw(1_000), serial: step };
                tree.insert(rank, step as u32, span);
                all.push((rank, step as u32, span));
            } else {
                let at = draw(all.len() as u64) as usize;
                let (rank, id, _) = all.swap_remove(at);
                if is_growing {
                    let moved = Rank { had: rank.had + draw(500), ..rank };
                    tree.move_to(rank, moved);
                    tree.set_span(moved, span);
                    all.push((moved, id, span));
                } else {
                    tree.remove(rank);
                }
            }
            if step % 100 == 0 {
                for _ in 0..10 {
                    let opening = Opening { below: draw(20) as u8, from: 100 + draw(20) as u8 };
                    assert_eq!(tree.first(opening), expected(&all, opening));
                }
                let cover = all.iter().map(|&(_, _, span)| span).reduce(Span::union);
                assert_eq!(tree.cover(), cover);
            }
        }
    }
}
