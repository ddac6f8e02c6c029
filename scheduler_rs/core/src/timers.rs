//! Deadlines in a binary heap: an owner has at most one live entry, superseded ones are dropped when met or when
//! they are more than half.

use crate::ticket::TicketId;
use crate::{BatchId, TenantId};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Backend(u32),
    Batch(BatchId),
    Group(u32),
    Tenant(TenantId),
    Ticket(TicketId),
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, Owner)>>,
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
        self.stale -= 1;
    }

    pub(crate) fn wants_compaction(&self) -> bool {
        const SMALL: usize = 64;
        self.heap.len() > SMALL && self.stale * 2 > self.heap.len()
    }

    pub(crate) fn compact(&mut self, mut is_live: impl FnMut(u64, Owner) -> bool) {
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        entries.retain(|&Reverse((at_ns, owner))| is_live(at_ns, owner));
        // An owner that went back to a time that it had given up has two entries for it.
        entries.sort_unstable();
        entries.dedup();
        self.heap = entries.into();
        self.stale = 0;
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}
