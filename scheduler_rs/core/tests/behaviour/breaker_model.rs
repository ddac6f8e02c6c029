//! Breakers against a naive machine, along random traces.

use crate::breaker::{End, QUICK, breaker, breaking, end};
use crate::driver::{Driver, MS, SECOND};
use crate::seeded::seeded;
use expresslane_scheduler::{BreakerConfig, BreakerState, TicketId};
use proptest::prelude::*;

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
}

impl Naive {
    fn new(config: BreakerConfig) -> Self {
        let (samples, state) = (Vec::new(), BreakerState::Closed);
        Self { config, state, since_ns: 0, until_ns: 0, repeats: 0, opened: 0, samples, out: 0, good: 0 }
    }

    fn enter(&mut self, state: BreakerState, now_ns: u64) {
        (self.state, self.since_ns) = (state, now_ns);
        (self.out, self.good) = (0, 0);
        self.samples.clear();
    }

    fn open(&mut self, now_ns: u64) {
        let open_ns = (0..self.repeats).fold(self.config.open_ns, |open_ns, _| open_ns.saturating_mul(2));
        self.until_ns = now_ns + open_ns.min(self.config.open_max_ns);
        self.opened += 1;
        self.enter(BreakerState::Open, now_ns);
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

    /// What an attempt says that has not said anything yet.
    fn told(&mut self, now_ns: u64, released_ns: u64, end: End) {
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
                // The window slides by a tenth at a time.
                let tenth_ns = self.config.window_ns / 10;
                self.samples.retain(|(at_ns, _)| at_ns / tenth_ns + 10 > now_ns / tenth_ns);
                let all = self.samples.len();
                let bad = self.samples.iter().filter(|(_, is_good)| !is_good).count();
                let is_failing = bad as f64 >= self.config.error_ratio * all as f64;
                if end == End::Bad && all >= self.config.min_samples as usize && is_failing {
                    let is_repeat = self.opened > 0 && now_ns - self.since_ns < self.config.window_ns;
                    self.repeats = if is_repeat { self.repeats + 1 } else { 0 };
                    self.open(now_ns);
                }
            }
            BreakerState::HalfOpen => {
                self.out -= 1;
                self.good += u32::from(is_good);
                if end == End::Bad {
                    self.repeats += 1;
                    self.open(now_ns);
                } else if self.good == self.config.probes {
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
        3 => prop::sample::select(vec![MS, SECOND, 5 * SECOND, 20 * SECOND]).prop_map(Step::Advance),
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
    waiting: usize,
    in_flight: Vec<Attempt>,
}

impl World {
    fn step(&mut self, driver: &mut Driver, step: &Step) {
        match *step {
            Step::Submit(count) => {
                driver.submit(1, &vec![10; count]);
                self.waiting += count;
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
                self.waiting += 1;
                let how = if blamed { End::Bad } else { End::CallerError };
                self.tell(driver.now_ns, attempt, how);
            }
            Step::Advance(by_ns) => driver.advance(by_ns),
            Step::FirstToken(_) | Step::End(..) | Step::Retry(..) => {}
        }
    }

    fn tell(&mut self, now_ns: u64, attempt: Attempt, how: End) {
        if !attempt.is_told {
            self.naive.told(now_ns, attempt.released_ns, how);
        }
    }

    /// Everything that the naive breaker lets in goes, and nothing else.
    fn poll(&mut self, driver: &mut Driver) {
        let decisions = driver.poll();
        self.waiting -= decisions.expired.len();
        self.naive.tick(driver.now_ns);
        for dispatch in decisions.dispatches {
            assert!(self.naive.takes(), "released to a backend that is {:?}", self.naive.state);
            self.naive.out += u32::from(self.naive.state == BreakerState::HalfOpen);
            self.waiting -= 1;
            let (ticket, released_ns) = (dispatch.ticket, driver.now_ns);
            self.in_flight.push(Attempt { ticket, released_ns, has_token: false, is_told: false });
        }
        assert!(self.waiting == 0 || !self.naive.takes(), "{} wait for nothing", self.waiting);
        let snapshot = breaker(driver);
        assert_eq!(
            (snapshot.state, snapshot.since_ns, snapshot.opened),
            (self.naive.state, self.naive.since_ns, self.naive.opened)
        );
    }
}

seeded! {
    /// Whatever ends in whatever order, it is in the state that the naive machine is in, and lets in as much.
    #[test]
    fn like_the_model(config in configs(), steps in prop::collection::vec(steps(), 1..200)) {
        let mut driver = Driver::with("fcfs", &[breaking(1_000, config)]);
        let mut world = World { naive: Naive::new(config), waiting: 0, in_flight: Vec::new() };
        for step in &steps {
            world.step(&mut driver, step);
            world.poll(&mut driver);
        }
    }
}
