//! Rate limits and pauses of backends: which is closed, until when, and who is told.

use super::Scheduler;
use crate::ticket::NEVER;
use crate::timers::Owner;
use crate::{BackendId, Decisions, Error, Holder, LimitKind, Limited, ModelId, Prompt};

impl Scheduler {
    /// Releases nothing to a backend, or to one model of it, before `until_ns` (what a Retry-After asks for).
    ///
    /// The later of two pauses counts; an earlier time than now lifts it. An unknown backend or model is ignored.
    pub fn pause(&mut self, now_ns: u64, backend: BackendId, model: Option<ModelId>, until_ns: u64) {
        self.advance(now_ns);
        let Some(&slot) = self.backends_by_id.get(&backend) else { return };
        self.has_limits = true;
        let now_ns = self.now_ns;
        for of_model in &mut self.backends[slot as usize].models {
            if model.is_none_or(|model| of_model.model == model) {
                let is_lifted = until_ns <= now_ns;
                of_model.paused_until_ns = if is_lifted { 0 } else { of_model.paused_until_ns.max(until_ns) };
            }
        }
        self.backends[slot as usize].refresh_pauses(now_ns);
        if let Some((_, until_ns)) = self.backends[slot as usize].closed() {
            self.arm_backend(slot, until_ns);
        }
    }

    /// A prompt that no backend of its model could ever take is refused before it waits.
    pub(super) fn check_limits(&self, prompt: &Prompt) -> Result<(), Error> {
        if !self.limits_tokens {
            return Ok(());
        }
        let serving = self.backends.iter().filter(|backend| backend.serves(prompt.model).is_some());
        let tokens = prompt.limited_tokens();
        let mut largest = None;
        for backend in serving {
            match backend.config.tokens_per_min {
                0 => return Ok(()),
                limit => largest = largest.max(Some(limit)),
            }
        }
        match largest {
            Some(limit) if tokens > limit => Err(Error::AboveLimit { tokens, limit, tenant: None }),
            _ => Ok(()),
        }
    }

    /// At the start of a poll: opens what is closed by limits; who is first there closes it again or goes.
    pub(super) fn refresh_limits(&mut self) {
        for backend in self.backends.iter_mut().filter(|backend| backend.is_limited()) {
            backend.refresh_limits(self.now_ns);
        }
    }

    /// Sets timers for what is closed while anything waits, and tells what has not been told.
    pub(super) fn report_limits(&mut self, out: &mut Decisions) {
        if self.counters.queued == 0 {
            return;
        }
        for slot in 0..self.backends.len() {
            if self.backends[slot].is_spent {
                self.report_spent(slot as u32, out);
            }
            if let Some(until_ns) = self.backends[slot].avoided_until_ns()
                && self.waits_for(slot as u32)
            {
                self.arm_backend(slot as u32, until_ns);
            }
            let closed = self.backends[slot].closed();
            // While probes are out, their end is what is waited for.
            let closed = closed.filter(|&(_, until_ns)| until_ns < NEVER);
            let Some(closed) = closed else { continue };
            let backend = &self.backends[slot];
            let is_told = backend.limits.reported.is_told(self.now_ns, closed.0);
            let is_noted = backend.timer_ns <= closed.1 && is_told;
            if is_noted || !self.waits_for(slot as u32) {
                continue;
            }
            let backend = &mut self.backends[slot];
            if let Some((kind, reset_at_ns)) = backend.limits.reported.news(self.now_ns, closed) {
                out.limited.push(Limited { holder: Holder::Backend(backend.id), kind, reset_at_ns });
            }
            self.arm_backend(slot as u32, closed.1);
        }
    }

    fn waits_for(&self, backend: u32) -> bool {
        let mut groups = self.groups.iter().filter(|(_, group)| group.queued > 0);
        groups.any(|(_, group)| group.routes.iter().any(|route| route.backend == backend))
    }

    pub(super) fn arm_backend(&mut self, slot: u32, due_ns: u64) {
        let backend = &mut self.backends[slot as usize];
        if due_ns > self.now_ns {
            self.timers.arm(&mut backend.timer_ns, due_ns, Owner::Backend(slot));
        }
    }

    /// What the attempt really used takes the place of its estimate in the window.
    pub(super) fn settle_limits(&mut self, slot: u32, used_tokens: u64) {
        let (ticket, course) = (&self.tickets[slot], self.tickets.course(slot));
        let (attempt, backend) = (&course.attempt, &mut self.backends[course.backend as usize]);
        let tokens = &mut backend.limits.tokens;
        tokens.settle(attempt.counted_in, course.released_ns, ticket.limited_tokens(), used_tokens);
        let model = self.groups[ticket.group].key.model;
        backend.settle_told(model, attempt.given, ticket.limited_tokens(), used_tokens);
    }
}

impl LimitKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Requests, Self::Tokens, Self::Pause, Self::Breaker, Self::RequestsLeft, Self::TokensLeft];

    /// The name in metrics and across the language boundary.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_min",
            Self::Tokens => "tokens_per_min",
            Self::Pause => "pause",
            Self::Breaker => "breaker",
            Self::RequestsLeft => "requests_left",
            Self::TokensLeft => "tokens_left",
        }
    }
}
