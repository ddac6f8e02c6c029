//! What is closed for a prompt that asks for more tokens than are left stays closed in the next poll only if nothing else
//! is the first there by then (T10, A26).

use crate::closings::{COUNTS, Count, FLOW, fcfs, half_used, half_used_as, submit_of};
use crate::driver::{Driver, INTERACTIVE, SECOND, STANDARD, laned, plain, policy, serving};
use expresslane_scheduler::{BackendConfig, Config, Outcome, TicketId, Usage};

/// Model 0 of backend 0 is closed for this prompt of 600 tokens of tenant 2, its batch 2; 500 are left.
fn closed(count: Count, config: Config) -> (Driver, TicketId) {
    let mut driver = half_used(count, config);
    let head = submit_of(&mut driver, 2, 2, &[(0, 600)])[0];
    assert!(driver.released().is_empty());
    (driver, head)
}

/// What comes after it waits behind it.
#[test]
fn later_ones_wait() {
    for count in COUNTS {
        let (mut driver, _) = closed(count, fcfs());
        submit_of(&mut driver, 2, 2, &[(0, 100)]);
        for _ in 0..3 {
            assert!(driver.released().is_empty(), "{count:?}");
            driver.advance(SECOND);
        }
    }
}

/// It is gone.
#[test]
fn cancelled() {
    for count in COUNTS {
        let (mut driver, head) = closed(count, fcfs());
        let behind = submit_of(&mut driver, 2, 2, &[(0, 100)]);
        assert!(driver.released().is_empty());
        driver.scheduler.cancel(0, head);
        assert_eq!(driver.released(), behind, "{count:?}");
    }
}

/// Its reader is slow.
#[test]
fn held() {
    for count in COUNTS {
        let (mut driver, _) = closed(count, fcfs());
        let behind = submit_of(&mut driver, 3, 2, &[(0, 100)]);
        assert!(driver.released().is_empty());
        driver.scheduler.hold_batch(0, 2, 0);
        assert_eq!(driver.released(), behind, "{count:?}");
    }
}

/// A higher class comes before it.
#[test]
fn a_higher_class() {
    for count in COUNTS {
        let (mut driver, _) = closed(count, fcfs());
        let higher = driver.submit_one(0, INTERACTIVE, 100);
        assert_eq!(driver.released(), [higher], "{count:?}");
    }
}

/// One that came earlier is back from elsewhere, and may not go there again.
#[test]
fn back_from_elsewhere() {
    for count in COUNTS {
        let mut driver = half_used(count, fcfs());
        driver.backend(2, BackendConfig { cap: 1, ..plain(1) });
        let earlier = submit_of(&mut driver, 2, 2, &[(0, 400)])[0];
        let sent = driver.dispatches()[0].backend;
        assert_eq!(sent, 2, "nothing runs there");
        driver.backend(2, BackendConfig { available: false, ..plain(1) });
        submit_of(&mut driver, 2, 2, &[(0, 600)]);
        assert!(driver.released().is_empty());
        assert!(driver.retry(earlier, 0, true));
        assert_eq!(driver.released(), [earlier], "{count:?}");
    }
}

/// Another place has become free: it goes there, and what is behind it to where it was too large.
#[test]
fn a_place_elsewhere() {
    for count in COUNTS {
        let (mut driver, head) = closed(count, fcfs());
        let behind = submit_of(&mut driver, 2, 2, &[(0, 100)])[0];
        driver.backend(2, plain(1));
        assert_eq!(driver.released(), [head, behind], "{count:?}");
    }
}

/// What its tenant used elsewhere turned out to be more.
#[test]
fn another_tenant() {
    for count in COUNTS {
        let mut driver = half_used(count, fcfs());
        let theirs = submit_of(&mut driver, 2, 2, &[(0, 600), (1, 10)]);
        let other = submit_of(&mut driver, 3, 3, &[(0, 100)]);
        assert_eq!(driver.released(), theirs[1..]);
        let usage = Some(Usage { uncached_input_tokens: 20_000, cached_input_tokens: 0, output_tokens: 0 });
        driver.scheduler.finish_with_usage(0, theirs[1], Outcome::Success, usage).unwrap();
        assert_eq!(driver.released(), other, "{count:?}");
    }
}

