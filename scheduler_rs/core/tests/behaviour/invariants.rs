//! Random traces against the naive model: the invariants hold after every event, whatever the order of events.

use crate::driver::{MS, SECOND};
use crate::model::{At, Model, ModelBatch, ModelTicket, edge_of, reserved};
use expresslane_scheduler::{
    BackendConfig, BackendId, BatchId, BatchOptions, Config, Decisions, Error, Fairness, ModelRoute, Outcome,
    Policy, Prompt, Scheduler, Scope, TicketId,
};
use proptest::prelude::*;

const FAIRNESS: [Fairness; 3] = [Fairness::None, Fairness::Tenant, Fairness::TenantBatch];

/// One thing that happens; numbers pick among what is there.
#[derive(Clone, Debug)]
enum Event {
    Submit { batch: BatchId, prompts: Vec<Prompt>, queue_timeout_ns: u64, deadline_in_ns: u64 },
    FirstToken(usize),
    Finish(usize, Outcome),
    Retry { pick: usize, delay_ns: u64, exclude_backend: bool },
    Cancel(usize),
    CancelBatch(BatchId),
    Hold(BatchId, u32),
    Release(BatchId),
    Update(BackendId, BackendConfig),
    Advance(u64),
    Policy(Scope, Option<&'static str>),
    Pause(BackendId, Option<u32>, u64),
}

fn sizes() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![0, 1, 60, 64, 500, 512, 1_000, 2_048, 4_096, 5_000, 20_000])
}

fn durations() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![0, 10 * MS, SECOND, 5 * SECOND, 30 * SECOND])
}

fn backends() -> impl Strategy<Value = BackendConfig> {
    let models = prop::collection::btree_map(0..3_u32, 0..4_u32, 0..3);
    let lanes = (any::<bool>(), 0..3_u32, prop::sample::select(vec![0, 64, 1_024, 2_048, 8_192]));
    let limits =
        (prop::sample::select(vec![0, 0, 0, 2, 20]), prop::sample::select(vec![0, 0, 0, 3_000, 60_000]));
    let threshold = prop::sample::select(vec![0, 512, 4_096]);
    (1..6_u32, models, prop::bool::weighted(0.8), lanes, threshold, limits).prop_map(
        |(
            cap,
            models,
            available,
            (lanes, long_slots, short_budget_tokens),
            long_threshold_tokens,
            limits,
        )| {
            let (requests_per_min, tokens_per_min) = limits;
            BackendConfig {
                cap,
                models: models.into_iter().map(|(model, cap)| ModelRoute { model, cap }).collect(),
                available,
                lanes,
                long_slots: Some(long_slots),
                short_budget_tokens: Some(short_budget_tokens),
                long_threshold_tokens,
                attempt_timeout_ns: 20 * SECOND,
                requests_per_min,
                tokens_per_min,
                ..BackendConfig::default()
            }
        },
    )
}

fn policies() -> impl Strategy<Value = &'static str> {
    prop::sample::select(Policy::NAMES.to_vec())
}

fn events() -> impl Strategy<Value = Event> {
    let batch = || 0..4_u64;
    let limits =
        (prop_oneof![4 => Just(0), 1 => durations()], 0..2_000_u32, prop::bool::weighted(0.05), durations());
    let prompt = (0..3_u32, 0..3_u32, sizes(), limits).prop_map(|(model, class, tokens, limits)| {
        let (queue_timeout_ns, output_tokens, sequential, ttft_deadline_ns) = limits;
        Prompt {
            model,
            class,
            tokens,
            queue_timeout_ns,
            output_tokens,
            sequential,
            ttft_deadline_ns,
            index: 0,
        }
    });
    let outcome = prop::sample::select(Outcome::ALL.to_vec());
    let deadline = prop_oneof![4 => Just(0), 1 => durations()];
    prop_oneof![
        6 => (batch(), prop::collection::vec(prompt, 1..8), durations(), deadline).prop_map(
            |(batch, prompts, queue_timeout_ns, deadline_in_ns)| Event::Submit {
                batch, prompts, queue_timeout_ns, deadline_in_ns
            }
        ),
        6 => any::<usize>().prop_map(Event::FirstToken),
        6 => (any::<usize>(), outcome).prop_map(|(pick, outcome)| Event::Finish(pick, outcome)),
        3 => (any::<usize>(), durations(), any::<bool>()).prop_map(|(pick, delay_ns, exclude_backend)| {
            Event::Retry { pick, delay_ns, exclude_backend }
        }),
        2 => any::<usize>().prop_map(Event::Cancel),
        1 => batch().prop_map(Event::CancelBatch),
        2 => (batch(), 0..12_u32).prop_map(|(batch, horizon)| Event::Hold(batch, horizon)),
        2 => batch().prop_map(Event::Release),
        2 => (0..3_u32, backends()).prop_map(|(backend, config)| Event::Update(backend, config)),
        4 => durations().prop_map(Event::Advance),
        1 => (prop::option::of(0..3_u32), prop::option::of(0..3_u32), prop::option::of(policies())).prop_map(
            |(class, model, policy)| Event::Policy(Scope { class, model }, policy)
        ),
        1 => (0..3_u32, durations()).prop_map(|(backend, for_ns)| Event::Pause(backend, None, for_ns)),
    ]
}

