//! One call of the scheduler's interface from bytes, and what any call must leave true.
//!
//! Where the laws' traces make sense, these need not: unknown batches, tickets and backends, absurd sizes and times.

use crate::bytes::Bytes;
use expresslane_scheduler::{
    AttemptDeadline, BackendConfig, BackendId, BatchOptions, BreakerConfig, Cancelled, Config, Fairness,
    Left, ModelId, ModelRoute, Outcome, Policy, Prompt, RetryAnswer, Scheduler, Scope, Snapshot, TicketId,
    Usage,
};
use std::collections::{BTreeMap, BTreeSet};

const BACKENDS: u32 = 4;
const MODELS: u32 = 9;
const BATCHES: u64 = 8;
const TENANTS: u32 = 4;

/// A prompt that has not ended.
struct Open {
    model: ModelId,
    at: Option<BackendId>,
}

pub(crate) struct Events {
    scheduler: Scheduler,
    now_ns: u64,
    /// The latest time that the scheduler was told: it does not go back.
    latest_ns: u64,
    in_flight_limit: u32,
    /// As they were given last.
    backends: BTreeMap<BackendId, BackendConfig>,
    /// All that were ever given out.
    tickets: Vec<TicketId>,
    open: BTreeMap<TicketId, Open>,
}

/// Plays any bytes as calls, with a poll after each, and ends everything. Panics where a promise is broken.
pub(crate) fn play(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let mut events = Events::new(&mut bytes);
    while !bytes.is_empty() {
        events.call(&mut bytes);
        events.poll();
    }
    events.end();
}

