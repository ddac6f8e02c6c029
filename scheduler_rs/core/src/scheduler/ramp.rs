//! Rate limits that providers enforce: what turned an attempt away, and how many go there at once after it.

use super::Scheduler;
use crate::{Error, TicketId};

impl Scheduler {
    /// The backend of a ticket in flight has not taken it, because of a rate limit of its own. To be told before its
    /// [`Self::retry`] or finish; the time for which it wants to be left alone is told with [`Self::pause`].
    ///
    /// Where its `ramp` is on, half of the model's prompts that are in flight there now may be in flight at once from now
    /// on, but for what was released before the last such cut; then one more for each round of as many successes.
    pub fn turned_away(&mut self, now_ns: u64, ticket: TicketId) -> Result<(), Error> {
        let slot = self.in_flight_slot(ticket)?;
        self.advance(now_ns);
        if !std::mem::replace(&mut self.attempt_of_mut(slot).turned_away, true) {
            let course = self.tickets.course(slot);
            let model = self.groups[self.tickets[slot].group].key.model;
            self.backends[course.backend as usize].cut_ramp(self.now_ns, model, course.released_ns);
        }
        Ok(())
    }

    pub(super) fn grow_ramp(&mut self, slot: u32) {
        let course = self.tickets.course(slot);
        let model = self.groups[self.tickets[slot].group].key.model;
        self.backends[course.backend as usize].grow_ramp(model, course.released_ns);
    }
}