struct World {
    scheduler: Scheduler,
    model: Model,
    now_ns: u64,
    log: Vec<Decisions>,
}

impl World {
    fn new(
        policy: &str,
        fairness: Fairness,
        in_flight_limit: u32,
        max_wait_ns: u64,
        cost_includes_output: bool,
    ) -> Self {
        let policy: Policy = policy.parse().unwrap();
        let config = Config {
            policy,
            in_flight_limit,
            max_wait_ns,
            fairness,
            cost_includes_output,
            ..Config::default()
        };
        let model = Model { in_flight_limit, fairness, ..Model::default() };
        Self { scheduler: Scheduler::new(config).unwrap(), model, now_ns: SECOND, log: Vec::new() }
    }

    fn pick(&self, pick: usize, in_flight: bool) -> Option<TicketId> {
        let tickets = self.model.tickets.iter();
        let some: Vec<_> =
            tickets.filter(|(_, ticket)| !in_flight || matches!(ticket.at, At::Backend { .. })).collect();
        (!some.is_empty()).then(|| *some[pick % some.len()].0)
    }

    fn step(&mut self, event: &Event) {
        self.act(event);
        self.poll();
    }

    fn poll(&mut self) {
        let before = reserved(&self.scheduler.snapshot());
        let decisions = self.scheduler.poll(self.now_ns);
        let snapshot = self.scheduler.snapshot();
        let mut kept = reserved(&snapshot);
        kept.extend(before);
        self.model.closed = snapshot
            .backends
            .iter()
            .filter(|backend| backend.limited.is_some())
            .map(|backend| backend.backend)
            .collect();
        self.model.apply(self.now_ns, &decisions, &kept);
        self.model.limited(self.now_ns, &snapshot);
        self.model.check(self.now_ns, &snapshot);
        self.log.push(decisions);
        if let Some(at_ns) = self.scheduler.next_deadline() {
            assert!(at_ns > self.now_ns, "what is due was done");
        }
    }

