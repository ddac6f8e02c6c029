//! What keeps work from a backend besides caps and lanes: limits, its breaker, pauses, and models that it refuses.

use super::Backend;
use crate::LimitKind;
use crate::breaker::Breaker;
use crate::ticket::{NEVER, Ticket};

impl Backend {
    /// Whether anything besides caps and lanes may keep work from it.
    pub(crate) fn is_limited(&self) -> bool {
        self.is_paused || self.is_avoided || self.is_spent || self.breaker.is_some() || self.limits.is_on()
    }

    /// Works out anew what keeps work from it besides caps and lanes.
    pub(crate) fn refresh_limits(&mut self, now_ns: u64) {
        self.closings.clear();
        self.refresh_own(now_ns);
        if self.is_paused {
            self.refresh_pauses(now_ns);
        }
        if self.is_avoided {
            self.refresh_avoided(now_ns);
        }
        if self.is_spent {
            self.refresh_told(now_ns);
        }
    }

    /// The same for its limits and its breaker, which close all of it.
    pub(super) fn refresh_own(&mut self, now_ns: u64) {
        self.limits.refresh(now_ns);
        if let Some(breaker) = &mut self.breaker {
            breaker.refresh(now_ns);
            self.shut_if_broken();
        }
    }

    /// Takes over what the breaker says. While probes are out nobody knows until when.
    fn shut_if_broken(&mut self) {
        if let Some(breaker) = self.breaker.as_ref().filter(|breaker| breaker.is_shut()) {
            let until_ns = breaker.half_open_at_ns().unwrap_or(NEVER);
            self.limits.closed = Some((LimitKind::Breaker, until_ns));
        }
    }

    /// A prompt goes there: what it counts for in its limits and its breaker.
    pub(crate) fn charge_limits(&mut self, now_ns: u64, model_slot: u32, ticket: &Ticket) {
        if self.limits.is_on() {
            self.limits.charge(now_ns, ticket.limited_tokens());
        }
        if self.breaker.as_ref().is_some_and(Breaker::is_probing) {
            // To its end: a backend that does not stream gives no sign before.
            let ttft_ns = self.predicted_ttft_ns(ticket.charge()) + self.load_ns(model_slot);
            let expected_ns = ttft_ns + self.estimates.in_force().decode_ns;
            self.breaker.as_mut().expect("it is probing").probe(now_ns, expected_ns);
        } else if let Some(breaker) = &mut self.breaker {
            breaker.released(now_ns);
        }
        self.shut_if_broken();
    }

    /// Ends the pauses that are over.
    pub(crate) fn refresh_pauses(&mut self, now_ns: u64) {
        self.is_paused = false;
        for model in &mut self.models {
            if model.paused_until_ns <= now_ns {
                model.paused_until_ns = 0;
            }
            self.is_paused |= model.paused_until_ns > 0;
        }
    }

    /// Ends what is over of the times for which models go elsewhere.
    pub(crate) fn refresh_avoided(&mut self, now_ns: u64) {
        self.is_avoided = false;
        for model in &mut self.models {
            if model.avoided_until_ns <= now_ns {
                model.avoided_until_ns = 0;
            }
            self.is_avoided |= model.is_avoided();
        }
    }

    /// The first of the times from which a model may come here again whatever else is up.
    pub(crate) fn avoided_until_ns(&self) -> Option<u64> {
        let times = self.models.iter().map(|model| model.avoided_until_ns);
        if self.is_avoided { times.filter(|&until_ns| until_ns > 0).min() } else { None }
    }

    /// What keeps work from it besides caps and lanes, and until when.
    pub(crate) fn closed(&self) -> Option<(LimitKind, u64)> {
        if !self.is_paused {
            return self.limits.closed;
        }
        let paused =
            self.models.iter().map(|model| model.paused_until_ns).filter(|&until_ns| until_ns > 0).min();
        self.limits.closed.or(paused.map(|until_ns| (LimitKind::Pause, until_ns)))
    }
}
