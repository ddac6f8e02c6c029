//! Barriers: a sequential prompt starts when all earlier ones of its batch have ended, and later ones wait for its end.

use super::Scheduler;
use crate::ticket::Place;

impl Scheduler {
    /// Whether a ticket that was just submitted must wait for earlier ones of its batch.
    pub(super) fn is_barred(&self, slot: u32) -> bool {
        let ticket = &self.tickets[slot];
        let batch = &self.batches[ticket.batch];
        let is_alone = batch.len == 1;
        !is_alone && (ticket.sequential || batch.runs_sequential || !batch.barred.is_empty())
    }

    pub(super) fn bar(&mut self, slot: u32) {
        let (id, batch) = (self.tickets[slot].id, self.tickets[slot].batch);
        self.tickets[slot].place = Place::Barred;
        self.batches[batch].barred.insert(id);
    }

    /// A ticket of the batch has ended: those follow that nothing before them keeps back any more.
    pub(super) fn lift_barrier(&mut self, batch_slot: u32) {
        while let Some(&id) = self.batches[batch_slot].barred.first() {
            let is_sequential = self.tickets[id.slot()].sequential;
            let batch = &mut self.batches[batch_slot];
            let some_run = batch.len as usize > batch.barred.len();
            if some_run && (is_sequential || batch.runs_sequential) {
                return;
            }
            batch.barred.pop_first();
            batch.runs_sequential = is_sequential;
            self.return_to_bucket(id.slot());
        }
    }
}
