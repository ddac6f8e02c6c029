//! Breakers against a naive machine, along random traces.

use crate::breaker::{End, QUICK, breaker, breaking, end};
use crate::driver::{Driver, MS, SECOND};
use crate::seeded::seeded;
use expresslane_scheduler::{BackendSnapshot, BreakerConfig, BreakerState, TicketId};
use proptest::prelude::*;

/// What a prompt of ten tokens is charged: the edge of its bucket.
const CHARGE: f64 = 11.0;

/// The same state machine, with all samples in a list.
struct Naive {
    config: BreakerConfig,
    state: BreakerState,
    since_ns: u64,
    until_ns: u64,
    repeats: u32,
    opened: u64,
    samples: Vec<(u64, bool)>,
    out: u32,
    good: u32,
    /// Until when the probes that are out are waited for.
    due_ns: u64,
    /// How often in a row they were not judged by then.
    overdue: u32,
    /// When it opened after it was last closed.
    down_since_ns: u64,
}

impl Naive {
    fn new(config: BreakerConfig) -> Self {
        let (samples, state) = (Vec::new(), BreakerState::Closed);
        let (since_ns, until_ns, due_ns, down_since_ns) = (0, 0, 0, 0);
        let (repeats, opened, out, good, overdue) = (0, 0, 0, 0, 0);
        Self {
            config,
            state,
            since_ns,
            until_ns,
            repeats,
            opened,
            samples,
            out,
            good,
            due_ns,
            overdue,
            down_since_ns,
        }
    }

    fn enter(&mut self, state: BreakerState, now_ns: u64) {
        (self.state, self.since_ns) = (state, now_ns);
        (self.out, self.good) = (0, 0);
        self.samples.clear();
    }

    fn open(&mut self, now_ns: u64) {
        if self.state == BreakerState::Closed {
            self.down_since_ns = now_ns;
        }
        let open_ns = (0..self.repeats).fold(self.config.open_ns, |open_ns, _| open_ns.saturating_mul(2));
        self.until_ns = now_ns + open_ns.min(self.config.open_max_ns);
        self.opened += 1;
        self.enter(BreakerState::Open, now_ns);
    }

    /// Probes that have told nothing in their time.
    fn give_up(&mut self, now_ns: u64) {
        if self.state == BreakerState::HalfOpen && self.out > 0 && now_ns >= self.due_ns {
            self.overdue += 1;
            self.repeats += 1;
            self.open(now_ns);
        }
    }

    /// What is released while it is half-open has half a minute, doubled for each that was in vain, or four times what it
    /// is expected to take, and no more than ten minutes.
    fn probe(&mut self, now_ns: u64, expected_ns: f64) {
        let least_ns = (0..self.overdue).fold(30 * SECOND, |least_ns, _| least_ns.saturating_mul(2));
        #[expect(clippy::cast_sign_loss, reason = "no time is below 0")]
        let expected_ns = (4.0 * expected_ns) as u64;
        self.due_ns = now_ns + least_ns.max(expected_ns).min(600 * SECOND);
        self.out += 1;
    }

    fn tick(&mut self, now_ns: u64) {
        if self.state == BreakerState::Open && now_ns >= self.until_ns {
            self.enter(BreakerState::HalfOpen, now_ns);
        }
    }

    /// Whether it has room for one more now.
    fn takes(&self) -> bool {
        match self.state {
            BreakerState::Closed => true,
            BreakerState::Open => false,
            BreakerState::HalfOpen => self.out + self.good < self.config.probes,
        }
    }

    /// Whether a time is within the window, which slides by a tenth at a time.
    fn is_recent(&self, at_ns: u64, now_ns: u64) -> bool {
        let tenth_ns = self.config.window_ns / 10;
        at_ns / tenth_ns + 10 > now_ns / tenth_ns
    }

