//! Where tickets go: caps, models, late binding, no head-of-line blocking.

use crate::driver::{Driver, STANDARD, laned, plain, serving};
use expresslane_scheduler::{BackendConfig, BatchOptions, Config, ModelRoute};

/// No backend is given more than its cap, also when it shrinks: then nothing until it is below (A06, T12).
#[test]
fn shrunk_cap() {
    let mut driver = Driver::with("fcfs", &[plain(4)]);
    driver.submit(1, &[10; 10]);
    let running = driver.released();
    assert_eq!(running.len(), 4);
    driver.backend(0, plain(2));
    for (finished, ticket) in running.into_iter().enumerate() {
        driver.finish(ticket);
        assert_eq!(driver.released().len(), usize::from(finished >= 2), "after {} ended", finished + 1);
    }
    assert_eq!(driver.scheduler.snapshot().backends[0].peak_in_flight, 4);
}

/// The time that slots were taken is the integral of what was in flight: its exact mean over any stretch (G01).
#[test]
fn slot_time_is_the_integral_of_in_flight() {
    let mut driver = Driver::with("fcfs", &[plain(2)]);
    let start_ns = driver.now_ns;
    driver.submit(1, &[10; 3]);
    let first = driver.released();
    driver.now_ns = start_ns + 1_000;
    driver.finish(first[0]);
    let second = driver.released();
    driver.now_ns = start_ns + 1_500;
    driver.finish(first[1]);
    driver.now_ns = start_ns + 4_000;
    driver.finish(second[0]);
    assert_eq!(driver.scheduler.snapshot().backends[0].slot_ns, 2 * 1_500 + 2_500);
}

/// Each model has its own cap within a backend, and one model's backlog does not hide another's (O05, O11).
#[test]
fn model_caps() {
    let models = vec![ModelRoute { model: 0, cap: 2 }, ModelRoute { model: 1, cap: 1 }];
    let mut driver = Driver::with("fcfs", &[BackendConfig { models, ..plain(10) }]);
    let prompts = [vec![(0, STANDARD, 10); 5], vec![(1, STANDARD, 10); 5]].concat();
    let tickets = driver.try_submit(1, &prompts, BatchOptions::default()).unwrap();
    assert_eq!(driver.released(), [tickets[0], tickets[1], tickets[5]]);
    let snapshot = driver.scheduler.snapshot();
    assert_eq!(snapshot.backends[0].in_flight_by_model, [(0, 2), (1, 1)]);
    assert_eq!(snapshot.queued_by_model, [(0, 3), (1, 4)]);
}

/// The global cap holds over all backends (A06, P36).
#[test]
fn global_cap() {
    let mut driver = Driver::new(Config { in_flight_limit: 3, ..Config::default() });
    driver.backend(0, plain(2));
    driver.backend(1, plain(2));
    driver.submit(1, &[10; 10]);
    let running = driver.released();
    assert_eq!(running.len(), 3);
    driver.finish(running[0]);
    assert_eq!(driver.released().len(), 1);
}

/// A full backend does not hold up what can go elsewhere, however long its queue (O05).
#[test]
fn no_head_of_line_blocking() {
    let only = |model| BackendConfig { models: serving(&[model]), ..plain(1) };
    let mut driver = Driver::with("fcfs", &[only(0), only(1)]);
    driver.submit(1, &[10; 1_000]);
    assert_eq!(driver.released().len(), 1);
    let other = driver.submit_one(1, STANDARD, 10);
    assert_eq!(driver.released(), [other]);
}

/// A long prompt that waits for its lane does not hold up short ones, nor the other way round (G07).
#[test]
fn lanes_do_not_block_each_other() {
    let mut driver = Driver::with("fcfs", &[laned(1, 64)]);
    let tickets = driver.submit(1, &[8_192, 8_192, 64, 64]);
    assert_eq!(driver.released(), [tickets[0], tickets[2]]);
}

/// The backend is chosen at release: least predicted time to first token, by measured rate and what is outstanding.
#[test]
fn late_binding() {
    let slow = BackendConfig { prefill_tokens_per_s: 1_000.0, ..plain(10) };
    let fast = BackendConfig { prefill_tokens_per_s: 4_000.0, ..plain(10) };
    let mut driver = Driver::with("fcfs", &[slow, fast]);
    driver.submit(1, &[1_024; 5]);
    let backends: Vec<_> = driver.dispatches().iter().map(|dispatch| dispatch.backend).collect();
    assert_eq!(backends, [1, 1, 1, 0, 1]);
}

/// Ties go to the emptier backend, then to the lower number.
#[test]
fn ties() {
    let mut driver = Driver::with("fcfs", &[plain(5), plain(10), plain(10)]);
    driver.submit(1, &[10; 6]);
    let backends: Vec<_> = driver.dispatches().iter().map(|dispatch| dispatch.backend).collect();
    assert_eq!(backends, [0, 1, 2, 1, 2, 0]);
}

/// A backend that is not available is given nothing and keeps what it has (T12).
#[test]
fn unavailable() {
    let mut driver = Driver::with("fcfs", &[plain(2), plain(2)]);
    driver.backend(0, BackendConfig { available: false, ..plain(2) });
    driver.submit(1, &[10; 6]);
    assert!(driver.dispatches().iter().all(|dispatch| dispatch.backend == 1));
    driver.backend(1, BackendConfig { available: false, ..plain(2) });
    assert_eq!(driver.scheduler.snapshot().in_flight, 2);
    driver.backend(0, plain(3));
    assert_eq!(driver.released().len(), 3);
}

/// A model that is taken from a backend while prompts of it run there ends them in good order (T12).
#[test]
fn model_is_taken_away() {
    let mut driver = Driver::with("fcfs", &[plain(2)]);
    let tickets = driver.submit(1, &[10; 3]);
    driver.poll();
    driver.backend(0, BackendConfig { models: serving(&[5]), ..plain(2) });
    assert_eq!(driver.scheduler.snapshot().backends[0].in_flight_by_model, [(0, 2)]);
    driver.finish(tickets[0]);
    driver.finish(tickets[1]);
    assert!(driver.released().is_empty());
    driver.backend(0, plain(2));
    assert_eq!(driver.released(), tickets[2..]);
}
