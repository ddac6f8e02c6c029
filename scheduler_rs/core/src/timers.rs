//! Deadlines in a binary heap: an owner has at most one time that counts, superseded entries are dropped when met or
//! when they are about half. A slot that is used again may make an old entry good once more: then it is met early, or
//! twice, and the second time nothing is due.

use crate::ticket::TicketId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Backend(u32),
    Batch(u32),
    Group(u32),
    Ticket(TicketId),
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, Owner)>>,
    /// About how many entries are superseded: never more than there are.
    stale: usize,
}

impl Timers {
    pub(crate) fn push(&mut self, at_ns: u64, owner: Owner) {
        self.heap.push(Reverse((at_ns, owner)));
    }

    /// The owner of an entry no longer waits for it.
    pub(crate) fn note_stale(&mut self) {
        self.stale += 1;
    }

    pub(crate) fn peek(&self) -> Option<(u64, Owner)> {
        self.heap.peek().map(|&Reverse(entry)| entry)
    }

    pub(crate) fn pop_live(&mut self) {
        self.heap.pop();
    }

    pub(crate) fn pop_stale(&mut self) {
        self.heap.pop();
        self.stale = self.stale.saturating_sub(1);
    }

    pub(crate) fn wants_compaction(&self) -> bool {
        const SMALL: usize = 64;
        self.heap.len() > SMALL && self.stale * 2 > self.heap.len()
    }

    pub(crate) fn compact(&mut self, mut is_live: impl FnMut(u64, Owner) -> bool) {
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        entries.retain(|&Reverse((at_ns, owner))| is_live(at_ns, owner));
        self.heap = entries.into();
        self.stale = 0;
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}
