//! The order in which waiting prompts are released: policies, classes, starvation bounds, promotion.

use crate::driver::{BULK, Driver, INTERACTIVE, MS, SECOND, STANDARD, laned, plain, policy};
use expresslane_scheduler::{BackendConfig, BatchOptions, Config, Fairness, Policy, TicketId};

/// The positions in which tickets of these sizes, submitted `gap_ns` apart, are released one at a time.
fn order(policy_name: &str, sizes: &[u32], gap_ns: u64) -> Vec<usize> {
    let mut driver = Driver::with(policy_name, &[plain(1)]);
    let blocker = driver.submit(9, &[1]);
    assert_eq!(driver.released(), blocker);
    let mut tickets = Vec::new();
    for &tokens in sizes {
        tickets.extend(driver.submit(1, &[tokens]));
        driver.advance(gap_ns);
    }
    driver.finish(blocker[0]);
    let released = driver.run_one_at_a_time(0);
    released.iter().map(|id| tickets.iter().position(|ticket| ticket == id).unwrap()).collect()
}

/// `fcfs` releases by arrival, whatever the sizes.
#[test]
fn fcfs() {
    assert_eq!(order("fcfs", &[9_000, 10, 500, 10], MS), [0, 1, 2, 3]);
}

/// `sjf` releases the shortest first, equal ones by arrival (G07).
#[test]
fn sjf() {
    assert_eq!(order("sjf", &[9_000, 500, 10, 500, 10], MS), [2, 4, 1, 3, 0]);
}

/// `ljf` releases the longest first.
#[test]
fn ljf() {
    assert_eq!(order("ljf", &[10, 500, 9_000, 10], MS), [2, 1, 0, 3]);
}

/// `hrrn` lets short prompts pass a long one that has waited as long (G07), and a long one pass once its wait counts.
#[test]
fn hrrn() {
    assert_eq!(order("hrrn", &[9_000, 10, 500, 10], MS), [1, 3, 2, 0]);
    let mut driver = Driver::with("hrrn", &[plain(1)]);
    let blocker = driver.submit(9, &[1]);
    driver.poll();
    let long = driver.submit(1, &[8_192]);
    driver.advance(300 * SECOND);
    let short = driver.submit(1, &[64]);
    driver.advance(MS);
    driver.finish(blocker[0]);
    assert_eq!(driver.released(), long);
    driver.finish(long[0]);
    assert_eq!(driver.released(), short);
}

/// `sjf-aged` lets a prompt pass only those that are larger by more than their head start is worth (G08).
#[test]
fn sjf_aged() {
    assert_eq!(order("sjf-aged", &[1_024, 64], 900 * MS), [1, 0]);
    assert_eq!(order("sjf-aged", &[1_024, 64], 1_000 * MS), [0, 1]);
}

/// Prompts of equal length leave in the order in which they came, under every policy (O07).
#[test]
fn equal_lengths_are_fifo() {
    for name in Policy::NAMES {
        assert_eq!(order(name, &[64; 20], MS), (0..20).collect::<Vec<_>>(), "{name}");
    }
}

/// A higher class goes first, whatever the sizes and waits.
#[test]
fn classes_are_strict() {
    let mut driver = Driver::with("hrrn", &[plain(1)]);
    let blocker = driver.submit_one(0, STANDARD, 1);
    driver.poll();
    let bulk = driver.submit_one(0, BULK, 1);
    driver.advance(1_000 * SECOND);
    let standard = driver.submit_one(0, STANDARD, 100);
    let interactive = driver.submit_one(0, INTERACTIVE, 100_000);
    driver.finish(blocker);
    assert_eq!(driver.run_one_at_a_time(0), [interactive, standard, bulk]);
}

/// A stream of short prompts, one for each freed slot, and how many pass a long one.
fn passed_by_shorts(driver: &mut Driver, long: TicketId, service_ns: u64) -> usize {
    driver.submit(2, &[64; 50]);
    for passed in 0..100_000 {
        let released = driver.released();
        if released.contains(&long) {
            return passed;
        }
        driver.submit(2, &[64]);
        driver.advance(service_ns);
        for ticket in released {
            driver.finish(ticket);
        }
    }
    panic!("the long prompt starves");
}

/// Under `hrrn` a long prompt gets out of an endless backlog of short ones: its wait is at most p/q of theirs (G08).
#[test]
fn hrrn_does_not_starve() {
    let mut driver = Driver::with("hrrn", &[plain(1)]);
    let long = driver.submit(1, &[8_192])[0];
    let service_ns = 20 * MS;
    let passed = passed_by_shorts(&mut driver, long, service_ns);
    let (long_prefill_ms, short_prefill_ms) = (5.0 + 8_192.0 / 5.0, 5.0 + 64.0 / 5.0);
    let backlog = 50.0;
    let bound = backlog * long_prefill_ms / short_prefill_ms;
    assert!(passed as f64 <= bound + backlog, "{passed} passed, the bound is {bound}");
}