/// So it is for the flows of one tenant.
#[test]
fn another_flow() {
    for count in COUNTS {
        let mut driver = half_used(count, fcfs());
        let first = submit_of(&mut driver, 2, 0, &[&[(0, 600), (1, 10)], &FLOW[..]].concat());
        let other = submit_of(&mut driver, 3, 0, &[&[(0, 100)], &FLOW[..]].concat());
        assert_eq!(driver.released(), first[1..2]);
        let usage = Some(Usage { uncached_input_tokens: 20_000, cached_input_tokens: 0, output_tokens: 0 });
        driver.scheduler.finish_with_usage(0, first[1], Outcome::Success, usage).unwrap();
        assert_eq!(driver.released(), other[..1], "{count:?}");
    }
}

/// By its policy a smaller one comes before it in time.
#[test]
fn a_score_that_grows() {
    for count in COUNTS {
        let (mut driver, _) = closed(count, Config::default());
        driver.advance(SECOND);
        let smaller = submit_of(&mut driver, 2, 2, &[(0, 100)]);
        assert!(driver.released().is_empty());
        driver.advance(SECOND);
        assert_eq!(driver.released(), smaller, "{count:?}");
    }
}

/// A lower class is owed its share.
#[test]
fn a_share() {
    for count in COUNTS {
        let mut driver = half_used(count, Config { class_min_shares: [0.0, 0.5, 0.0], ..Config::default() });
        driver.submit_one(0, INTERACTIVE, 600);
        let (passing, tiny) = (driver.submit_one(1, INTERACTIVE, 10_000), driver.submit_one(1, STANDARD, 10));
        assert_eq!(driver.released(), [passing, tiny]);
        let owed = driver.submit_one(0, STANDARD, 100);
        assert_eq!(driver.released(), [owed], "{count:?}");
    }
}

/// Its tenant's limits keep it back by now, and nobody else.
#[test]
fn its_tenants_limit() {
    for count in COUNTS {
        let mut driver = half_used(count, fcfs());
        driver.scheduler.set_tenant_limits(0, 2, 0, 10_000).unwrap();
        let theirs = submit_of(&mut driver, 2, 2, &[(0, 600), (1, 500)]);
        let other = submit_of(&mut driver, 3, 3, &[(0, 100)]);
        assert_eq!(driver.released(), theirs[1..]);
        driver.scheduler.set_tenant_limits(0, 2, 0, 1_000).unwrap();
        assert_eq!(driver.released(), other, "{count:?}");
    }
}

/// One of its flow is overdue, and the policy's choices have passed it by enough.
#[test]
fn promotion() {
    for count in COUNTS {
        let config = Config { policy: policy("sjf"), max_wait_ns: 10 * SECOND, ..Config::default() };
        let mut driver = half_used(count, config);
        let does_not = driver.submit_one(0, STANDARD, 510);
        let larger = driver.submit_one(0, STANDARD, 600);
        assert!(driver.released().is_empty());
        driver.now_ns = 11 * SECOND;
        driver.scheduler.cancel(driver.now_ns, larger);
        let passing: Vec<_> = (0..9).map(|_| driver.submit_one(1, STANDARD, 500)).collect();
        assert_eq!(driver.released(), passing);
        let smaller = driver.submit_one(0, STANDARD, 100);
        assert_eq!(driver.released(), [smaller], "{count:?}");
        driver.scheduler.cancel(driver.now_ns, does_not);
    }
}

/// A lane keeps it back by now.
#[test]
fn a_full_lane() {
    let both = BackendConfig { models: serving(&[0, 1]), ..laned(1, 4_096) };
    let mut driver = half_used_as(Count::Provider, fcfs(), both);
    driver.backend(1, BackendConfig { available: false, ..plain(1) });
    driver.submit_one(0, STANDARD, 5_000);
    assert!(driver.released().is_empty());
    let long = driver.submit_one(1, INTERACTIVE, 5_000);
    assert_eq!(driver.released(), [long]);
    let short = driver.submit_one(0, STANDARD, 100);
    assert_eq!(driver.released(), [short]);
}

/// Its provider has more left, or all again.
#[test]
fn more_is_left() {
    let (mut driver, head) = closed(Count::Provider, fcfs());
    driver.now_ns = 60 * SECOND - 1;
    assert!(driver.released().is_empty());
    driver.now_ns = 60 * SECOND;
    assert_eq!(driver.released(), [head]);
}

/// The model is not served any more, and then served again among others: nothing of it stays closed.
#[test]
fn other_models() {
    let (mut driver, head) = closed(Count::Provider, fcfs());
    driver.backend(0, BackendConfig { models: serving(&[3]), ..plain(100) });
    assert!(driver.released().is_empty());
    driver.backend(0, BackendConfig { models: serving(&[0, 3]), ..plain(100) });
    driver.scheduler.cancel(0, head);
    let behind = submit_of(&mut driver, 2, 2, &[(0, 100)]);
    assert_eq!(driver.released(), behind);
}