impl Events {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let config = Config {
            policy: policy(bytes),
            fairness: bytes.pick(&[Fairness::TenantBatch, Fairness::Tenant, Fairness::None]),
            queue_limit: 200,
            queue_limit_ns: bytes.pick(&[0, 1_000_000_000]),
            in_flight_limit: bytes.pick(&[0, 0, 5]),
            class_min_shares: bytes.pick(&[[0.0; 3], [0.0, 0.2, 0.1]]),
            retry_ratio: bytes.pick(&[0.0, 0.5]),
            ..Config::default()
        };
        let in_flight_limit = config.in_flight_limit;
        let mut events = Self {
            scheduler: Scheduler::new(config).expect("it is right"),
            now_ns: 0,
            latest_ns: 0,
            in_flight_limit,
            backends: BTreeMap::new(),
            tickets: Vec::new(),
            open: BTreeMap::new(),
        };
        for backend in 0..2 {
            let models = (0..MODELS).map(|model| ModelRoute { model, cap: 0 }).collect();
            events.update(backend, BackendConfig { models, cap: 8, ..BackendConfig::default() });
        }
        events
    }

    fn call(&mut self, bytes: &mut Bytes<'_>) {
        let (now_ns, ticket) = (self.now_ns, self.ticket(bytes));
        let scheduler = &mut self.scheduler;
        match bytes.byte() % 23 {
            0..=2 => self.submit(bytes),
            3 | 4 => {
                let is_there = scheduler.first_token(now_ns, ticket).is_ok();
                assert_eq!(is_there, self.is_in_flight(ticket));
            }
            5 => self.finish(ticket, bytes.pick(&Outcome::ALL), None),
            6 => {
                let usage = Usage {
                    uncached_input_tokens: bytes.small(),
                    output_tokens: bytes.small(),
                    cached_input_tokens: bytes.small(),
                };
                self.finish(ticket, Outcome::Success, Some(usage));
            }
            7 => {
                let answer =
                    scheduler.retry(now_ns, ticket, bytes.time_ns(), bytes.one_in(2), bytes.one_in(3));
                assert_eq!(answer.is_ok(), self.is_in_flight(ticket));
                if answer == Ok(RetryAnswer::Queued) {
                    self.open.get_mut(&ticket).expect("it was in flight").at = None;
                }
            }
            8 => _ = self.cancel(ticket),
            9 => {
                let cancelled = scheduler.cancel_batch(now_ns, bytes.number() % BATCHES);
                self.cancelled(&cancelled);
            }
            10 => scheduler.hold_batch(now_ns, bytes.number() % BATCHES, bytes.small()),
            11 => scheduler.release_batch(now_ns, bytes.number() % BATCHES),
            12 => {
                let backend = bytes.small() % BACKENDS;
                self.update(backend, backend_config(bytes));
            }
            13 => {
                let model = bytes.one_in(2).then(|| bytes.small() % MODELS);
                scheduler.pause(now_ns, bytes.small() % BACKENDS, model, bytes.time_ns());
            }
            14 => {
                let scope = Scope { class: Some(bytes.mostly_below(3)), model: Some(bytes.small() % 3) };
                let order = bytes.one_in(2).then(|| policy(bytes));
                _ = scheduler.set_policy(now_ns, scope, order);
            }
            15 => {
                let deadlines =
                    [AttemptDeadline::FirstToken, AttemptDeadline::Idle, AttemptDeadline::Attempt];
                let is_there = scheduler.rearm(now_ns, ticket, bytes.pick(&deadlines), bytes.time_ns());
                assert_eq!(is_there.is_ok(), self.is_in_flight(ticket));
            }
            16 => {
                let is_there = scheduler.blame(now_ns, ticket).is_ok();
                assert_eq!(is_there, self.is_in_flight(ticket));
            }
            17 => {
                let (tenant, requests) = (bytes.small() % TENANTS, bytes.small());
                _ = scheduler.set_tenant_limits(now_ns, tenant, requests, bytes.number());
            }
            18 => {
                let is_there = scheduler.turned_away(now_ns, ticket).is_ok();
                assert_eq!(is_there, self.is_in_flight(ticket));
            }
            19 => {
                let mut left = || {
                    let said = Left {
                        amount: bytes.number(),
                        limit: bytes.number(),
                        reset_at_ns: now_ns.saturating_add(bytes.time_ns()),
                    };
                    bytes.one_in(2).then_some(said)
                };
                let (requests, tokens) = (left(), left());
                let is_there = scheduler.told(now_ns, ticket, requests, tokens).is_ok();
                assert_eq!(is_there, self.is_in_flight(ticket));
            }
            20 => {
                let is_there = scheduler.not_run(now_ns, ticket).is_ok();
                assert_eq!(is_there, self.is_in_flight(ticket));
            }
            21 => {
                let model = bytes.small() % MODELS;
                scheduler.avoid(now_ns, bytes.small() % BACKENDS, model, bytes.time_ns());
            }
            // The clock may even seem to go back.
            _ => self.now_ns = if bytes.byte() == 0 { 0 } else { (now_ns + bytes.time_ns()).min(1 << 59) },
        }
        self.latest_ns = self.latest_ns.max(self.now_ns);
    }

    /// One that was given out, or none that ever was.
    fn ticket(&self, bytes: &mut Bytes<'_>) -> TicketId {
        let at = bytes.number() as usize;
        self.tickets.get(at % self.tickets.len().max(1)).copied().unwrap_or(TicketId(at as u64))
    }

    fn is_in_flight(&self, ticket: TicketId) -> bool {
        self.open.get(&ticket).is_some_and(|open| open.at.is_some())
    }

    fn submit(&mut self, bytes: &mut Bytes<'_>) {
        let prompts: Vec<Prompt> = (0..bytes.byte() % 20)
            .map(|_| Prompt {
                model: bytes.small() % MODELS,
                class: bytes.mostly_below(3),
                tokens: bytes.small(),
                queue_timeout_ns: bytes.time_ns(),
                index: bytes.small(),
                output_tokens: bytes.small(),
                sequential: bytes.one_in(8),
                ttft_deadline_ns: bytes.number(),
            })
            .collect();
        let options = BatchOptions {
            queue_timeout_ns: bytes.time_ns(),
            deadline_ns: bytes.time_ns(),
            tenant: bytes.small(),
            weight: bytes.small(),
            may_wait: bytes.one_in(4),
        };
        let batch = bytes.number() % BATCHES;
        let Ok(tickets) = self.scheduler.submit(self.now_ns, batch, &prompts, options) else { return };
        assert_eq!(tickets.len(), prompts.len(), "all or none");
        for (&ticket, prompt) in tickets.iter().zip(&prompts) {
            let known = self.open.insert(ticket, Open { model: prompt.model, at: None });
            assert!(known.is_none(), "{ticket:?} was given out twice");
        }
        self.tickets.extend(tickets);
    }

    fn finish(&mut self, ticket: TicketId, outcome: Outcome, usage: Option<Usage>) {
        let finished = self.scheduler.finish_with_usage(self.now_ns, ticket, outcome, usage);
        assert_eq!(finished.is_ok(), self.is_in_flight(ticket));
        if finished.is_ok() {
            self.open.remove(&ticket);
        }
    }

    fn cancel(&mut self, ticket: TicketId) -> Cancelled {
        let cancelled = self.scheduler.cancel(self.now_ns, ticket);
        self.cancelled(&cancelled);
        cancelled
    }

    fn cancelled(&mut self, cancelled: &Cancelled) {
        for ticket in &cancelled.removed {
            let open = self.open.remove(ticket).expect("it has not ended");
            assert_eq!(open.at, None, "what is in flight ends by its driver");
        }
        assert!(cancelled.in_flight.iter().all(|&ticket| self.is_in_flight(ticket)));
    }

    fn update(&mut self, backend: BackendId, config: BackendConfig) {
        if self.scheduler.update_backend(self.now_ns, backend, config.clone()).is_ok() {
            self.backends.insert(backend, config);
        }
    }

    fn poll(&mut self) {
        let decisions = self.scheduler.poll(self.now_ns);
        for expired in &decisions.expired {
            let open = self.open.remove(&expired.ticket).expect("it has not ended");
            assert_eq!(open.at, None, "what is in flight is overdue, not expired");
        }
        let running: BTreeSet<_> =
            self.open.values().filter_map(|open| Some((open.at?, open.model))).collect();
        for sent in &decisions.dispatches {
            let open = self.open.get_mut(&sent.ticket).expect("it has not ended");
            assert_eq!(open.at.replace(sent.backend), None, "{sent:?} had been released before");
        }
        let seen = self.scheduler.snapshot();
        self.check_counts(&seen);
        for sent in &decisions.dispatches {
            self.check_caps(sent.backend, self.open[&sent.ticket].model, &running);
        }
        if !decisions.dispatches.is_empty() && self.in_flight_limit > 0 {
            assert!(seen.in_flight <= self.in_flight_limit);
        }
        let next_ns = self.scheduler.next_deadline();
        assert!(next_ns.is_none_or(|at_ns| at_ns > self.latest_ns), "{next_ns:?} after a poll");
    }

    fn check_counts(&self, seen: &Snapshot) {
        let ended = seen.succeeded + seen.failed + seen.cancelled + seen.expired;
        let in_flight = self.open.values().filter(|open| open.at.is_some()).count();
        assert_eq!(seen.submitted, ended + u64::from(seen.queued) + u64::from(seen.in_flight));
        assert_eq!(seen.submitted, self.tickets.len() as u64);
        assert_eq!((seen.queued + seen.in_flight) as usize, self.open.len());
        assert_eq!(seen.in_flight as usize, in_flight);
        assert_eq!(seen.backends.iter().map(|backend| backend.in_flight).sum::<u32>(), seen.in_flight);
        assert_eq!(seen.queued_by_class.iter().sum::<u32>(), seen.queued);
    }

    /// Where something has just been released no cap is exceeded; and no more models run than there is memory for, but
    /// those that ran before the limit fell under them.
    fn check_caps(&self, backend: BackendId, model: ModelId, before: &BTreeSet<(BackendId, ModelId)>) {
        let config = &self.backends[&backend];
        let here: Vec<_> = self.open.values().filter(|open| open.at == Some(backend)).collect();
        let route = config.models.iter().find(|route| route.model == model);
        let cap = route.expect("it is served").cap;
        assert!(config.available && here.len() <= config.cap as usize);
        let of_model = here.iter().filter(|open| open.model == model).count();
        assert!(cap == 0 || of_model <= cap as usize);
        let mut models: Vec<_> = here.iter().map(|open| open.model).collect();
        models.sort_unstable();
        models.dedup();
        let most = config.max_loaded_models as usize;
        assert!(most == 0 || models.len() <= most || before.contains(&(backend, model)));
    }

    /// Everything is cancelled and what is in flight ends.
    fn end(&mut self) {
        for ticket in self.tickets.clone() {
            for ticket in self.cancel(ticket).in_flight {
                self.finish(ticket, Outcome::Cancelled, None);
            }
        }
        assert!(self.open.is_empty());
        let seen = self.scheduler.snapshot();
        assert_eq!((seen.queued, seen.in_flight, seen.queued_tokens), (0, 0, 0));
        assert_eq!((seen.held, seen.retry_waiting), (0, 0));
        for backend in &seen.backends {
            let held = (backend.in_flight, backend.long_in_prefill, backend.reserved_for);
            assert_eq!(held, (0, 0, None));
            assert_eq!((backend.short_tokens_in_prefill, backend.outstanding_prefill_tokens), (0, 0));
        }
    }
}

