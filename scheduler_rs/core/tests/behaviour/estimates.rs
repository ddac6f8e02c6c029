//! What is learned of a backend, and what follows from it.

use crate::driver::{Driver, MS, SECOND, laned, plain, policy, serving};
use expresslane_scheduler::{
    BackendConfig, BackendSnapshot, Config, Fairness, Outcome, RATIO_BOUNDS, RatioName, TicketId, Usage,
};

/// An engine: 20 ms, and 100 us a token.
fn prefill_ns(tokens: u32) -> u64 {
    20 * MS + u64::from(tokens) * 100_000
}

impl Driver {
    fn snapshot_of(&self, backend: usize) -> BackendSnapshot {
        self.scheduler.snapshot().backends[backend].clone()
    }

    /// One prompt from its submit to its end, with nothing beside it.
    fn alone(&mut self, tokens: u32, decode_ns: u64) {
        let ticket = self.submit(1, &[tokens])[0];
        assert_eq!(self.released(), [ticket]);
        self.advance(prefill_ns(tokens));
        self.first_token(ticket);
        self.advance(decode_ns);
        self.finish(ticket);
    }

    /// Releases a prompt and lets its answer go on for a second.
    fn begin(&mut self, ticket: TicketId) {
        assert_eq!(self.released(), [ticket]);
        self.advance(30 * MS);
        self.first_token(ticket);
        self.advance(SECOND);
    }

    /// How many prefills and decode times the first backend's estimates know.
    fn samples(&self) -> (u64, u64) {
        let snapshot = self.snapshot_of(0);
        (snapshot.prefill_samples, snapshot.decode_samples)
    }

    fn finish_with(&mut self, ticket: TicketId, uncached_input_tokens: u32) {
        let usage = Some(Usage { uncached_input_tokens, cached_input_tokens: 700, output_tokens: 5 });
        self.scheduler.finish_with_usage(self.now_ns, ticket, Outcome::Success, usage).unwrap();
    }

    /// Teaches the first backend its prefill times and a decode time.
    fn teach(&mut self, decode_ns: u64) {
        for round in 0..4 {
            for tokens in [100, 400, 1_600, 6_400] {
                self.alone(tokens + round, decode_ns);
            }
        }
        self.advance(SECOND);
        self.alone(1_000, decode_ns);
    }
}

fn milliseconds(snapshot: &BackendSnapshot, tokens: f64) -> f64 {
    let [c0, c1, c2] = snapshot.prefill_ns;
    (c0 + c1 * tokens + c2 * tokens * tokens) / 1e6
}

/// The times of prompts that were alone give the backend's curve; before, the configured rate holds.
#[test]
fn prefill_is_learned() {
    let mut driver = Driver::with("hrrn", &[plain(4)]);
    let before = driver.snapshot_of(0);
    assert_eq!((before.prefill_samples, before.decode_samples), (0, 0));
    assert!((milliseconds(&before, 1_000.0) - 205.0).abs() < 1e-6, "5,000 tokens per second");
    driver.teach(SECOND);
    let learned = driver.snapshot_of(0);
    assert_eq!(learned.prefill_samples, 17);
    for tokens in [100, 1_000, 6_000] {
        let (found, actual) = (milliseconds(&learned, f64::from(tokens)), prefill_ns(tokens) as f64 / 1e6);
        assert!((found / actual - 1.0).abs() < 0.02, "{tokens} tokens: {found} ms instead of {actual}");
    }
    assert!((learned.decode_ns / 1e9 - 1.0).abs() < 1e-6);
}

/// A prefill that another one overlapped at any time teaches nothing; a decode time is one all the same.
#[test]
fn only_alone() {
    let mut driver = Driver::with("hrrn", &[plain(4)]);
    let (first, second) = (driver.submit(1, &[100])[0], driver.submit(1, &[100])[0]);
    assert_eq!(driver.released(), [first, second]);
    for ticket in [first, second] {
        driver.advance(30 * MS);
        driver.first_token(ticket);
        driver.finish(ticket);
    }
    assert_eq!(driver.samples(), (0, 2), "two at once");

    let early = driver.submit(1, &[100])[0];
    driver.released();
    driver.advance(30 * MS);
    let late = driver.submit(1, &[100])[0];
    driver.released();
    driver.finish(late);
    driver.first_token(early);
    driver.finish(early);
    assert_eq!(driver.samples(), (0, 3), "one that came later and left earlier, without a first token");

    let decoding = driver.submit(1, &[100])[0];
    driver.released();
    driver.first_token(decoding);
    driver.alone(100, SECOND);
    driver.finish(decoding);
    assert_eq!(driver.samples(), (2, 5), "what only decodes is not in prefill");
}