/// `sjf-aged` and `ljf` have finite bounds as well, and `fcfs` lets nothing pass (G08).
#[test]
fn others_do_not_starve() {
    let mut driver = Driver::with("sjf-aged", &[plain(1)]);
    let long = driver.submit(1, &[8_192])[0];
    assert!(passed_by_shorts(&mut driver, long, 20 * MS) <= 8_192 * 50 / 1_000 + 50);

    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let long = driver.submit(1, &[8_192])[0];
    assert_eq!(passed_by_shorts(&mut driver, long, 20 * MS), 0);

    let mut driver = Driver::with("ljf", &[plain(1)]);
    let short = driver.submit(1, &[64])[0];
    for passed in 0.. {
        driver.submit(2, &[8_192]);
        let released = driver.released();
        if released.contains(&short) {
            break;
        }
        assert!(passed < 200, "the short prompt starves");
        driver.advance(SECOND);
        for ticket in released {
            driver.finish(ticket);
        }
    }
}

/// With lanes on a long prompt has its own lane and does not wait for the short ones at all (G07, G08).
#[test]
fn long_lane_is_its_own() {
    let mut driver = Driver::with("hrrn", &[laned(1, 128)]);
    let shorts = driver.submit(1, &[64; 10]);
    let longs = driver.submit(1, &[8_192, 8_192]);
    let released = driver.released();
    assert!(released.contains(&longs[0]) && !released.contains(&longs[1]));
    assert_eq!(released.iter().filter(|ticket| shorts.contains(ticket)).count(), 2);
    driver.first_token(longs[0]);
    assert_eq!(driver.released(), longs[1..]);
}

fn promoted_share(max_wait_ns: u64) -> (u64, u64) {
    let mut driver = Driver::new(Config {
        policy: policy("sjf"),
        max_wait_ns,
        fairness: Fairness::None,
        ..Config::default()
    });
    driver.backend(0, plain(1));
    let longs = driver.submit(1, &[1_024; 200]);
    driver.submit(2, &[64; 20]);
    let (mut long_tokens, mut all_tokens) = (0, 0);
    for _ in 0..5_000 {
        let released = driver.released();
        driver.submit(2, &[64]);
        driver.advance(50 * MS);
        for ticket in released {
            let tokens = if longs.contains(&ticket) { 1_024 } else { 64 };
            long_tokens += if tokens == 1_024 { tokens } else { 0 };
            all_tokens += tokens;
            driver.finish(ticket);
        }
    }
    (long_tokens, all_tokens)
}

/// Promotion gives overdue prompts up to a tenth of the released tokens, and no more (G08).
#[test]
fn promotion_takes_a_tenth() {
    let (long_tokens, all_tokens) = promoted_share(10 * SECOND);
    assert!(long_tokens > 0 && long_tokens * 10 <= all_tokens, "{long_tokens} of {all_tokens}");
    assert!(long_tokens * 12 >= all_tokens, "{long_tokens} of {all_tokens}");
}

/// Promotion is on for `sjf`, after a minute.
#[test]
fn promotion_is_on_for_sjf() {
    let (long_tokens, _) = promoted_share(0);
    assert!(long_tokens > 0);
    let (long_tokens, _) = promoted_share(u64::MAX);
    assert_eq!(long_tokens, 0);
}

/// An overdue prompt that only the short budget keeps back gets room kept for it.
#[test]
fn promotion_reserves() {
    let mut driver =
        Driver::new(Config { policy: policy("sjf"), max_wait_ns: 10 * SECOND, ..Config::default() });
    driver.backend(0, laned(1, 4_096));
    driver.submit(2, &[64; 100]);
    let mut in_flight = driver.released();
    let overdue = driver.submit(1, &[4_096])[0];
    for _ in 0..10_000 {
        driver.advance(20 * MS);
        driver.submit(2, &[64]);
        in_flight.extend(driver.released());
        if in_flight.contains(&overdue) {
            return;
        }
        let oldest = in_flight.remove(0);
        driver.finish(oldest);
    }
    panic!("the overdue prompt starves");
}

/// Across models the best score goes first; a blocked model hides nothing (O05).
#[test]
fn across_models() {
    let both = BackendConfig { models: crate::driver::serving(&[0, 1]), ..plain(1) };
    let mut driver = Driver::with("sjf", &[both]);
    let prompts = [(0, STANDARD, 1_000), (1, STANDARD, 10), (0, STANDARD, 100), (1, STANDARD, 5_000)];
    let tickets = driver.try_submit(1, &prompts, BatchOptions::default()).unwrap();
    assert_eq!(driver.run_one_at_a_time(0), [tickets[1], tickets[2], tickets[0], tickets[3]]);
}
