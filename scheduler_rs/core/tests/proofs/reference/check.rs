//! What must hold once a poll has returned: nothing left to do, and every counter as the model counts.

use super::breaker::Breaker;
use super::place::Obstacle;
use super::{Host, Item, Law, Reference, Report, SeenBreaker, Times, WINDOW_SLACK_NS, Where};

/// The scheduler's own counters, in the model's words.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) queued: u32,
    pub(crate) held: u32,
    pub(crate) retry_waiting: u32,
    pub(crate) in_flight: u32,
    pub(crate) queued_tokens: u64,
    pub(crate) queued_by_class: [u32; 3],
    pub(crate) queued_by_model: Vec<(u32, u32)>,
    pub(crate) submitted: u64,
    pub(crate) refused: u64,
    pub(crate) retried: u64,
    /// By [`super::End`].
    pub(crate) ended: [u64; 4],
    pub(crate) backends: Vec<SeenBackend>,
    /// Tenants at a limit, and until when.
    pub(crate) closed_tenants: Vec<(u32, Closed, u64)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SeenBackend {
    pub(crate) backend: u32,
    pub(crate) in_flight: u32,
    pub(crate) in_flight_by_model: Vec<(u32, u32)>,
    pub(crate) cap_by_model: Vec<(u32, u32)>,
    pub(crate) long_in_prefill: u32,
    pub(crate) short_tokens_in_prefill: u64,
    pub(crate) outstanding_prefill_tokens: u64,
    pub(crate) reserved_for: Option<u64>,
    /// What closes it, and until when.
    pub(crate) limited: Option<(Closed, u64)>,
    /// Of which models its provider has too little left, and until when.
    pub(crate) spent: Vec<(u32, Closed, u64)>,
    pub(crate) tokens_in_window: u64,
    pub(crate) long_slots: u32,
    pub(crate) short_budget_tokens: u32,
    /// What predictions go by.
    pub(crate) times: Times,
    /// Whether there were samples enough to go by something else than what was configured.
    pub(crate) has_learned_prefill: bool,
    pub(crate) has_learned_decode: bool,
    pub(crate) breaker: Option<SeenBreaker>,
    pub(crate) loaded_models: Vec<u32>,
    pub(crate) load_ns: f64,
    pub(crate) dispatched: u64,
    pub(crate) attempts_ended: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    Requests,
    Tokens,
    Pause,
    Breaker,
    RequestsLeft,
    TokensLeft,
}

impl Reference {
    /// Takes over what the model does not predict. To be called before [`Reference::poll`], with what was seen before
    /// and after the scheduler's poll.
    pub(crate) fn note_report(&mut self, before: &Seen, after: &Seen, releases: usize) {
        let kept = |seen: &Seen| -> Vec<(u32, u64)> {
            seen.backends.iter().filter_map(|at| Some((at.backend, at.reserved_for?))).collect()
        };
        let mut all = kept(before);
        all.extend(kept(after));
        let is_closed = |at: &&super::check::SeenBackend| matches!(at.limited, Some((Closed::Tokens, _)));
        let closed = after.backends.iter().filter(is_closed).map(|at| at.backend).collect();
        let stopped_tenants = after.closed_tenants.clone();
        let opened = after.backends.iter().filter_map(|at| Some((at.backend, at.breaker?.opened)));
        let opened = opened.collect();
        for at in &after.backends {
            if let Some(host) = self.hosts.iter_mut().find(|host| host.id == at.backend) {
                (host.loaded, host.load_ns) = (at.loaded_models.clone(), at.load_ns);
            }
        }
        self.report = Report { kept: all, closed, stopped_tenants, releases, opened, is_over: false };
    }

    /// To be called after [`Reference::poll`].
    pub(crate) fn check(&mut self, before: &Seen, seen: &Seen, next_deadline_ns: Option<u64>) {
        if self.verdict.is_lost {
            return;
        }
        self.check_limited(seen);
        self.check_closed_tenants(seen);
        self.check_kept(before, seen);
        self.report.kept =
            seen.backends.iter().filter_map(|at| Some((at.backend, at.reserved_for?))).collect();
        self.check_nothing_left();
        self.check_expired();
        self.check_wake(seen, next_deadline_ns);
        self.check_counters(seen);
        for backend in &seen.backends {
            self.check_backend(backend);
        }
    }