/// Only answers that came to their end tell how long decoding takes: of what failed, was cancelled, ran out of time or is
/// tried again nobody knows how long it would have gone on.
#[test]
fn only_whole_answers() {
    let mut driver = Driver::with("hrrn", &[plain(1)]);
    for (so_far, outcome) in (1..).zip([Outcome::Failed, Outcome::Cancelled, Outcome::Expired]) {
        let ticket = driver.submit(1, &[100])[0];
        driver.begin(ticket);
        driver.scheduler.finish(driver.now_ns, ticket, outcome).unwrap();
        assert_eq!(driver.samples(), (so_far, 0), "{outcome:?}");
    }
    let ticket = driver.submit(1, &[100])[0];
    driver.begin(ticket);
    assert!(driver.retry(ticket, 0, false));
    assert_eq!(driver.samples(), (3, 0), "tried again");
    driver.begin(ticket);
    driver.finish(ticket);
    assert_eq!(driver.samples(), (4, 1));
}

/// Prefills at another backend are no company.
#[test]
fn alone_at_its_own_backend() {
    let mut driver = Driver::with("hrrn", &[plain(1), plain(1)]);
    let tickets = driver.submit(1, &[100, 100]);
    driver.released();
    for &ticket in &tickets {
        driver.advance(30 * MS);
        driver.first_token(ticket);
        driver.finish(ticket);
    }
    assert_eq!([0, 1].map(|backend| driver.snapshot_of(backend).prefill_samples), [1, 1]);
}

/// Each attempt is measured by itself: what a retry did before does not count.
#[test]
fn retries_are_measured_alone() {
    let mut driver = Driver::with("hrrn", &[plain(1)]);
    let ticket = driver.submit(1, &[100])[0];
    driver.released();
    driver.advance(SECOND);
    driver.first_token(ticket);
    driver.advance(SECOND);
    assert!(driver.retry(ticket, 0, false));
    driver.released();
    driver.advance(SECOND);
    driver.finish(ticket);
    let snapshot = driver.snapshot_of(0);
    assert_eq!((snapshot.prefill_samples, snapshot.decode_samples), (0, 0), "no first token the second time");
}

/// Where the usage tells the uncached tokens, the curve is one of those, and the estimate is compared to them.
#[test]
fn usage_counts() {
    let mut driver = Driver::with("hrrn", &[plain(4)]);
    for round in 0..40 {
        let tokens = [100, 400, 1_600, 6_400][round % 4];
        // Half of each prompt is cached, and the engine is as quick as that makes it.
        let ticket = driver.submit(1, &[2 * tokens])[0];
        driver.released();
        driver.advance(prefill_ns(tokens));
        driver.first_token(ticket);
        driver.advance(SECOND);
        driver.finish_with(ticket, tokens);
    }
    let found = milliseconds(&driver.snapshot_of(0), 1_600.0);
    assert!((found / 180.0 - 1.0).abs() < 0.02, "{found} ms instead of 180");
    let ratios = driver.scheduler.snapshot().ratios;
    let tokens = ratios.iter().find(|ratio| ratio.name == RatioName::InputTokens).unwrap();
    assert_eq!((tokens.counts.iter().sum::<u64>(), tokens.sum, tokens.class), (40, 80.0, 1));
    assert_eq!(tokens.counts[RATIO_BOUNDS.iter().position(|&bound| bound >= 2.0).unwrap()], 40);
    let prefill = ratios.iter().find(|ratio| ratio.name == RatioName::Prefill).unwrap();
    let near = RATIO_BOUNDS.iter().position(|&bound| bound >= 1.1).unwrap();
    assert!(prefill.counts[near] >= 30, "most predictions are right: {:?}", prefill.counts);
}

