//! Contenders in the order of what they have had, each with the span of its buckets: the first that an opening lets
//! in is found in logarithmic time, however many before it are kept back.

use crate::opening::{Opening, Span};
use crate::ticket::NONE;

/// Who has had less goes first, then who has just come, then who began to wait first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// Virtual tokens.
    pub(crate) had: u64,
    /// Of no other contender in the tree.
    pub(crate) serial: u64,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    rank: Rank,
    id: u32,
    priority: u32,
    below: [u32; 2],
    span: Span,
    /// Of the whole subtree.
    cover: Span,
}

/// A treap whose priorities come from the serial numbers: the same calls build the same tree.
#[derive(Debug)]
pub(crate) struct FairTree {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
}

const LESS: usize = 0;
const MORE: usize = 1;

impl FairTree {
    pub(crate) const fn new() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: NONE }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.root == NONE
    }

    /// The span of all contenders together; the tree is not empty.
    pub(crate) fn cover(&self) -> Span {
        self.nodes[self.root as usize].cover
    }

    /// The first contender with a bucket in the opening.
    pub(crate) fn first(&self, opening: Opening) -> Option<(Rank, u32)> {
        let admits = |node: u32| node != NONE && opening.admits(self.nodes[node as usize].cover);
        let mut at = self.root;
        if !admits(at) {
            return None;
        }
        loop {
            let node = &self.nodes[at as usize];
            if admits(node.below[LESS]) {
                at = node.below[LESS];
            } else if opening.admits(node.span) {
                return Some((node.rank, node.id));
            } else {
                at = node.below[MORE];
            }
        }
    }

    pub(crate) fn insert(&mut self, rank: Rank, id: u32, span: Span) {
        let node = Node { rank, id, priority: priority(rank), below: [NONE; 2], span, cover: span };
        let new = if let Some(at) = self.free.pop() {
            self.nodes[at as usize] = node;
            at
        } else {
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        };
        self.root = self.insert_below(self.root, new);
    }

    pub(crate) fn remove(&mut self, rank: Rank) {
        self.root = self.remove_below(self.root, rank);
        if self.root == NONE {
            *self = Self::new();
        }
    }

    /// A contender's buckets have changed.
    pub(crate) fn set_span(&mut self, rank: Rank, span: Span) {
        self.set_span_below(self.root, rank, span);
    }

    /// A contender has had more, or less.
    pub(crate) fn move_to(&mut self, old: Rank, new: Rank, id: u32, span: Span) {
        if self.nodes.len() - self.free.len() == 1 {
            self.nodes[self.root as usize].rank = new;
            return;
        }
        self.remove(old);
        self.insert(new, id, span);
    }

    fn insert_below(&mut self, at: u32, new: u32) -> u32 {
        if at == NONE {
            return new;
        }
        let (rank, priority) = (self.nodes[at as usize].rank, self.nodes[at as usize].priority);
        let (new_rank, new_priority) = (self.nodes[new as usize].rank, self.nodes[new as usize].priority);
        if new_priority > priority {
            let below = self.split(at, new_rank);
            self.nodes[new as usize].below = below;
            self.refresh(new);
            return new;
        }
        let side = usize::from(new_rank > rank);
        let below = self.insert_below(self.nodes[at as usize].below[side], new);
        self.nodes[at as usize].below[side] = below;
        self.refresh(at);
        at
    }

    fn remove_below(&mut self, at: u32, rank: Rank) -> u32 {
        debug_assert_ne!(at, NONE, "the contender is in the tree");
        let node = self.nodes[at as usize];
        if node.rank == rank {
            self.free.push(at);
            return self.merge(node.below[LESS], node.below[MORE]);
        }
        let side = usize::from(rank > node.rank);
        let below = self.remove_below(node.below[side], rank);
        self.nodes[at as usize].below[side] = below;
        self.refresh(at);
        at
    }

    fn set_span_below(&mut self, at: u32, rank: Rank, span: Span) {
        debug_assert_ne!(at, NONE, "the contender is in the tree");
        let node = &mut self.nodes[at as usize];
        if node.rank == rank {
            node.span = span;
        } else {
            let side = node.below[usize::from(rank > node.rank)];
            self.set_span_below(side, rank, span);
        }
        self.refresh(at);
    }

    /// What ranks before and after `rank`.
    fn split(&mut self, at: u32, rank: Rank) -> [u32; 2] {
        if at == NONE {
            return [NONE; 2];
        }
        let side = usize::from(rank > self.nodes[at as usize].rank);
        let mut parts = self.split(self.nodes[at as usize].below[side], rank);
        self.nodes[at as usize].below[side] = parts[1 - side];
        self.refresh(at);
        parts[1 - side] = at;
        parts
    }

    fn merge(&mut self, less: u32, more: u32) -> u32 {
        if less == NONE || more == NONE {
            return if less == NONE { more } else { less };
        }
        let (a, b) = (self.nodes[less as usize], self.nodes[more as usize]);
        let top = if a.priority > b.priority {
            self.nodes[less as usize].below[MORE] = self.merge(a.below[MORE], more);
            less
        } else {
            self.nodes[more as usize].below[LESS] = self.merge(less, b.below[LESS]);
            more
        };
        self.refresh(top);
        top
    }

    fn refresh(&mut self, at: u32) {
        let node = self.nodes[at as usize];
        let mut cover = node.span;
        for below in node.below {
            if below != NONE {
                cover = cover.union(self.nodes[below as usize].cover);
            }
        }
        self.nodes[at as usize].cover = cover;
    }
}

/// `SplitMix64` of the serial number.
fn priority(rank: Rank) -> u32 {
    let mut z = rank.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expected(all: &[(Rank, u32, Span)], opening: Opening) -> Option<(Rank, u32)> {
        let admitted = all.iter().filter(|(_, _, span)| opening.admits(*span));
        admitted.map(|&(rank, id, _)| (rank, id)).min()
    }

    proptest! {
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
                    let (rank, id, old) = all[at];
                    let moved = Rank { had, ..rank };
                    tree.move_to(rank, moved, id, old);
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
}
