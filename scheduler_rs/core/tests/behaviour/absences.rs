//! How long what waits bears with backends that are down: longer with those that have been there before.

use crate::breaker::{End, QUICK, breaker, end};
use crate::deadlines::run_timer;
use crate::driver::{Driver, SECOND, STANDARD, plain, serving};
use expresslane_scheduler::{BackendConfig, BreakerConfig, BreakerState, Expired, ExpiryReason, TicketId};

fn no_backend(at_ns: u64, ticket: TicketId) -> (u64, Expired) {
    (at_ns, Expired { ticket, reason: ExpiryReason::NoBackend })
}

/// What has been there before is waited for longer, also beside one that never was.
#[test]
fn absent_backend() {
    let lost = BackendConfig { absence_timeout_ns: 60 * SECOND, ..plain(1) };
    let down = |config: &BackendConfig| BackendConfig { available: false, ..config.clone() };
    let mut driver = Driver::with("fcfs", &[down(&lost), down(&plain(1))]);
    let waiting = driver.submit(1, &[10; 2]);
    driver.poll();
    let expired = run_timer(&mut driver, 1_000 * SECOND);
    assert_eq!(expired, [no_backend(60 * SECOND, waiting[0]), no_backend(60 * SECOND, waiting[1])]);
    let saved = driver.submit_one(0, STANDARD, 10);
    driver.poll();
    let until_ns = driver.now_ns + 59 * SECOND;
    assert!(run_timer(&mut driver, until_ns).is_empty());
    driver.backend(0, lost);
    assert_eq!(driver.released(), [saved]);
}

/// A shorter time than that for any backend counts for nothing.
#[test]
fn absent_for_less() {
    let lost = BackendConfig { absence_timeout_ns: SECOND, available: false, ..plain(1) };
    let mut driver = Driver::with("fcfs", &[lost]);
    driver.submit_one(0, STANDARD, 10);
    driver.poll();
    assert_eq!(run_timer(&mut driver, 1_000 * SECOND)[0].0, 10 * SECOND);
}

/// An open breaker is no absence: a backend that answers with failures is there, and is not waited for as one that is
/// not; once it is away as well, it is (T15).
#[test]
fn open_breaker_is_no_absence() {
    for is_away in [false, true] {
        let stays_open = BreakerConfig { open_ns: 500 * SECOND, open_max_ns: 500 * SECOND, ..QUICK };
        let config = BackendConfig { breaker: Some(stays_open), absence_timeout_ns: 60 * SECOND, ..plain(4) };
        let mut driver = Driver::with("fcfs", std::slice::from_ref(&config));
        for ticket in driver.submit(1, &[10; 4]) {
            driver.poll();
            end(&mut driver, ticket, End::Bad);
        }
        assert_eq!(breaker(&driver).state, BreakerState::Open);
        let waiting = driver.submit_one(0, STANDARD, 10);
        if is_away {
            driver.backend(0, BackendConfig { available: false, ..config });
        }
        driver.poll();
        let due_ns = if is_away { 60 * SECOND } else { 10 * SECOND };
        assert_eq!(run_timer(&mut driver, 400 * SECOND), [no_backend(due_ns, waiting)]);
    }
}

/// An absent backend is waited for longer when its absence time rises: what waits has the rest of it, and what comes
/// later all of it.
#[test]
fn absence_gets_longer() {
    let lost = BackendConfig { available: false, ..plain(1) };
    let mut driver = Driver::with("fcfs", std::slice::from_ref(&lost));
    let first = driver.submit_one(0, STANDARD, 10);
    driver.poll();
    driver.advance(SECOND);
    driver.backend(0, BackendConfig { absence_timeout_ns: 60 * SECOND, ..lost });
    driver.poll();
    driver.advance(SECOND);
    let later = driver.submit_one(0, STANDARD, 10);
    driver.poll();
    let expected = [no_backend(60 * SECOND, first), no_backend(62 * SECOND, later)];
    assert_eq!(run_timer(&mut driver, 1_000 * SECOND), expected);
}

/// An absent backend is no longer waited for when its absence time falls: what waits expires as if it had never been.
#[test]
fn absence_gets_shorter() {
    let lost = BackendConfig { absence_timeout_ns: 60 * SECOND, available: false, ..plain(1) };
    let mut driver = Driver::with("fcfs", std::slice::from_ref(&lost));
    driver.submit_one(0, STANDARD, 10);
    driver.poll();
    driver.advance(SECOND);
    driver.backend(0, BackendConfig { absence_timeout_ns: 0, ..lost });
    driver.poll();
    assert_eq!(run_timer(&mut driver, 1_000 * SECOND)[0].0, 10 * SECOND);
}

/// Nor when it no longer serves the model and another one that is down does.
#[test]
fn absent_one_no_longer_serves() {
    let lost = BackendConfig { absence_timeout_ns: 60 * SECOND, available: false, ..plain(1) };
    let down = BackendConfig { available: false, ..plain(1) };
    let mut driver = Driver::with("fcfs", &[lost.clone(), down]);
    driver.submit_one(0, STANDARD, 10);
    driver.poll();
    driver.advance(SECOND);
    driver.backend(0, BackendConfig { models: serving(&[7]), ..lost });
    driver.poll();
    assert_eq!(run_timer(&mut driver, 1_000 * SECOND)[0].0, 10 * SECOND);
}