/// With a decode time that prevails `hrrn` lets a short prompt pass only who has not waited much longer.
#[test]
fn decode_time_tempers_hrrn() {
    // A long prompt has waited 10 s when a short one comes, which then waits 1 s.
    let first = |decode_ns| {
        let mut driver = Driver::with("hrrn", &[plain(1)]);
        driver.teach(decode_ns);
        let blocker = driver.submit(9, &[1])[0];
        driver.released();
        let long = driver.submit(1, &[6_400])[0];
        driver.advance(10 * SECOND);
        let short = driver.submit(1, &[100])[0];
        driver.advance(SECOND);
        driver.finish(blocker);
        if driver.released() == [long] {
            "long"
        } else {
            assert!(long < short);
            "short"
        }
    };
    // By prefill alone, 30 and 660 ms: 11 / 0.66 is less than 1 / 0.03.
    assert_eq!(first(0), "short");
    assert_eq!(first(10 * SECOND), "long");
}

/// With a learned decode time the bound on what overtakes a long prompt is that of the service times (G08).
#[test]
fn overtaking_bound_with_decode_time() {
    for name in ["hrrn", "lars"] {
        let config = Config { policy: policy(name), fairness: Fairness::None, ..Config::default() };
        let mut driver = Driver::new(config);
        driver.backend(0, plain(1));
        driver.teach(2 * SECOND);
        let [c0, c1, c2] = driver.snapshot_of(0).prefill_ns;
        let service_s = |tokens: f64| (c0 + c1 * tokens + c2 * tokens * tokens) / 1e9 + 2.0;
        // Buckets score by their edges: 64 and 8,192 are edges.
        let ratio = service_s(8_192.0) / service_s(64.0);
        let blocker = driver.submit(9, &[1])[0];
        driver.released();
        let long = driver.submit(1, &[8_192])[0];
        driver.submit(2, &[64; 50]);
        driver.advance(SECOND);
        driver.finish(blocker);
        let mut passed = 0;
        loop {
            let ticket = driver.released()[0];
            if ticket == long {
                break;
            }
            passed += 1;
            driver.submit(2, &[64]);
            driver.advance(prefill_ns(64));
            driver.first_token(ticket);
            driver.advance(2 * SECOND);
            driver.finish(ticket);
            assert!(passed < 1_000, "the long prompt starves under {name}");
        }
        // A backlog of 50 waits 50 services, so nothing that waits less than 1 / ratio of the long one passes.
        let bound = 50.0 * ratio + 50.0;
        assert!(f64::from(passed) <= bound, "{passed} passed under {name}, the bound is {bound}");
        assert!(ratio < 1.5, "decoding prevails: {ratio}");
        assert!(passed >= 50, "nothing that came with it passed it");
    }
}

/// Two backends of the same description: work goes to the one that has turned out to be faster.
#[test]
fn routing_follows_what_is_learned() {
    let mut driver = Driver::with("fcfs", &[BackendConfig { prefill_tokens_per_s: 4_000.0, ..plain(8) }]);
    driver.teach(0);
    driver.backend(1, BackendConfig { prefill_tokens_per_s: 4_000.0, ..plain(8) });
    driver.submit(1, &[4_096; 3]);
    let backends: Vec<_> = driver.dispatches().iter().map(|dispatch| dispatch.backend).collect();
    assert_eq!(backends, [0, 0, 1], "0.4 s each at the first, 1 s at the second");
}

/// What is learned outlives a new description of the backend.
#[test]
fn kept_over_an_update() {
    let mut driver = Driver::with("hrrn", &[plain(4)]);
    driver.teach(SECOND);
    let learned = driver.snapshot_of(0).prefill_ns;
    driver.backend(0, BackendConfig { prefill_tokens_per_s: 77.0, ..plain(3) });
    let kept = driver.snapshot_of(0);
    let change = (0..3).map(|at| (kept.prefill_ns[at] - learned[at]).abs()).fold(0.0, f64::max);
    assert!(change < 0.01 * learned[0], "{:?} instead of {learned:?}", kept.prefill_ns);
}

