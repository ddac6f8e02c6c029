//! Learning from attempts that ended: prefill and decode times, and how far the estimates were off.

use super::Scheduler;
use crate::groups::lines;
use crate::ticket::NEVER;
use crate::{Outcome, RatioName, Usage};

impl Scheduler {
    /// Notes what the end of an attempt tells about its backend, before it is given back.
    ///
    /// A prefill is learned from when it was alone in prefill. Others may have been in decode beside it, and cost it
    /// what they cost every prompt of this backend: a busy one is never empty, so nothing could be learned there of
    /// prompts that have it for themselves. It is measured in tokens that were really not cached, where the usage
    /// tells; therefore at the end and not at the first token. Only answers that came to their end tell how long
    /// decoding takes.
    pub(super) fn learn(&mut self, slot: u32, outcome: Outcome, usage: Option<Usage>) {
        let ticket = &self.tickets[slot];
        let course = self.tickets.course(slot);
        let backend = &mut self.backends[course.backend as usize];
        let ratios = &mut backend.counters.ratios;
        if let Some(usage) = usage {
            let (estimated, actual) = (f64::from(ticket.tokens), f64::from(usage.uncached_input_tokens));
            ratios.record(RatioName::InputTokens, ticket.class, estimated, actual);
        }
        let attempt = &course.attempt;
        if attempt.first_token_ns == NEVER {
            return;
        }
        if attempt.was_alone {
            let took_ns = attempt.first_token_ns - course.released_ns;
            let tokens = usage.map_or(ticket.tokens, |usage| usage.uncached_input_tokens);
            let predicted_ns = backend.estimates.in_force().prefill.at(f64::from(tokens));
            ratios.record(RatioName::Prefill, ticket.class, predicted_ns, took_ns as f64);
            backend.estimates.add_prefill(tokens, took_ns);
        }
        if outcome == Outcome::Success {
            backend.estimates.add_decode(self.now_ns - attempt.first_token_ns);
        }
        if backend.estimates.is_due(self.now_ns) && backend.refresh_estimates(self.now_ns) {
            let backend = course.backend;
            self.score_anew(backend);
        }
    }

    /// New scores for the models of a backend whose estimates moved, also where the backend itself is excluded.
    fn score_anew(&mut self, backend: u32) {
        for slot in self.groups.slots() {
            let (model, policy) = (self.groups[slot].key.model, self.groups[slot].policy);
            if self.backends[backend as usize].serves(model).is_some() {
                let service = self.fastest(model);
                self.groups[slot].set_lines(policy, lines(policy, service.as_ref()));
            }
        }
    }
}