    fn act(&mut self, event: &Event) {
        let now_ns = self.now_ns;
        match *event {
            Event::Submit { batch, ref prompts, queue_timeout_ns, deadline_in_ns } => {
                self.submit(batch, prompts, queue_timeout_ns, deadline_in_ns);
            }
            Event::FirstToken(pick) => {
                let Some(id) = self.pick(pick, true) else { return };
                let is_first = self.scheduler.first_token(now_ns, id).unwrap();
                let ticket = self.model.tickets.get_mut(&id).unwrap();
                let At::Backend { in_prefill, .. } = &mut ticket.at else { unreachable!() };
                assert_eq!(is_first, std::mem::take(in_prefill));
            }
            Event::Finish(pick, outcome) => {
                let Some(id) = self.pick(pick, true) else { return };
                self.scheduler.finish(now_ns, id, outcome).unwrap();
                assert!(self.scheduler.finish(now_ns, id, outcome).is_err(), "a slot is given back once");
                let batch = self.model.tickets[&id].batch;
                self.model.batches.get_mut(&batch).unwrap().restarted_ns = now_ns;
                self.model.end(id);
            }
            Event::Retry { pick, delay_ns, exclude_backend } => self.retry(pick, delay_ns, exclude_backend),
            Event::Cancel(pick) => {
                let Some(id) = self.pick(pick, false) else { return };
                let cancelled = self.scheduler.cancel(now_ns, id);
                assert_eq!(cancelled.removed.len() + cancelled.in_flight.len(), 1);
                self.cancelled(&cancelled.removed, &cancelled.in_flight);
            }
            Event::CancelBatch(batch) => {
                let cancelled = self.scheduler.cancel_batch(now_ns, batch);
                self.model.early_horizons.remove(&batch);
                self.cancelled(&cancelled.removed, &cancelled.in_flight);
                assert!(
                    self.model
                        .tickets
                        .iter()
                        .all(|(id, ticket)| { ticket.batch != batch || cancelled.in_flight.contains(id) })
                );
            }
            Event::Hold(batch, horizon) => {
                self.scheduler.hold_batch(now_ns, batch, horizon);
                match self.model.batches.get_mut(&batch) {
                    Some(batch) => batch.move_horizon(Some(horizon), now_ns),
                    None => _ = self.model.early_horizons.insert(batch, horizon),
                }
            }
            Event::Release(batch) => {
                self.scheduler.release_batch(now_ns, batch);
                self.model.early_horizons.remove(&batch);
                if let Some(batch) = self.model.batches.get_mut(&batch) {
                    batch.move_horizon(None, now_ns);
                }
            }
            Event::Update(backend, ref config) => {
                self.scheduler.update_backend(now_ns, backend, config.clone()).unwrap();
                if config.requests_per_min == 0 {
                    self.model.requests.remove(&backend);
                }
                if config.tokens_per_min == 0 {
                    self.model.tokens.remove(&backend);
                }
                self.model.backends.insert(backend, config.clone());
            }
            Event::Advance(by_ns) => self.now_ns += by_ns,
            Event::Pause(backend, model, for_ns) => {
                let until_ns = now_ns + for_ns;
                self.scheduler.pause(now_ns, backend, model, until_ns);
                let paused = self.model.paused.entry(backend).or_insert(0);
                *paused = if for_ns == 0 { 0 } else { until_ns.max(*paused) };
            }
            Event::Policy(scope, name) => {
                let policy = name.map(|name| name.parse().unwrap());
                let is_set = self.scheduler.set_policy(now_ns, scope, policy).is_ok();
                assert_eq!(is_set, policy.is_some() || scope != Scope::default());
            }
        }
    }

    fn submit(&mut self, batch: BatchId, sizes: &[Prompt], queue_timeout_ns: u64, in_ns: u64) {
        let deadline_ns = if in_ns == 0 { 0 } else { self.now_ns + in_ns };
        let prompts: Vec<Prompt> =
            (0..).zip(sizes).map(|(index, &prompt)| Prompt { index, ..prompt }).collect();
        let options = BatchOptions {
            queue_timeout_ns,
            deadline_ns,
            tenant: (batch % 3) as u32,
            weight: 1 + batch as u32 % 2,
        };
        let tickets = match self.scheduler.submit(self.now_ns, batch, &prompts, options) {
            Ok(tickets) => tickets,
            Err(refused) => {
                assert!(matches!(refused, Error::AboveLimit { .. }));
                assert!(prompts.iter().any(|prompt| self.model.is_above_limits(prompt)));
                return;
            }
        };
        assert!(tickets.is_sorted() && tickets.iter().all(|id| !self.model.tickets.contains_key(id)));
        let horizon = self.model.early_horizons.remove(&batch);
        let known = ModelBatch { horizon, tenant: options.tenant, ..ModelBatch::default() };
        let known = self.model.batches.entry(batch).or_insert(known);
        (known.queue_timeout_ns, known.deadline_ns) = (queue_timeout_ns, deadline_ns);
        self.model.submitted += tickets.len() as u64;
        for (id, prompt) in tickets.into_iter().zip(prompts) {
            let ticket = ModelTicket {
                batch,
                number: id.0 >> 22,
                prompt,
                edge: edge_of(prompt.tokens),
                submitted_ns: self.now_ns,
                excluded: self.model.too_small_for(&prompt),
                is_long: false,
                cancelled: false,
                at: At::Waiting { not_before_ns: 0, since_ns: self.now_ns },
            };
            self.model.tickets.insert(id, ticket);
        }
    }