    /// What an attempt says that has not said anything yet. `pending` are the times at which those were released that
    /// still have not.
    fn told(&mut self, now_ns: u64, released_ns: u64, end: End, pending: &[u64]) {
        if released_ns < self.since_ns {
            return;
        }
        let is_good = end == End::Good;
        match self.state {
            BreakerState::Open => {}
            BreakerState::Closed => {
                if matches!(end, End::Good | End::Bad) {
                    self.samples.push((now_ns, is_good));
                }
                let samples = self.samples.iter().filter(|(at_ns, _)| self.is_recent(*at_ns, now_ns));
                let recent: Vec<bool> = samples.map(|&(_, is_good)| is_good).collect();
                let is_fresh = now_ns - self.since_ns < self.config.window_ns;
                let is_pending =
                    |at_ns: &&u64| is_fresh && **at_ns >= self.since_ns && self.is_recent(**at_ns, now_ns);
                let (told, bad) = (recent.len(), recent.iter().filter(|&&is_good| !is_good).count());
                let all = told + pending.iter().filter(is_pending).count();
                let is_failing = bad as f64 >= self.config.error_ratio * all as f64;
                if end == End::Bad && told >= self.config.min_samples as usize && is_failing {
                    let is_repeat = self.opened > 0 && now_ns - self.since_ns < self.config.window_ns;
                    self.repeats = if is_repeat { self.repeats + 1 } else { 0 };
                    self.open(now_ns);
                }
            }
            BreakerState::HalfOpen => {
                self.out -= 1;
                self.good += u32::from(is_good);
                if end == End::Bad {
                    self.overdue = 0;
                    self.repeats += 1;
                    self.open(now_ns);
                } else if self.good == self.config.probes {
                    self.overdue = 0;
                    self.enter(BreakerState::Closed, now_ns);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Submit(usize),
    FirstToken(usize),
    End(usize, End),
    Retry(usize, bool),
    Advance(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    let ends = vec![End::Good, End::Bad, End::Bad, End::CallerError, End::Cancel, End::CancelBlamed];
    prop_oneof![
        3 => (1..4_usize).prop_map(Step::Submit),
        3 => any::<usize>().prop_map(Step::FirstToken),
        6 => (any::<usize>(), prop::sample::select(ends)).prop_map(|(pick, end)| Step::End(pick, end)),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(pick, blamed)| Step::Retry(pick, blamed)),
        3 => prop::sample::select(vec![MS, SECOND, 5 * SECOND, 20 * SECOND, 90 * SECOND]).prop_map(Step::Advance),
    ]
}

fn configs() -> impl Strategy<Value = BreakerConfig> {
    let times = prop::sample::select(vec![SECOND, 7 * SECOND, 30 * SECOND]);
    (0.01..=1.0_f64, 1..6_u32, times, 1..4_u32).prop_map(|(error_ratio, min_samples, window_ns, probes)| {
        BreakerConfig { error_ratio, min_samples, window_ns, probes, ..QUICK }
    })
}

#[derive(Clone, Copy)]
struct Attempt {
    ticket: TicketId,
    released_ns: u64,
    has_token: bool,
    /// Whether it was the first token of a probe, which says all.
    is_told: bool,
}

struct World {
    naive: Naive,
    /// With the time since when they wait.
    waiting: Vec<(TicketId, u64)>,
    in_flight: Vec<Attempt>,
}

impl World {
    fn step(&mut self, driver: &mut Driver, step: &Step) {
        match *step {
            Step::Submit(count) => {
                let tickets = driver.submit(1, &vec![10; count]);
                self.waiting.extend(tickets.into_iter().map(|ticket| (ticket, driver.now_ns)));
            }
            Step::End(pick, how) if !self.in_flight.is_empty() => {
                let attempt = self.in_flight.swap_remove(pick % self.in_flight.len());
                end(driver, attempt.ticket, how);
                self.tell(driver.now_ns, attempt, how);
            }
            Step::FirstToken(pick) if !self.in_flight.is_empty() => {
                let at = pick % self.in_flight.len();
                let attempt = &mut self.in_flight[at];
                let is_first = driver.scheduler.first_token(driver.now_ns, attempt.ticket);
                assert_eq!(is_first, Ok(!std::mem::replace(&mut attempt.has_token, true)));
                if is_first == Ok(true) && self.naive.state == BreakerState::HalfOpen {
                    let attempt = *attempt;
                    self.tell(driver.now_ns, attempt, End::Good);
                    self.in_flight[at].is_told = true;
                }
            }
            Step::Retry(pick, blamed) if !self.in_flight.is_empty() => {
                let attempt = self.in_flight.swap_remove(pick % self.in_flight.len());
                let ticket = attempt.ticket;
                if blamed {
                    driver.scheduler.blame(driver.now_ns, ticket).expect("it is in flight");
                }
                assert!(driver.retry(ticket, 0, false));
                self.waiting.push((ticket, driver.now_ns));
                let how = if blamed { End::Bad } else { End::CallerError };
                self.tell(driver.now_ns, attempt, how);
            }
            Step::Advance(by_ns) => driver.advance(by_ns),
            Step::FirstToken(_) | Step::End(..) | Step::Retry(..) => {}
        }
    }

    fn tell(&mut self, now_ns: u64, attempt: Attempt, how: End) {
        if !attempt.is_told {
            let pending = self.in_flight.iter().filter(|one| !one.is_told && one.ticket != attempt.ticket);
            let pending: Vec<_> = pending.map(|one| one.released_ns).collect();
            self.naive.told(now_ns, attempt.released_ns, how, &pending);
        }
    }

    /// What has waited ten seconds for a backend that is down; while probes are to come or out nobody knows that it is.
    fn due(&self, now_ns: u64) -> Vec<TicketId> {
        let is_due = |since_ns: u64| since_ns.max(self.naive.down_since_ns) + 10 * SECOND <= now_ns;
        let is_open = self.naive.state == BreakerState::Open;
        let due = self.waiting.iter().filter(|&&(_, since_ns)| is_open && is_due(since_ns));
        due.map(|&(ticket, _)| ticket).collect()
    }

    /// What an answer that is asked for now is expected to take, beside those that are on their way.
    fn expected_ns(&self, before: &BackendSnapshot) -> f64 {
        let in_prefill = self.in_flight.iter().filter(|attempt| !attempt.has_token).count() as f64 + 1.0;
        let [c0, c1, c2] = before.prefill_ns;
        c0 + c1 * (CHARGE * in_prefill) + c2 * (CHARGE * CHARGE * in_prefill) + before.decode_ns
    }

    /// Everything that the naive breaker lets in goes, and nothing else; what is due ends, and nothing else.
    fn poll(&mut self, driver: &mut Driver) {
        let before = driver.scheduler.snapshot().backends[0].clone();
        let decisions = driver.poll();
        self.naive.give_up(driver.now_ns);
        let mut due = self.due(driver.now_ns);
        let mut expired: Vec<_> = decisions.expired.iter().map(|one| one.ticket).collect();
        due.sort_unstable();
        expired.sort_unstable();
        assert_eq!(expired, due, "{:?} since {}", self.naive.state, self.naive.since_ns);
        self.waiting.retain(|(ticket, _)| !expired.contains(ticket));
        self.naive.tick(driver.now_ns);
        for dispatch in decisions.dispatches {
            assert!(self.naive.takes(), "released to a backend that is {:?}", self.naive.state);
            if self.naive.state == BreakerState::HalfOpen {
                self.naive.probe(driver.now_ns, self.expected_ns(&before));
            }
            self.waiting.retain(|&(ticket, _)| ticket != dispatch.ticket);
            let (ticket, released_ns) = (dispatch.ticket, driver.now_ns);
            self.in_flight.push(Attempt { ticket, released_ns, has_token: false, is_told: false });
        }
        assert!(self.waiting.is_empty() || !self.naive.takes(), "{} wait for nothing", self.waiting.len());
        let snapshot = breaker(driver);
        assert_eq!(
            (snapshot.state, snapshot.since_ns, snapshot.opened),
            (self.naive.state, self.naive.since_ns, self.naive.opened)
        );
        let is_tripped = self.naive.state != BreakerState::Closed;
        let tripped: Vec<_> = is_tripped.then_some((0, snapshot)).into_iter().collect();
        assert_eq!(driver.scheduler.tripped_breakers(), tripped);
    }
}

seeded! {
    /// Whatever ends in whatever order, it is in the state that the naive machine is in, and lets in as much.
    #[test]
    fn like_the_model(config in configs(), steps in prop::collection::vec(steps(), 1..200)) {
        let mut driver = Driver::with("fcfs", &[breaking(1_000, config)]);
        let mut world = World { naive: Naive::new(config), waiting: Vec::new(), in_flight: Vec::new() };
        for step in &steps {
            world.step(&mut driver, step);
            world.poll(&mut driver);
        }
    }
}
