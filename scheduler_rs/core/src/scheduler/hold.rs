//! Horizons: a batch whose reader is slow, or that delivers in order, releases only prompts below a number.

use super::Scheduler;
use super::choose::Candidate;
use crate::BatchId;
use crate::queue::BucketKey;
use crate::ticket::Place;

impl Scheduler {
    /// Releases only the batch's prompts numbered below `horizon`; the batch's queue timeout restarts when it moves.
    ///
    /// It counts until the batch has no tickets left; before the first submit it counts from then on (this is
    /// remembered for 1,024 batches).
    pub fn hold_batch(&mut self, now_ns: u64, batch: BatchId, horizon: u32) {
        self.advance(now_ns);
        let Some(slot) = self.batches.find(batch) else {
            self.batches.set_early_horizon(batch, horizon);
            return;
        };
        self.set_horizon(slot, horizon);
    }

    /// Lifts the horizon.
    pub fn release_batch(&mut self, now_ns: u64, batch: BatchId) {
        self.advance(now_ns);
        self.batches.clear_early_horizon(batch);
        if let Some(slot) = self.batches.find(batch) {
            self.set_horizon(slot, u32::MAX);
        }
    }

    fn set_horizon(&mut self, slot: u32, horizon: u32) {
        let batch = &mut self.batches[slot];
        if batch.horizon != horizon {
            // The reader is alive: its prompts have waited for it, not for the queue.
            batch.restart(self.now_ns);
        }
        batch.horizon = horizon;
        self.batches.note_horizon(horizon);
        let batch = &mut self.batches[slot];
        let still_held = batch.held.split_off(&(horizon, 0));
        let back = std::mem::replace(&mut batch.held, still_held);
        self.counters.held -= back.len() as u32;
        for (_, ticket) in back {
            self.return_to_bucket(ticket);
        }
        // What its limits close the tenant for may be held now.
        self.flows.reconsider.insert(self.batches[slot].tenant);
    }

    /// Whether the head is only waiting to be moved to its batch.
    pub(super) fn is_beyond_horizon(&self, head: &Candidate) -> bool {
        let ticket = &self.tickets[head.ticket.slot()];
        self.batches.has_horizons() && ticket.index >= self.batches[ticket.batch].horizon
    }

    /// Moves held tickets from the head of a bucket to their batches; returns whether there were any.
    ///
    /// A hold is constant work: its tickets are looked at only when they would be next.
    pub(super) fn park_held(&mut self, flow: u32, group: u32, key: BucketKey) -> bool {
        let mut any = false;
        if !self.batches.has_horizons() {
            return any;
        }
        let head = |this: &Self| Some(this.flows.flow(flow).queue(group)?.find(key)?.head.slot());
        while let Some(slot) = head(self) {
            let ticket = &self.tickets[slot];
            let (batch, index) = (ticket.batch, ticket.index);
            if index < self.batches[batch].horizon {
                break;
            }
            self.leave_backlog(slot, false);
            self.flows.take(&mut self.groups, &mut self.tickets, slot, false);
            self.tickets[slot].place = Place::Held;
            self.batches[batch].held.insert((index, slot));
            self.counters.held += 1;
            any = true;
        }
        any
    }
}
