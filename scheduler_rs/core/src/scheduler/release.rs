//! Releasing: as long as some backend can take some head, the best one goes to the best backend.

use super::Scheduler;
use super::choose::Candidate;
use crate::attempt::Attempt;
use crate::fairness::charge;
use crate::group::Route;
use crate::ticket::{Place, due_ns};
use crate::timers::Owner;
use crate::{CLASSES, Decisions, Dispatch, HistogramName};

/// As many as most polls release: memory for one at once, without growing.
const DISPATCHES: usize = 4;

impl Scheduler {
    pub(super) fn release(&mut self, out: &mut Decisions) {
        self.made_room.clear();
        while self.has_global_slot() {
            let Some(best) = self.choose_loaded() else { return };
            let Some((chosen, turn)) = self.promote(best) else { continue };
            if self.park_held(chosen.flow, chosen.group, chosen.key) {
                continue;
            }
            if !self.tenant_admits(&chosen) {
                continue;
            }
            let Some(route) = self.bind(&chosen) else { continue };
            let passed = self.count_bypass(&chosen, route.backend);
            self.settle_turn(&chosen, turn);
            self.settle_class_shares(&chosen);
            if out.dispatches.capacity() == 0 {
                out.dispatches = Vec::with_capacity(DISPATCHES);
            }
            out.dispatches.push(self.dispatch(chosen.ticket.slot(), route));
            self.made_room.clear();
            for ticket in passed {
                self.reserve(ticket, false);
            }
            if self.limits_tokens || self.tells_tokens {
                self.reopen_after(&chosen, route);
            }
        }
    }

    /// The choice once it is settled which models are open, and for whom room stays kept. What one backend opens depends on
    /// what the others have open, so where nothing can go they are looked at again, until nothing changes: the next poll
    /// would find what is left.
    fn choose_loaded(&mut self) -> Option<Candidate> {
        for _ in 0..=self.backends.len() {
            let has_changed = self.refresh_loaded() | self.drop_vain_reservations();
            let best = self.choose();
            if best.is_some() || !has_changed {
                return best;
            }
        }
        None
    }

    fn has_global_slot(&self) -> bool {
        let limit = self.config.in_flight_limit;
        self.counters.queued > 0 && (limit == 0 || self.counters.in_flight < limit)
    }

    /// Late binding: the backend with the least predicted time to first token, a load of the model included, then the
    /// emptiest, then by id. None when its limits close every backend that could take it: then all must be looked at
    /// again.
    fn bind(&mut self, chosen: &Candidate) -> Option<Route> {
        let routes = self.groups[chosen.group].routes.iter().copied();
        let feasible = routes.filter(|&route| self.takes(route, chosen));
        if self.limits_tokens || self.tells_tokens {
            let open = self.within_limits(feasible.collect(), chosen);
            return self.least_ttft(open.into_iter(), chosen);
        }
        let best = self.least_ttft(feasible, chosen);
        assert!(best.is_some(), "an open bucket has a backend that takes it");
        best
    }

    fn least_ttft(&self, routes: impl Iterator<Item = Route>, chosen: &Candidate) -> Option<Route> {
        let charge = crate::token_buckets::edge(chosen.bucket());
        let ttft_ns = |route: &Route| {
            let backend = &self.backends[route.backend as usize];
            let load_ns = if self.limits_models { backend.load_ns(route.model_slot) } else { 0.0 };
            backend.predicted_ttft_ns(charge) + load_ns
        };
        let fullness = |route: &Route| self.backends[route.backend as usize].in_flight_ratio();
        routes.min_by(|a, b| {
            let by_ttft = ttft_ns(a).total_cmp(&ttft_ns(b));
            by_ttft.then_with(|| fullness(a).total_cmp(&fullness(b)))
        })
    }

    /// Classes below the chosen one that could have gone are owed their share; one that went before its turn pays.
    fn settle_class_shares(&mut self, chosen: &Candidate) {
        if !self.class_shares.has_any() {
            return;
        }
        let ticket = &self.tickets[chosen.ticket.slot()];
        let tokens = charge(ticket.tokens, ticket.output_tokens);
        if self.class_shares.is_owed(chosen.class) {
            self.class_shares.repaid(chosen.class, tokens);
        }
        let most = self.most_open();
        for class in chosen.class + 1..CLASSES as u8 {
            if self.class_shares.has_share(class) && self.choose_in(class, most).is_some() {
                self.class_shares.passed_over(class, tokens);
            }
        }
    }

    fn dispatch(&mut self, slot: u32, route: Route) -> Dispatch {
        let now_ns = self.now_ns;
        if self.config.retry_ratio > 0.0 && self.tickets.course(slot).attempts == 0 {
            let tenant = self.tenant_of(slot);
            self.retry_budgets.first_attempt(tenant, self.config.retry_ratio);
        }
        self.take_queued(slot, true);
        self.charge_flow(slot);
        self.charge_tenant(slot);
        let (ticket, course) = self.tickets.with_course(slot);
        let backend = &mut self.backends[route.backend as usize];
        let own = (ticket.flow, ticket.group, ticket.bucket());
        let fulfilled = backend.reservation.is_some_and(|kept| (kept.flow, kept.group, kept.bucket) == own);
        ticket.place = Place::InFlight;
        course.backend = route.backend;
        course.attempts += 1;
        course.bypassed = 0;
        course.released_ns = now_ns;
        course.attempt = Attempt {
            counted_in: backend.limits.tokens.log(),
            first_token_due_ns: due_ns(now_ns, backend.config.first_token_timeout_ns),
            due_ns: due_ns(now_ns, backend.config.attempt_timeout_ns),
            ..Attempt::NEW
        };
        backend.charge_limits(now_ns, route.model_slot, ticket);
        course.attempt.given = backend.give(now_ns, route.model_slot, ticket.limited_tokens());
        if let Some(due_ns) = backend.probes_due_ns() {
            self.timers.arm(&mut backend.timer_ns, due_ns, Owner::Backend(route.backend));
        }
        backend.note_loaded(route.model_slot, ticket);
        backend.take_slot(route.model_slot, now_ns);
        course.attempt.lane = Some(backend.take_lane(ticket));
        backend.counters.dispatched += 1;
        self.counters.in_flight += 1;
        let queue_wait_ns = now_ns - ticket.arrival_ns - course.busy_ns;
        if course.attempts == 1 {
            backend.counters.histograms.record(HistogramName::QueueWait, ticket.class, queue_wait_ns);
        }
        let dispatch = Dispatch {
            ticket: ticket.id,
            backend: backend.id,
            prefill_tokens: ticket.tokens,
            is_final: true,
            attempt: course.attempts,
            queue_wait_ns,
        };
        if fulfilled {
            self.clear_reservation(route.backend);
        }
        self.arm_released(slot, route.backend);
        dispatch
    }
}
