//! What providers say of their own limits: nothing is released beyond what they have left.

use super::Scheduler;
use crate::ticket::NEVER;
use crate::told::Told;
use crate::{CLASSES, Decisions, Error, Holder, Left, LimitKind, Limited, TicketId};

impl Scheduler {
    /// The answer to a ticket in flight says how many requests or tokens its backend has left for its model.
    ///
    /// That is without what was released there after this ticket, which is taken off: requests as they are, tokens by
    /// estimate until a usage is told from now on. From then on nothing of the model is released there while less is left than
    /// the next prompt asks for, which keeps its turn; that is in addition to all other limits. The reset lifts it: then
    /// the whole limit is left, if it was said, until the next answer says more; if nothing is in flight to say it,
    /// everything may go. What is above the whole limit goes alone then.
    ///
    /// Of two answers that of the later released ticket counts; the other one may narrow what is left, never lift it.
    /// Returns what closes the model there by now, and until when, if that is known.
    pub fn told(
        &mut self,
        now_ns: u64,
        ticket: TicketId,
        requests: Option<Left>,
        tokens: Option<Left>,
    ) -> Result<Option<(LimitKind, u64)>, Error> {
        let slot = self.in_flight_slot(ticket)?;
        self.advance(now_ns);
        self.has_limits = true;
        self.tells_tokens |= tokens.is_some();
        let course = self.tickets.course(slot);
        let model = self.groups[self.tickets[slot].group].key.model;
        let backend = &mut self.backends[course.backend as usize];
        let closed = backend.hear(self.now_ns, model, course.attempt.given, requests, tokens);
        Ok(closed.filter(|&(_, until_ns)| until_ns < NEVER))
    }

    /// Sets a timer for each model that is closed while anything waits for it, and tells what has not been told. While
    /// an answer is on its way, that is what is waited for.
    pub(super) fn report_spent(&mut self, at: u32, out: &mut Decisions) {
        for model_slot in 0..self.backends[at as usize].models.len() {
            let spent = self.backends[at as usize].models[model_slot].spent();
            let Some(closed) = spent.filter(|&(_, until_ns)| until_ns < NEVER) else { continue };
            let backend = &self.backends[at as usize];
            let model = &backend.models[model_slot];
            let is_told = |told: &Told| told.reported.is_told(self.now_ns, closed.0);
            let is_noted = backend.timer_ns <= closed.1 && model.told.as_deref().is_some_and(is_told);
            if is_noted || !self.waits_for_model(at, model_slot as u32) {
                continue;
            }
            let holder = Holder::Model(backend.id, model.model);
            let told = self.backends[at as usize].models[model_slot].told.as_mut();
            if let Some((kind, reset_at_ns)) = told.and_then(|told| told.reported.news(self.now_ns, closed)) {
                out.limited.push(Limited { holder, kind, reset_at_ns });
            }
            self.arm_backend(at, closed.1);
        }
    }

    fn waits_for_model(&self, backend: u32, model_slot: u32) -> bool {
        let model = self.backends[backend as usize].models[model_slot as usize].model;
        let mut groups = (0..CLASSES as u8).flat_map(|class| self.groups.of_model(class, model));
        groups.any(|group| group.queued > 0 && group.routes.iter().any(|route| route.backend == backend))
    }
}