    fn check_nothing_left(&mut self) {
        let too_large = self.too_large_for_now();
        let left = self.waiting().find_map(|item| {
            if !self.is_ready(item) {
                return None;
            }
            Some((item, self.certain_host(item, &[], &too_large)?.id))
        });
        let Some((item, backend)) = left else { return };
        let what = format!("ticket {} waits though backend {backend} could take it", item.id);
        let is_behind = |other: &&Item| (other.request.class, other.id) < (item.request.class, item.id);
        let blocked = self.waiting().filter(is_behind).find(|other| {
            self.is_ready(other) && self.hosts.iter().all(|host| !self.obstacles(other, host, 0).is_empty())
        });
        let behind = blocked.map(|head| format!("{what}, behind {} that no backend can take", head.id));
        self.verdict.breach(Law::WorkConservation, self.now_ns, what);
        if let Some(what) = behind {
            self.verdict.breach(Law::NoHeadOfLineBlocking, self.now_ns, what);
        }
    }

    fn check_expired(&mut self) {
        let due = self.waiting().find(|item| self.first_expiry_ns(item) <= self.now_ns).map(|item| item.id);
        if let Some(id) = due {
            self.verdict.breach(Law::OwnConstraints, self.now_ns, format!("ticket {id} should have expired"));
        }
    }

    /// Nothing has to be polled for, and no wake-up is lost.
    fn check_wake(&mut self, seen: &Seen, next_deadline_ns: Option<u64>) {
        let (now_ns, wake_by_ns) = (self.now_ns, self.wake_by_ns());
        let next_ns = next_deadline_ns.unwrap_or(super::NEVER);
        if next_ns <= now_ns {
            self.verdict.breach(
                Law::LimitsAndOrder,
                now_ns,
                format!("asks to be polled again at {next_ns} ns"),
            );
        }
        if next_ns > wake_by_ns {
            let ready = self.waiting().filter(|item| self.is_ready(item));
            let kept_back: Vec<_> = ready
                .flat_map(|item| {
                    self.hosts.iter().map(|host| (item.id, host.id, self.obstacles(item, host, 0)))
                })
                .collect();
            let limited = seen.backends.iter().filter_map(|at| Some((at.backend, at.limited?)));
            let limited: Vec<_> = limited.collect();
            let what = format!(
                "something is due at {wake_by_ns} ns, the next deadline is {next_deadline_ns:?}; closed are \
                 backends {limited:?}, tenants {:?}; (ticket, backend, obstacles): {kept_back:?}",
                seen.closed_tenants
            );
            self.verdict.breach(Law::LimitsAndOrder, now_ns, what);
        }
    }

    /// What a limit closes must really be at its limit, and open at a time to come.
    fn check_limited(&mut self, seen: &Seen) {
        let limited = seen.backends.iter().filter_map(|at| Some((self.host(at.backend)?, at.limited?)));
        let wrong = limited.filter(|(host, limited)| !self.is_limited(host, *limited));
        let wrong: Vec<String> =
            wrong.map(|(host, limited)| format!("backend {} is closed for {limited:?}", host.id)).collect();
        let spent = seen.backends.iter().flat_map(|at| at.spent.iter().map(|&spent| (at.backend, spent)));
        let wrong_words = spent.filter(|&(backend, spent)| !self.is_spent(backend, spent));
        let wrong_words =
            wrong_words.map(|(backend, spent)| format!("backend {backend} has left for {spent:?}"));
        for what in wrong.into_iter().chain(wrong_words.collect::<Vec<_>>()) {
            self.verdict.breach(Law::LimitsAndOrder, self.now_ns, what);
        }
    }

    /// Nothing is left, or too little for some prompt that could otherwise go there.
    fn is_spent(&self, backend: u32, (model, closed, until_ns): (u32, Closed, u64)) -> bool {
        let Some(host) = self.host(backend) else { return false };
        let of = |tokens| {
            let [requests, of_tokens] = host.lacks_until_ns(self.now_ns, model, tokens);
            if closed == Closed::RequestsLeft { requests } else { of_tokens }
        };
        let waits = self.waiting().filter(|item| item.request.model == model && self.is_ready(item));
        let mut all = waits.map(|item| of(item.limited_tokens())).chain([of(0)]);
        until_ns > self.now_ns && all.any(|at_ns| at_ns == Some(until_ns))
    }