/// Left open, the lanes follow the engine; what the caller says holds.
#[test]
fn lanes_left_open() {
    let open = BackendConfig {
        lanes: true,
        engine_step_tokens: 2_048,
        engine_chunk_tokens: 512,
        models: serving(&[0]),
        cap: 64,
        ..BackendConfig::default()
    };
    let mut driver = Driver::with("fcfs", &[open.clone(), laned(2, 4_096)]);
    let in_force = |driver: &Driver, backend| {
        let snapshot = driver.snapshot_of(backend);
        (snapshot.long_slots, snapshot.short_budget_tokens)
    };
    assert_eq!([in_force(&driver, 0), in_force(&driver, 1)], [(3, 65_536), (2, 4_096)]);
    driver.backend(1, BackendConfig { available: false, ..plain(1) });
    driver.submit(1, &[20_000; 5]);
    assert_eq!(driver.released().len(), 3);
    driver.submit(1, &[16_384; 5]);
    assert_eq!(driver.released().len(), 4, "16,384 tokens are short, and four of them fill the budget");
}

/// A fast engine far away gets a larger short budget once its times are known.
#[test]
fn short_budget_is_learned() {
    let far = BackendConfig { lanes: true, models: serving(&[0]), cap: 64, ..BackendConfig::default() };
    let mut driver = Driver::with("fcfs", &[far]);
    assert_eq!(driver.snapshot_of(0).short_budget_tokens, 65_536, "no less, whatever the engine");
    for round in 0..60 {
        let tokens = [100, 400, 1_600, 6_400][round % 4];
        let ticket = driver.submit(1, &[tokens])[0];
        driver.released();
        // A second there and back, 100,000 tokens per second.
        driver.advance(SECOND + u64::from(tokens) * 10_000);
        driver.first_token(ticket);
        driver.advance(SECOND);
        driver.finish(ticket);
    }
    let budget = driver.snapshot_of(0).short_budget_tokens;
    let expected = 2.0 * 100_000.0 + 2_048.0;
    assert!((f64::from(budget) / expected - 1.0).abs() < 0.1, "{budget} instead of {expected}");
    driver.submit(1, &[4_096; 100]);
    let released = driver.released().len();
    assert_eq!(released, budget as usize / 4_096);
}

/// Left open, the short budget has room for a chat's prompt in each slot while a long one is in prefill, also after the
/// cap has changed; the caller's own does not follow the cap.
#[test]
fn short_budget_fills_the_slots() {
    let open = |cap| BackendConfig { lanes: true, models: serving(&[0]), cap, ..BackendConfig::default() };
    let mut driver = Driver::with("fcfs", &[open(64)]);
    driver.submit(1, &[60_000]);
    driver.submit(1, &[1_024; 512]);
    assert_eq!(driver.released().len(), 64, "a long prompt, and 63 short ones in the other slots");
    driver.backend(0, open(256));
    assert_eq!(driver.snapshot_of(0).short_budget_tokens, 262_144);
    assert_eq!(driver.released().len(), 192, "every slot");
    driver.backend(0, BackendConfig { short_budget_tokens: Some(65_536), ..open(512) });
    assert_eq!(driver.released().len(), 0, "the caller's own budget is full");
}

/// Contradictions are refused by name, and nothing changes.
#[test]
fn refusals() {
    let mut driver = Driver::with("fcfs", &[laned(2, 4_096)]);
    let refused = [
        (BackendConfig { engine_chunk_tokens: 512, ..laned(1, 0) }, "engine_chunk_tokens = 512"),
        (
            BackendConfig { engine_chunk_tokens: 4_096, engine_step_tokens: 2_048, ..laned(1, 0) },
            "engine_step_tokens (2048)",
        ),
        (BackendConfig { engine_step_tokens: 2_048, ..laned(1, 2_047) }, "short_budget_tokens = 2047"),
        (
            BackendConfig { engine_step_tokens: 2_048, engine_chunk_tokens: 512, ..laned(1, 511) },
            "one chunk of the engine (512)",
        ),
    ];
    for (config, expected) in refused {
        let error = driver.scheduler.update_backend(0, 0, config).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let snapshot = driver.snapshot_of(0);
    assert_eq!((snapshot.long_slots, snapshot.short_budget_tokens), (2, 4_096));
    driver.backend(0, BackendConfig { engine_step_tokens: 2_048, engine_chunk_tokens: 512, ..laned(1, 512) });
}
