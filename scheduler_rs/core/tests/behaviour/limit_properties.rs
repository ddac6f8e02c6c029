//! Limits along random traces: none is exceeded over any minute, none keeps back what it would let in, waiters go in
//! order, and nothing polls (T10, T11, T15).

use crate::driver::{MS, SECOND, plain, policy};
use crate::seeded::seeded;
use expresslane_scheduler::{
    BackendConfig, BackendId, BatchOptions, Config, Dispatch, Error, Fairness, Outcome, Prompt, Scheduler,
    TenantId, TicketId, Usage,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const MINUTE: u64 = 60 * SECOND;
/// Charges less than this apart may leave the window together, with the last of them.
const SLACK: u64 = 100 * MS;
const BACKENDS: u32 = 2;
const TENANTS: u32 = 3;

#[derive(Clone, Copy, Debug)]
enum Event {
    Submit { tenant: TenantId, class: u32, input: u32, output: u32, count: usize },
    FirstToken(usize),
    Finish(usize, Outcome, Option<Usage>),
    Retry(usize, u64),
    Cancel(usize),
    TenantLimit(TenantId, u32, u64),
    BackendLimit(BackendId, u32, u64),
    Pause(BackendId, u64),
    Advance(u64),
}

fn events() -> impl Strategy<Value = Event> {
    let outcome = prop::sample::select(Outcome::ALL.to_vec());
    let usage = prop::option::of((0..800_u32, prop_oneof![Just(0), 0..800_u32], 0..400_u32).prop_map(
        |(uncached_input_tokens, cached_input_tokens, output_tokens)| Usage {
            uncached_input_tokens,
            cached_input_tokens,
            output_tokens,
        },
    ));
    let requests = || prop::sample::select(vec![0, 1, 2, 7]);
    // Every prompt is below every limit of a backend, so all of them may go everywhere.
    let tokens = || prop::sample::select(vec![0, 1_000, 1_500, 4_000]);
    let small_or_not = prop_oneof![3 => tokens(), 1 => Just(300)];
    let durations = || prop::sample::select(vec![1, 50 * MS, SECOND, 20 * SECOND, 59 * SECOND, 5 * MINUTE]);
    prop_oneof![
        6 => (0..TENANTS, 0..3_u32, 1..700_u32, 0..300_u32, 1..5_usize).prop_map(
            |(tenant, class, input, output, count)| Event::Submit { tenant, class, input, output, count }
        ),
        2 => any::<usize>().prop_map(Event::FirstToken),
        5 => (any::<usize>(), outcome, usage).prop_map(|(pick, outcome, usage)| Event::Finish(pick, outcome, usage)),
        2 => (any::<usize>(), durations()).prop_map(|(pick, delay_ns)| Event::Retry(pick, delay_ns)),
        2 => any::<usize>().prop_map(Event::Cancel),
        2 => (0..TENANTS, requests(), small_or_not).prop_map(|(tenant, rpm, tpm)| Event::TenantLimit(tenant, rpm, tpm)),
        1 => (0..BACKENDS, requests(), tokens()).prop_map(|(backend, rpm, tpm)| Event::BackendLimit(backend, rpm, tpm)),
        1 => (0..BACKENDS, durations()).prop_map(|(backend, for_ns)| Event::Pause(backend, for_ns)),
        6 => durations().prop_map(Event::Advance),
    ]
}

/// Everything that a limit has seen since it is on.
#[derive(Debug, Default)]
struct Log {
    requests_per_min: u32,
    tokens_per_min: u64,
    requests: Vec<u64>,
    tokens: Vec<(u64, TicketId, u64)>,
}

impl Log {
    fn set(&mut self, requests_per_min: u32, tokens_per_min: u64) {
        (self.requests_per_min, self.tokens_per_min) = (requests_per_min, tokens_per_min);
        if requests_per_min == 0 {
            self.requests.clear();
        }
        if tokens_per_min == 0 {
            self.tokens.clear();
        }
    }

    fn sums(&self, now_ns: u64, within_ns: u64) -> (usize, u64) {
        let requests = self.requests.iter().filter(|&&at_ns| at_ns + within_ns > now_ns);
        let tokens = self.tokens.iter().filter(|&&(at_ns, _, _)| at_ns + within_ns > now_ns);
        (requests.count(), tokens.map(|(_, _, tokens)| tokens).sum())
    }

    /// Adds a release, and checks that the minute that ends with it has room for it.
    fn charge(&mut self, now_ns: u64, ticket: TicketId, tokens: u64) {
        if self.requests_per_min > 0 {
            self.requests.push(now_ns);
        }
        if self.tokens_per_min > 0 {
            self.tokens.push((now_ns, ticket, tokens));
        }
        let (requests, sum) = self.sums(now_ns, MINUTE);
        assert!(
            self.requests_per_min == 0 || requests <= self.requests_per_min as usize,
            "{requests} requests"
        );
        // What waited while the limit shrank below it goes alone.
        assert!(self.tokens_per_min == 0 || sum <= self.tokens_per_min || sum == tokens, "{sum} tokens");
    }

    fn settle(&mut self, released_ns: u64, ticket: TicketId, used: u64) {
        let mut entries = self.tokens.iter_mut();
        if let Some(entry) = entries.find(|(at_ns, of, _)| (*at_ns, *of) == (released_ns, ticket)) {
            entry.2 = used;
        }
    }

    fn lets_in(&self, now_ns: u64, tokens: u64) -> bool {
        let (requests, sum) = self.sums(now_ns, MINUTE + SLACK);
        let has_request = self.requests_per_min == 0 || requests < self.requests_per_min as usize;
        has_request && (self.tokens_per_min == 0 || sum == 0 || sum + tokens <= self.tokens_per_min)
    }
}

#[derive(Clone, Copy, Debug)]
struct Known {
    tenant: TenantId,
    class: u32,
    input: u32,
    output: u32,
    not_before_ns: u64,
    /// Where it runs since when, and whether its first token came.
    runs: Option<(BackendId, u64, bool)>,
}

impl Known {
    fn tokens(&self) -> u64 {
        u64::from(self.input) + u64::from(self.output)
    }
}

struct World {
    scheduler: Scheduler,
    now_ns: u64,
    tickets: BTreeMap<TicketId, Known>,
    tenants: Vec<Log>,
    backends: Vec<Log>,
    paused_until_ns: Vec<u64>,
    /// Everything that may set a timer, or let one come too early.
    causes: usize,
    wake_ups: usize,
}

impl World {
    fn new() -> Self {
        let config = Config {
            policy: policy("fcfs"),
            fairness: Fairness::Tenant,
            // Refuses nothing, but all that waits is counted.
            queue_limit_ns: 1 << 60,
            ..Config::default()
        };
        let mut world = Self {
            scheduler: Scheduler::new(config).unwrap(),
            now_ns: SECOND,
            tickets: BTreeMap::new(),
            tenants: (0..TENANTS).map(|_| Log::default()).collect(),
            backends: (0..BACKENDS).map(|_| Log::default()).collect(),
            paused_until_ns: vec![0; BACKENDS as usize],
            causes: 0,
            wake_ups: 0,
        };
        (0..BACKENDS).for_each(|backend| world.act(Event::BackendLimit(backend, 0, 0)));
        world
    }

    fn pick(&self, pick: usize, runs: bool) -> Option<TicketId> {
        let some = self.tickets.iter().filter(|(_, known)| !runs || known.runs.is_some());
        let some: Vec<TicketId> = some.map(|(&id, _)| id).collect();
        (!some.is_empty()).then(|| some[pick % some.len()])
    }

    fn act(&mut self, event: Event) {
        let now_ns = self.now_ns;
        self.causes += 1;
        match event {
            Event::Submit { tenant, class, input, output, count } => {
                self.submit(tenant, class, input, output, count);
            }
            Event::FirstToken(pick) => {
                let Some(id) = self.pick(pick, true) else { return };
                self.scheduler.first_token(now_ns, id).unwrap();
                let (_, _, first_token) = self.tickets.get_mut(&id).unwrap().runs.as_mut().unwrap();
                *first_token = true;
            }
            Event::Finish(pick, outcome, usage) => {
                let Some(id) = self.pick(pick, true) else { return };
                self.scheduler.finish_with_usage(now_ns, id, outcome, usage).unwrap();
                self.settle(id, Some(outcome), usage);
                self.tickets.remove(&id);
            }
            Event::Retry(pick, delay_ns) => {
                let Some(id) = self.pick(pick, true) else { return };
                let not_before_ns = now_ns + delay_ns;
                assert!(self.scheduler.retry(now_ns, id, not_before_ns, false, false).unwrap().is_queued());
                self.settle(id, None, None);
                let known = self.tickets.get_mut(&id).unwrap();
                (known.not_before_ns, known.runs) = (not_before_ns, None);
            }
            Event::Cancel(pick) => {
                let Some(id) = self.pick(pick, false) else { return };
                if !self.scheduler.cancel(now_ns, id).in_flight.is_empty() {
                    self.scheduler.finish(now_ns, id, Outcome::Cancelled).unwrap();
                    self.settle(id, Some(Outcome::Cancelled), None);
                }
                self.tickets.remove(&id);
            }
            Event::TenantLimit(tenant, rpm, tpm) => {
                self.scheduler.set_tenant_limits(now_ns, tenant, rpm, tpm).unwrap();
                self.tenants[tenant as usize].set(rpm, tpm);
                // What is released after the change is told apart from what was released before by its time.
                self.now_ns += 1;
            }
            Event::BackendLimit(backend, requests_per_min, tokens_per_min) => {
                let config = BackendConfig { requests_per_min, tokens_per_min, ..plain(1_000) };
                self.scheduler.update_backend(now_ns, backend, config).unwrap();
                self.backends[backend as usize].set(requests_per_min, tokens_per_min);
                self.now_ns += 1;
            }
            Event::Pause(backend, for_ns) => {
                self.scheduler.pause(now_ns, backend, None, now_ns + for_ns);
                let until_ns = &mut self.paused_until_ns[backend as usize];
                *until_ns = (*until_ns).max(now_ns + for_ns);
            }
            Event::Advance(by_ns) => self.advance(by_ns),
        }
    }

    fn submit(&mut self, tenant: TenantId, class: u32, input: u32, output: u32, count: usize) {
        let prompt = Prompt { class, tokens: input, output_tokens: output, ..Prompt::default() };
        let known = Known { tenant, class, input, output, not_before_ns: 0, runs: None };
        let options = BatchOptions { tenant, ..BatchOptions::default() };
        let batch = u64::from(tenant);
        let limit = self.tenants[tenant as usize].tokens_per_min;
        match self.scheduler.submit(self.now_ns, batch, &vec![prompt; count], options) {
            Ok(tickets) => {
                assert!(limit == 0 || known.tokens() <= limit);
                self.tickets.extend(tickets.into_iter().map(|id| (id, known)));
            }
            Err(refused) => {
                let expected = Error::AboveLimit { tokens: known.tokens(), limit, tenant: Some(tenant) };
                assert_eq!(refused, expected);
                assert!(known.tokens() > limit);
            }
        }
    }

    /// A backend's limit is settled by what it says it used only, cached input too; a tenant's also by what a failure cannot have used.
    fn settle(&mut self, id: TicketId, outcome: Option<Outcome>, usage: Option<Usage>) {
        let known = self.tickets[&id];
        let (backend, released_ns, first_token) = known.runs.unwrap();
        let used = |usage: Usage| {
            let input = u64::from(usage.uncached_input_tokens) + u64::from(usage.cached_input_tokens);
            input + u64::from(usage.output_tokens)
        };
        if let Some(usage) = usage {
            self.backends[backend as usize].settle(released_ns, id, used(usage));
        }
        let used = match (usage, outcome) {
            (Some(usage), _) => used(usage),
            (None, None | Some(Outcome::Failed)) if !first_token => 0,
            (None, Some(Outcome::Cancelled | Outcome::Expired)) if !first_token => u64::from(known.input),
            (None, _) => known.tokens(),
        };
        self.tenants[known.tenant as usize].settle(released_ns, id, used);
    }

    /// Goes from deadline to deadline.
    fn advance(&mut self, by_ns: u64) {
        let until_ns = self.now_ns + by_ns;
        while let Some(at_ns) = self.scheduler.next_deadline().filter(|&at_ns| at_ns <= until_ns) {
            assert!(at_ns > self.now_ns, "what is due was done");
            self.now_ns = at_ns;
            self.wake_ups += 1;
            self.poll();
        }
        self.now_ns = until_ns;
    }

    fn poll(&mut self) {
        let decisions = self.scheduler.poll(self.now_ns);
        assert!(decisions.expired.is_empty() && decisions.overdue.is_empty());
        for limited in &decisions.limited {
            assert!(limited.reset_at_ns > self.now_ns);
        }
        for dispatch in decisions.dispatches {
            self.released(dispatch);
        }
        for tenant in 0..TENANTS {
            self.nothing_waits_in_vain(tenant);
        }
    }

    fn is_ready(&self, known: &Known) -> bool {
        known.runs.is_none() && known.not_before_ns <= self.now_ns
    }

    fn released(&mut self, dispatch: Dispatch) {
        let (now_ns, id) = (self.now_ns, dispatch.ticket);
        let known = self.tickets[&id];
        assert!(self.is_ready(&known));
        let earlier =
            self.tickets.iter().filter(|(_, other)| other.tenant == known.tenant && self.is_ready(other));
        let first = earlier.map(|(&other, waits)| (waits.class, other)).min();
        assert_eq!(first, Some((known.class, id)), "waiters of a tenant go by class and arrival");
        assert!(self.paused_until_ns[dispatch.backend as usize] <= now_ns);
        self.tenants[known.tenant as usize].charge(now_ns, id, known.tokens());
        self.backends[dispatch.backend as usize].charge(now_ns, id, known.tokens());
        self.tickets.get_mut(&id).unwrap().runs = Some((dispatch.backend, now_ns, false));
        // Requests and tokens of its tenant and of its backend each open once for it.
        self.causes += 4;
    }

    /// The first that waits of a tenant waits for a limit that is reached, give or take a tenth of a second.
    fn nothing_waits_in_vain(&self, tenant: TenantId) {
        let ready = self.tickets.iter().filter(|(_, known)| self.is_ready(known));
        let of_tenant = ready.clone().filter(|(_, known)| known.tenant == tenant);
        let Some((_, head)) = of_tenant.min_by_key(|&(id, known)| (known.class, *id)) else { return };
        if !self.tenants[tenant as usize].lets_in(self.now_ns, head.tokens()) {
            return;
        }
        for (backend, log) in self.backends.iter().enumerate() {
            let is_paused = self.paused_until_ns[backend] > self.now_ns;
            // It may be kept for another tenant's prompt that does not fit.
            let lets_all_in = ready.clone().all(|(_, known)| log.lets_in(self.now_ns, known.tokens()));
            assert!(is_paused || !lets_all_in, "a prompt of tenant {tenant} waits for nothing");
        }
    }

    /// Everything that waits goes in the end, by its own timers.
    fn drain(&mut self) {
        while !self.tickets.is_empty() {
            while let Some(id) = self.pick(0, true) {
                self.scheduler.finish(self.now_ns, id, Outcome::Success).unwrap();
                self.settle(id, Some(Outcome::Success), None);
                self.tickets.remove(&id);
            }
            self.poll();
            if self.pick(0, true).is_none() && !self.tickets.is_empty() {
                let at_ns = self.scheduler.next_deadline().expect("what waits has a timer");
                self.advance(at_ns - self.now_ns);
            }
        }
    }
}

seeded! {
    /// Over any minute no limit is exceeded, under whatever arrivals, retries, cancels and changes of limits; what a
    /// limit keeps back goes in the order of its tenant when it opens; wake-ups are as many as things that happened.
    #[test]
    fn limits_hold(events in prop::collection::vec(events(), 1..120)) {
        let mut world = World::new();
        for event in events {
            world.act(event);
            world.poll();
        }
        world.drain();
        prop_assert!(world.wake_ups <= world.causes, "{} wake-ups for {}", world.wake_ups, world.causes);
    }
}
