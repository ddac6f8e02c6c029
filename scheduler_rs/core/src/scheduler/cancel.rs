//! Cancelling: what waits ends at once, what is in flight is named for the caller to abort.

use super::Scheduler;
use crate::{BatchId, Cancelled, Outcome, TicketId};

impl Scheduler {
    /// Cancels one ticket; a ticket that has ended gives an empty result.
    pub fn cancel(&mut self, now_ns: u64, ticket: TicketId) -> Cancelled {
        self.advance(now_ns);
        let mut cancelled = Cancelled::default();
        if let Some(slot) = self.tickets.find(ticket) {
            self.cancel_slot(slot, &mut cancelled);
        }
        cancelled
    }

    /// Cancels all tickets of a batch; an unknown batch gives an empty result.
    pub fn cancel_batch(&mut self, now_ns: u64, batch: BatchId) -> Cancelled {
        self.advance(now_ns);
        self.batches.clear_early_horizon(batch);
        let mut cancelled = Cancelled::default();
        if let Some(batch) = self.batches.find(batch) {
            for slot in self.batches[batch].unfinished(&self.tickets) {
                self.cancel_slot(slot, &mut cancelled);
            }
        }
        cancelled
    }

    fn cancel_slot(&mut self, slot: u32, cancelled: &mut Cancelled) {
        let ticket = &self.tickets[slot];
        if ticket.is_queued() {
            cancelled.removed.push(ticket.id);
            self.end_queued(slot, Outcome::Cancelled);
        } else {
            cancelled.in_flight.push(ticket.id);
            self.attempt_of_mut(slot).cancelled = true;
        }
    }
}
