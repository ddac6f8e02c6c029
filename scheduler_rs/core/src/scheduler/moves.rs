//! Moving on: the attempt after a failed one goes to another backend, as long as there is one that is open.

use super::Scheduler;
use crate::group::{Group, Route};
use crate::{Error, TicketId};

impl Scheduler {
    /// A failure of its backend has ended the attempt; the next goes elsewhere, as long as another backend of the model
    /// is open: available, its breaker closed, the model not paused there, nor its provider's limits used up. A busy one
    /// is waited for. To be followed by [`Self::retry`].
    ///
    /// Unlike what `retry` excludes it holds for one attempt, and only while there is somewhere else to go: a ticket
    /// never waits for a backend that is down while the one that failed it may have recovered.
    pub fn move_on(&mut self, now_ns: u64, ticket: TicketId) -> Result<(), Error> {
        let slot = self.in_flight_slot(ticket)?;
        self.advance(now_ns);
        self.tickets[slot].moves = true;
        Ok(())
    }

    /// Whether the group's tickets may take this route of theirs now.
    #[inline]
    pub(super) fn may_go(&self, group: &Group, route: Route) -> bool {
        group.key.avoided.is_none_or(|avoided| {
            self.backends[route.backend as usize].id != avoided || !self.is_open_elsewhere(group, route)
        })
    }

    fn is_open_elsewhere(&self, group: &Group, route: Route) -> bool {
        group.routes.iter().filter(|other| other.backend != route.backend).any(|other| {
            let backend = &self.backends[other.backend as usize];
            backend.is_up() && !backend.models[other.model_slot as usize].is_paused()
        })
    }
}