    fn retry(&mut self, pick: usize, delay_ns: u64, exclude_backend: bool) {
        let Some(id) = self.pick(pick, true) else { return };
        let not_before_ns = self.now_ns + delay_ns;
        let makes_sense = self.model.can_retry(id, not_before_ns, exclude_backend);
        let is_queued = self.scheduler.retry(self.now_ns, id, not_before_ns, exclude_backend).unwrap();
        assert_eq!(is_queued, makes_sense);
        if !is_queued {
            return;
        }
        assert!(self.scheduler.first_token(self.now_ns, id).is_err(), "a waiting ticket holds no slot");
        let ticket = self.model.tickets.get_mut(&id).unwrap();
        let At::Backend { backend, .. } = ticket.at else { unreachable!() };
        if exclude_backend && !ticket.excluded.contains(&backend) {
            ticket.excluded.push(backend);
            ticket.excluded.sort_unstable();
        }
        ticket.at = At::Waiting { not_before_ns, since_ns: self.now_ns };
    }

    fn cancelled(&mut self, removed: &[TicketId], in_flight: &[TicketId]) {
        for &id in removed {
            let ticket = self.model.end(id);
            assert!(matches!(ticket.at, At::Waiting { .. }));
        }
        for id in in_flight {
            let ticket = self.model.tickets.get_mut(id).unwrap();
            assert!(matches!(ticket.at, At::Backend { .. }));
            ticket.cancelled = true;
        }
    }

    /// Lets everything end: good backends, no horizons, each attempt a success.
    fn drain(&mut self) {
        for backend in 0..3 {
            let models = (0..3).map(|model| ModelRoute { model, cap: 0 }).collect();
            self.act(&Event::Update(backend, BackendConfig { cap: 4, models, ..BackendConfig::default() }));
        }
        for batch in 0..4 {
            self.act(&Event::Release(batch));
        }
        self.poll();
        for _ in 0..10_000 {
            if self.model.tickets.is_empty() {
                break;
            }
            if self.pick(0, true).is_some() {
                self.step(&Event::Finish(0, Outcome::Success));
            } else {
                let next_ns = self.scheduler.next_deadline().expect("what waits off-slot has a timer");
                self.step(&Event::Advance(next_ns - self.now_ns));
            }
        }
        let snapshot = self.scheduler.snapshot();
        assert_eq!(
            (snapshot.queued, snapshot.in_flight, snapshot.held, snapshot.retry_waiting),
            (0, 0, 0, 0)
        );
        assert_eq!(snapshot.queued_tokens, 0);
        for backend in snapshot.backends {
            assert_eq!((backend.in_flight, backend.long_in_prefill), (0, 0));
            assert_eq!((backend.short_tokens_in_prefill, backend.outstanding_prefill_tokens), (0, 0));
            assert_eq!(backend.reserved_for, None);
        }
    }
}

proptest! {
    /// Caps and lanes hold, nothing feasible waits, classes are strict, counters add up and everything drains to zero,
    /// after every event of any trace (A06, A07, O05, O08).
    #[test]
    fn invariants_hold(
        policy in policies(),
        fairness in prop::sample::select(FAIRNESS.to_vec()),
        cost_includes_output in any::<bool>(),
        in_flight_limit in prop_oneof![3 => Just(0), 1 => 1..8_u32],
        max_wait_ns in durations(),
        first in prop::collection::vec(backends(), 3),
        events in prop::collection::vec(events(), 1..120),
    ) {
        let mut world = World::new(policy, fairness, in_flight_limit, max_wait_ns, cost_includes_output);
        for (backend, config) in (0..).zip(first) {
            world.step(&Event::Update(backend, config));
        }
        for event in &events {
            world.step(event);
        }
        world.drain();
    }

    /// The same trace gives the same decisions, tickets and deadlines.
    #[test]
    fn deterministic(
        policy in policies(),
        first in prop::collection::vec(backends(), 3),
        events in prop::collection::vec(events(), 1..80),
    ) {
        let run = || {
            let mut world = World::new(policy, Fairness::TenantBatch, 0, 0, false);
            for (backend, config) in (0..).zip(&first) {
                world.step(&Event::Update(backend, config.clone()));
            }
            for event in &events {
                world.step(event);
            }
            (world.log, world.scheduler.next_deadline(), world.scheduler.snapshot())
        };
        prop_assert_eq!(run(), run());
    }
}
