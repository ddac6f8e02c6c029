//! Moving on: the attempt after a failed one goes to another backend, as long as there is one that is open; and of a
//! model that a backend refuses, all attempts do.

use super::Scheduler;
use crate::backend::ModelSlot;
use crate::group::{Group, Route};
use crate::{BackendId, Error, ModelId, TicketId};

impl Scheduler {
    /// A failure of its backend has ended the attempt; the next goes elsewhere, as long as another backend of the model
    /// is open: available, its breaker closed, the model not paused or to be avoided there, nor its provider's limits used
    /// up. A busy one is waited for. To be followed by [`Self::retry`].
    ///
    /// Unlike what `retry` excludes it holds for one attempt, and only while there is somewhere else to go: a ticket
    /// never waits for a backend that is down while the one that failed it may have recovered.
    pub fn move_on(&mut self, now_ns: u64, ticket: TicketId) -> Result<(), Error> {
        let slot = self.in_flight_slot(ticket)?;
        self.advance(now_ns);
        self.attempt_of_mut(slot).moves = true;
        Ok(())
    }

    /// A backend has said of its own that it runs nothing of a model: before `until_ns` prompts of the model go there only
    /// where no other backend that they may go to is up and not to be avoided too. One that is up is waited for, busy,
    /// paused or at its limits.
    ///
    /// The later of two times counts; an earlier time than now lifts it. An unknown backend or model is ignored.
    pub fn avoid(&mut self, now_ns: u64, backend: BackendId, model: ModelId, until_ns: u64) {
        self.advance(now_ns);
        let Some(&slot) = self.backends_by_id.get(&backend) else { return };
        self.has_limits = true;
        let (now_ns, backend) = (self.now_ns, &mut self.backends[slot as usize]);
        if let Ok(at) = backend.models.binary_search_by_key(&model, |slot| slot.model) {
            let slot = &mut backend.models[at];
            slot.avoided_until_ns = if until_ns <= now_ns { 0 } else { slot.avoided_until_ns.max(until_ns) };
        }
        backend.refresh_avoided(now_ns);
    }

    /// The backend of a ticket in flight has run nothing of it and never will. To be told before its [`Self::retry`],
    /// which then costs its tenant's retry budget nothing, if it excludes that backend: so each is met once.
    pub fn not_run(&mut self, now_ns: u64, ticket: TicketId) -> Result<(), Error> {
        let slot = self.in_flight_slot(ticket)?;
        self.advance(now_ns);
        self.attempt_of_mut(slot).not_run = true;
        Ok(())
    }

    /// Whether the group's tickets may take this route of theirs now.
    #[inline]
    pub(super) fn may_go(&self, group: &Group, route: Route) -> bool {
        let is_plain = group.key.avoided.is_none() && !self.backends[route.backend as usize].is_avoided;
        is_plain || self.may_go_for_now(group, route)
    }

    /// The same where the prompt or its model may be better off elsewhere.
    #[cold]
    fn may_go_for_now(&self, group: &Group, route: Route) -> bool {
        let backend = &self.backends[route.backend as usize];
        let is_refusing = backend.is_avoided && backend.models[route.model_slot as usize].is_avoided();
        let has_failed = group.key.avoided == Some(backend.id);
        // What is refused waits for a pause or a limit elsewhere: it has an end.
        !(has_failed && self.has_other(group, route, |slot| !slot.is_paused())
            || is_refusing && self.has_other(group, route, |_| true))
    }

    /// Whether another of its backends is up, does not refuse its model and meets the condition for it.
    fn has_other(&self, group: &Group, route: Route, condition: impl Fn(&ModelSlot) -> bool) -> bool {
        group.routes.iter().filter(|other| other.backend != route.backend).any(|other| {
            let backend = &self.backends[other.backend as usize];
            let slot = &backend.models[other.model_slot as usize];
            backend.is_up() && !slot.is_avoided() && condition(slot)
        })
    }
}