    fn is_limited(&self, host: &Host, (closed, until_ns): (Closed, u64)) -> bool {
        let window_ns = super::MINUTE + WINDOW_SLACK_NS;
        until_ns > self.now_ns
            && match closed {
                Closed::Requests => {
                    host.requests_within(self.now_ns, window_ns) >= host.server.requests_per_min as usize
                }
                // Some prompt that could otherwise go there does not fit.
                Closed::Tokens => self.waiting().any(|item| {
                    self.is_ready(item)
                        && self.obstacles(item, host, WINDOW_SLACK_NS).contains(&Obstacle::TokensPerMinute)
                }),
                Closed::Breaker => host.breaker.as_ref().and_then(Breaker::opens_at_ns) == Some(until_ns),
                Closed::RequestsLeft | Closed::TokensLeft => true, // see below
                Closed::Pause => host.pausable.iter().any(|known| known.paused_until_ns > self.now_ns),
            }
    }

    /// A lane is kept only for a prompt that waits for it, and that a sixteenth of the lane's tokens may have passed.
    fn check_kept(&mut self, before: &Seen, seen: &Seen) {
        let was = |backend| before.backends.iter().find(|at| at.backend == backend)?.reserved_for;
        for at in &seen.backends {
            let Some(id) = at.reserved_for else { continue };
            let Some(item) = self.item(id).filter(|item| item.is_waiting()) else {
                let what = format!("backend {} is kept for {id}, which does not wait", at.backend);
                self.verdict.breach(Law::WorkConservation, self.now_ns, what);
                continue;
            };
            if let Some(why) = self.kept_in_vain(item, at, seen) {
                let what = format!("backend {} is kept for {id}, which cannot come: {why}", at.backend);
                self.verdict.breach(Law::WorkConservation, self.now_ns, what);
                continue;
            }
            let budget = self.host(at.backend).map_or(0, |host| u64::from(host.short_budget()));
            let is_new = was(at.backend) != Some(id);
            let is_earned = self.host(at.backend).is_some_and(|host| self.has_earned_room(item, host));
            // Without room because it was full, or kept for another, which several releases may have changed since.
            let had_no_room =
                self.is_unfit(item, at.backend) || was(at.backend).is_some() || self.report.releases > 1;
            if is_new && !(is_earned && had_no_room) {
                let obstacles = self.host(at.backend).map(|host| self.obstacles(item, host, 0));
                let what = format!(
                    "backend {} is kept for {id} without need: {} tokens of a budget of {budget} have passed, {obstacles:?}",
                    at.backend, item.passed_tokens
                );
                self.verdict.breach(Law::WorkConservation, self.now_ns, what);
            }
        }
    }

    /// Why a prompt that a lane is kept for cannot come, though others could. What closes the whole backend and a model's
    /// full cap are waited for; where all that may be in flight is, here or in all, nobody is kept back.
    fn kept_in_vain(&self, item: &Item, at: &SeenBackend, seen: &Seen) -> Option<String> {
        let (tenant, model) = (self.group(item.batch).terms.tenant, item.request.model);
        let obstacles = self.obstacles(item, self.host(at.backend)?, 0);
        if obstacles.iter().any(|obstacle| matches!(obstacle, Obstacle::GlobalCap | Obstacle::Cap)) {
            return None;
        }
        let is_waited_for = |obstacle: &Obstacle| {
            use Obstacle::{Breaker, ModelCap, Ramp, RequestsPerMinute, ShortLane};
            // Too few tokens keep a prompt back once it is met: see below.
            let is_met_late = obstacle.is_of_tokens() || obstacle.is_of_tenant();
            is_met_late || matches!(obstacle, Breaker | ModelCap | Ramp | RequestsPerMinute | ShortLane)
        };
        if let Some(obstacle) = obstacles.iter().find(|obstacle| !is_waited_for(obstacle)) {
            return Some(format!("{obstacle:?}"));
        }
        if !self.is_ready(item) {
            return Some("its batch keeps it back".into());
        }
        let spent = at.spent.iter().find(|&&(of, ..)| of == model);
        let closed = seen.closed_tenants.iter().find(|&&(of, ..)| of == tenant);
        spent.map(|spent| format!("{spent:?}")).or(closed.map(|closed| format!("{closed:?}")))
    }