fn policy(bytes: &mut Bytes<'_>) -> Policy {
    bytes.pick(&Policy::NAMES).parse().expect("a policy's name")
}

fn backend_config(bytes: &mut Bytes<'_>) -> BackendConfig {
    let models = (0..bytes.byte() % 4)
        .map(|_| ModelRoute { model: bytes.small() % MODELS, cap: bytes.small() % 4 })
        .collect();
    let breaker = BreakerConfig { min_samples: 1 + bytes.small() % 4, ..BreakerConfig::default() };
    BackendConfig {
        models,
        cap: bytes.small(),
        max_loaded_models: bytes.mostly_below(3),
        available: !bytes.one_in(4),
        long_threshold_tokens: bytes.small(),
        long_slots: bytes.one_in(2).then(|| bytes.small()),
        short_budget_tokens: bytes.one_in(2).then(|| bytes.small()),
        lanes: bytes.one_in(2),
        engine_step_tokens: bytes.small(),
        engine_chunk_tokens: bytes.small(),
        prefill_tokens_per_s: 1.0 + f64::from(bytes.small()),
        first_token_timeout_ns: bytes.time_ns(),
        idle_timeout_ns: bytes.time_ns(),
        attempt_timeout_ns: bytes.time_ns(),
        requests_per_min: bytes.small(),
        tokens_per_min: bytes.number(),
        breaker: bytes.one_in(2).then_some(breaker),
        ramp: bytes.one_in(2),
        absence_timeout_ns: bytes.time_ns(),
    }
}
