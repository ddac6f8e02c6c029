//! The long prompts in prefill, and for how much of the time they keep all others out of their backend's long lane.

use super::world::BACKENDS;
use expresslane_scheduler::{Snapshot, TicketId};
use std::collections::VecDeque;

/// The default threshold of the long lane, an edge of buckets.
const LONG_TOKENS: u32 = 16_384;
/// Most long prompts of a backend in prefill, by default.
const SLOTS: u32 = 1;

pub(super) fn is_long(tokens: u32) -> bool {
    tokens > LONG_TOKENS
}

#[derive(Debug, Default)]
pub(super) struct LongLanes {
    in_prefill: VecDeque<TicketId>,
    /// Cycles of all lanes that were counted, and those of them in which the lane was full.
    counted: u64,
    full: u64,
}

impl LongLanes {
    pub(super) fn enter(&mut self, ticket: TicketId) {
        self.in_prefill.push_back(ticket);
    }

    /// The one whose first token comes next.
    pub(super) fn leave(&mut self) -> Option<TicketId> {
        self.in_prefill.pop_front()
    }

    /// Counts a cycle. A lane with a prompt in it is full.
    pub(super) fn count(&mut self) {
        self.counted += u64::from(BACKENDS);
        self.full += self.in_prefill.len() as u64;
    }

    pub(super) fn count_anew(&mut self) {
        (self.counted, self.full) = (0, 0);
    }

    /// The share of the counted time in which a lane was full, a mean over the lanes.
    pub(super) fn full_share(&self) -> f64 {
        self.full as f64 / self.counted.max(1) as f64
    }

    /// Panics where the core sees its lanes in another way.
    pub(super) fn compare(&self, core: &Snapshot) {
        let full = core.backends.iter().map(|backend| {
            assert_eq!(backend.long_slots, SLOTS);
            assert!(backend.long_in_prefill <= SLOTS);
            backend.long_in_prefill as usize
        });
        assert_eq!(full.sum::<usize>(), self.in_prefill.len(), "the core's long lanes are as they are here");
    }

    pub(super) fn own_bytes(&self) -> usize {
        self.in_prefill.capacity() * size_of::<TicketId>()
    }
}
