//! What is let into the queue, and what is refused.

use crate::driver::{Driver, SECOND, plain, serving};
use expresslane_scheduler::{BackendConfig, BatchOptions, Config, Error, Policy, QUEUE_LIMIT_MAX};

fn bounded(queue_limit: u32) -> Driver {
    let mut driver = Driver::new(Config { queue_limit, ..Config::default() });
    driver.backend(0, plain(1));
    driver
}

fn submit(driver: &mut Driver, prompts: usize) -> Result<usize, Error> {
    let prompts = vec![(0, 1, 10); prompts];
    driver.try_submit(1, &prompts, BatchOptions::default()).map(|tickets| tickets.len())
}

/// A batch is queued as a whole or refused as a whole, at once (A07).
#[test]
fn all_or_nothing() {
    let mut driver = bounded(10);
    assert_eq!(submit(&mut driver, 8), Ok(8));
    assert!(matches!(submit(&mut driver, 3), Err(Error::QueueFull { prompts: 3, queued: 8, .. })));
    let snapshot = driver.scheduler.snapshot();
    assert_eq!((snapshot.queued, snapshot.submitted, snapshot.refused), (8, 8, 3));
    assert_eq!(submit(&mut driver, 2), Ok(2));
}

/// A batch above the bound itself is told that waiting is no use.
#[test]
fn larger_than_the_queue() {
    let mut driver = bounded(10);
    assert_eq!(submit(&mut driver, 11), Err(Error::BatchTooLarge { prompts: 11, queue_limit: 10 }));
}

/// The hint when to come back follows the measured rate at which tickets end.
#[test]
fn retry_after_follows_the_drain_rate() {
    let mut driver = bounded(10);
    for _ in 0..100 {
        submit(&mut driver, 1).unwrap();
        let ticket = driver.released()[0];
        driver.advance(SECOND / 2);
        driver.finish(ticket);
    }
    submit(&mut driver, 10).unwrap();
    let Err(Error::QueueFull { retry_after_ns, .. }) = submit(&mut driver, 4) else { panic!("it is full") };
    assert!((19 * SECOND / 10..21 * SECOND / 10).contains(&retry_after_ns), "{retry_after_ns}");
}

/// A bound of the driver's is told by the same rate, and its refusals are counted with the others (A07).
#[test]
fn a_bound_of_the_drivers() {
    let mut driver = bounded(10);
    assert_eq!(driver.scheduler.refuse(0, 7, 3), SECOND);
    for _ in 0..100 {
        submit(&mut driver, 1).unwrap();
        let ticket = driver.released()[0];
        driver.advance(SECOND / 2);
        driver.finish(ticket);
    }
    let now_ns = driver.now_ns;
    let retry_after_ns = driver.scheduler.refuse(now_ns, 5, 4);
    assert!((19 * SECOND / 10..21 * SECOND / 10).contains(&retry_after_ns), "{retry_after_ns}");
    assert!(driver.scheduler.refuse(now_ns, 1, 0) < SECOND);
    assert_eq!(driver.scheduler.snapshot().refused, 13);
}

/// An empty batch is no batch.
#[test]
fn empty_batch() {
    let mut driver = bounded(10);
    assert_eq!(submit(&mut driver, 0), Ok(0));
    assert_eq!(driver.scheduler.snapshot().submitted, 0);
}

/// A prompt with a class or size out of range refuses its batch, naming field and value.
#[test]
fn bad_prompts() {
    let mut driver = bounded(10);
    for (prompt, named) in [((0, 3, 1), "class = 3"), ((0, 1, (1 << 31) + 1), "tokens = 2147483649")] {
        let refused = driver.try_submit(1, &[(0, 1, 1), prompt], BatchOptions::default());
        assert!(refused.unwrap_err().to_string().contains(named));
    }
    assert_eq!(driver.scheduler.snapshot().queued, 0);
}

/// A description that makes no sense is refused, naming field and value, and changes nothing.
#[test]
fn bad_configuration() {
    let refusals = [
        (BackendConfig { cap: 0, ..plain(1) }, "cap = 0"),
        (BackendConfig { prefill_tokens_per_s: f64::NAN, ..plain(1) }, "prefill_tokens_per_s = NaN"),
        (BackendConfig { prefill_tokens_per_s: -1.0, ..plain(1) }, "prefill_tokens_per_s = -1"),
        (BackendConfig { models: serving(&[4, 5, 4]), ..plain(1) }, "models = 4"),
    ];
    let mut driver = bounded(10);
    for (config, named) in refusals {
        let refused = driver.scheduler.update_backend(0, 7, config).unwrap_err().to_string();
        assert!(refused.contains(named), "{refused}");
    }
    assert_eq!(driver.scheduler.snapshot().backends.len(), 1);
    for queue_limit in [0, QUEUE_LIMIT_MAX + 1] {
        let config = Config { queue_limit, ..Config::default() };
        assert!(expresslane_scheduler::Scheduler::new(config).is_err());
    }
    let policy = Policy::SjfAged { tokens_per_s: f64::INFINITY };
    assert!(expresslane_scheduler::Scheduler::new(Config { policy, ..Config::default() }).is_err());
}