    fn check_counters(&mut self, seen: &Seen) {
        let mut expected = Seen {
            submitted: self.submitted,
            refused: self.refused,
            retried: self.retried,
            ended: self.ended,
            in_flight: self.in_flight().count() as u32,
            // Lazily counted: see below.
            held: seen.held,
            backends: seen.backends.clone(),
            closed_tenants: seen.closed_tenants.clone(),
            ..Seen::default()
        };
        for item in self.waiting() {
            expected.queued += 1;
            expected.queued_tokens += u64::from(item.request.tokens);
            expected.queued_by_class[item.request.class as usize] += 1;
            let model = item.request.model;
            match expected.queued_by_model.iter_mut().find(|(known, _)| *known == model) {
                Some((_, queued)) => *queued += 1,
                None => expected.queued_by_model.push((model, 1)),
            }
            let Where::Waiting { not_before_ns, .. } = item.at else { continue };
            expected.retry_waiting += u32::from(not_before_ns > self.now_ns);
        }
        expected.queued_by_model.sort_unstable();
        let beyond = self.waiting().filter(|item| self.is_beyond_horizon(item)).count();
        let ended: u64 = seen.ended.iter().sum();
        let is_conserved = seen.submitted == ended + u64::from(seen.queued) + u64::from(seen.in_flight);
        if &expected != seen || seen.held as usize > beyond || !is_conserved {
            let what = format!("counters are {seen:?}, should be {expected:?}, {beyond} beyond horizons");
            self.verdict.breach(Law::Conservation, self.now_ns, what);
        }
    }

    fn check_backend(&mut self, seen: &SeenBackend) {
        let here = || self.at_host(seen.backend);
        let prefill = || here().filter(|(_, flight)| flight.in_prefill);
        let by_model: u32 = seen.in_flight_by_model.iter().map(|(_, count)| count).sum();
        let outstanding: u64 = prefill().map(|(item, _)| u64::from(item.edge)).sum();
        let host = self.host(seen.backend);
        let lanes = host.map(|host| (host.long_slots(), host.short_budget()));
        // What was charged close together leaves together, with the last of it.
        let within =
            |slack_ns| host.map_or(0, |host| host.tokens_within(self.now_ns, super::MINUTE + slack_ns));
        let is_right = [
            (Law::LimitsAndOrder, (within(0)..=within(WINDOW_SLACK_NS)).contains(&seen.tokens_in_window)),
            (Law::Lanes, lanes == Some((seen.long_slots, seen.short_budget_tokens))),
            (Law::LimitsAndOrder, host.is_some_and(|host| host.has_right_times(seen))),
            (Law::LimitsAndOrder, host.is_some_and(|host| host.has_breaker_as(seen.breaker, self.now_ns))),
            (Law::Caps, seen.in_flight as usize == here().count() && by_model == seen.in_flight),
            (
                Law::Caps,
                self.host(seen.backend).is_some_and(|host| {
                    let told = seen.cap_by_model.iter();
                    told.clone().count() == host.server.models.len()
                        && told.clone().all(|&(model, cap)| cap as usize == host.cap_of(model))
                }),
            ),
            (
                Law::Lanes,
                seen.long_in_prefill as usize == prefill().filter(|(_, flight)| flight.is_long).count(),
            ),
            (Law::Lanes, seen.short_tokens_in_prefill == self.short_tokens(seen.backend)),
            (Law::Lanes, seen.outstanding_prefill_tokens == outstanding),
            (Law::Conservation, seen.dispatched == seen.attempts_ended + u64::from(seen.in_flight)),
        ];
        for (law, _) in is_right.into_iter().filter(|(_, is_right)| !is_right) {
            let what = format!("backend {}'s counters are wrong: {seen:?}", seen.backend);
            self.verdict.breach(law, self.now_ns, what);
        }
    }
}
