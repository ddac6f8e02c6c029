//! Releasing: as long as some backend can take some head, the best one goes to the best backend.

use super::Scheduler;
use super::choose::Candidate;
use crate::group::Route;
use crate::ticket::{NEVER, Place};
use crate::{Decisions, Dispatch, HistogramName};

impl Scheduler {
    pub(super) fn release(&mut self, out: &mut Decisions) {
        while self.has_global_slot() {
            let Some(best) = self.choose() else { return };
            let Some((chosen, turn)) = self.promote(best) else { continue };
            if self.park_held(chosen.group, chosen.bucket) {
                continue;
            }
            let route = self.bind(&chosen);
            let passed = self.count_bypass(&chosen, route.backend);
            self.settle_turn(&chosen, turn);
            out.dispatches.push(self.dispatch(chosen.ticket.slot(), route));
            for ticket in passed {
                self.reserve(ticket, false);
            }
        }
    }

    fn has_global_slot(&self) -> bool {
        let limit = self.config.in_flight_limit;
        self.counters.queued > 0 && (limit == 0 || self.counters.in_flight < limit)
    }

    /// Late binding: the backend with the least predicted time to first token, then the emptiest, then by id.
    fn bind(&self, chosen: &Candidate) -> Route {
        let group = &self.groups[chosen.group];
        let charge = crate::token_buckets::edge(chosen.bucket);
        let feasible = group.routes.iter().filter(|route| {
            let backend = &self.backends[route.backend as usize];
            backend.has_slot(route.model_slot)
                && backend.open_to(chosen.group, chosen.class).contains(chosen.bucket)
        });
        let best = feasible.min_by(|a, b| {
            let (a, b) = (&self.backends[a.backend as usize], &self.backends[b.backend as usize]);
            let by_ttft = a.predicted_ttft_ns(charge).total_cmp(&b.predicted_ttft_ns(charge));
            by_ttft.then_with(|| a.in_flight_ratio().total_cmp(&b.in_flight_ratio()))
        });
        *best.expect("an open bucket has a backend that takes it")
    }

    fn dispatch(&mut self, slot: u32, route: Route) -> Dispatch {
        let now_ns = self.now_ns;
        self.take_queued(slot);
        let ticket = &mut self.tickets[slot];
        let backend = &mut self.backends[route.backend as usize];
        let fulfils = |group, bucket| group == ticket.group && bucket == ticket.bucket;
        let fulfilled = backend.reservation.is_some_and(|kept| fulfils(kept.group, kept.bucket));
        let due_ns = |timeout_ns| if timeout_ns == 0 { NEVER } else { now_ns.saturating_add(timeout_ns) };
        ticket.place = Place::InFlight;
        ticket.backend = route.backend;
        ticket.attempts += 1;
        ticket.bypassed = 0;
        ticket.released_ns = now_ns;
        ticket.first_token_due_ns = due_ns(backend.config.first_token_timeout_ns);
        ticket.idle_due_ns = NEVER;
        ticket.attempt_due_ns = due_ns(backend.config.attempt_timeout_ns);
        backend.take_slot(route.model_slot, now_ns);
        backend.take_lane(ticket);
        backend.counters.dispatched += 1;
        self.counters.in_flight += 1;
        let queue_wait_ns = now_ns - ticket.arrival_ns - ticket.busy_ns;
        if ticket.attempts == 1 {
            backend.counters.histograms.record(HistogramName::QueueWait, ticket.class, queue_wait_ns);
        }
        let dispatch = Dispatch {
            ticket: ticket.id,
            backend: backend.id,
            prefill_tokens: ticket.tokens,
            is_final: true,
            attempt: ticket.attempts,
            queue_wait_ns,
        };
        if fulfilled {
            self.clear_reservation(route.backend);
        }
        self.arm_ticket(slot);
        dispatch
    }
}
