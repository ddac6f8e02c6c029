//! Batches: horizons and cancels.

use crate::driver::{BULK, Driver, plain, serving};
use expresslane_scheduler::{BackendConfig, Outcome};

/// A held batch releases only what is numbered below its horizon and stalls only itself.
#[test]
fn horizon() {
    let mut driver = Driver::with("fcfs", &[plain(10)]);
    let ordered = driver.submit(1, &[10; 6]);
    driver.scheduler.hold_batch(0, 1, 2);
    let other = driver.submit(2, &[10; 2]);
    assert_eq!(driver.released(), [ordered[0], ordered[1], other[0], other[1]]);
    let snapshot = driver.scheduler.snapshot();
    assert_eq!((snapshot.held, snapshot.queued), (4, 4));
    driver.scheduler.hold_batch(0, 1, 3);
    assert_eq!(driver.released(), ordered[2..3]);
    driver.scheduler.release_batch(0, 1);
    assert_eq!(driver.released(), ordered[3..]);
    assert_eq!(driver.scheduler.snapshot().held, 0);
}

/// A horizon may be lowered again before it is reached.
#[test]
fn lowered_horizon() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let tickets = driver.submit(1, &[10; 4]);
    driver.scheduler.hold_batch(0, 1, 4);
    driver.poll();
    driver.scheduler.hold_batch(0, 1, 1);
    driver.finish(tickets[0]);
    assert!(driver.released().is_empty());
    driver.scheduler.hold_batch(0, 1, 2);
    assert_eq!(driver.released(), tickets[1..2]);
}

/// What a horizon held goes back by arrival, between what arrived earlier and later.
#[test]
fn released_by_arrival() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let first = driver.submit(1, &[10; 3]);
    let second = driver.submit(2, &[10; 3]);
    driver.scheduler.hold_batch(0, 1, 0);
    assert_eq!(driver.released(), second[..1]);
    driver.finish(second[0]);
    driver.scheduler.release_batch(0, 1);
    assert_eq!(driver.run_one_at_a_time(0), [first[0], first[1], first[2], second[1], second[2]]);
}

/// A horizon set before the first submit counts from it on, and ends with the batch.
#[test]
fn early_horizon() {
    let mut driver = Driver::with("fcfs", &[plain(10)]);
    driver.scheduler.hold_batch(0, 1, 1);
    let tickets = driver.submit(1, &[10; 2]);
    assert_eq!(driver.released(), tickets[..1]);
    driver.scheduler.cancel_batch(0, 1);
    driver.scheduler.finish(0, tickets[0], Outcome::Cancelled).unwrap();
    let again = driver.submit(1, &[10; 2]);
    assert_eq!(driver.released(), again);
    for batch in 100..10_000 {
        driver.scheduler.hold_batch(0, batch, 0);
    }
    let latest = driver.submit(9_999, &[10]);
    assert!(!driver.released().contains(&latest[0]));
}

/// Cancelling a batch ends what waits at once, wherever it waits, and names what runs (A06).
#[test]
fn cancel_batch() {
    let both = BackendConfig { models: serving(&[0, 1]), ..plain(2) };
    let mut driver = Driver::with("fcfs", &[both]);
    let tickets = driver.submit(1, &[10; 6]);
    driver.submit_one(1, BULK, 10);
    driver.poll();
    assert!(driver.retry(tickets[0], 1_000, false));
    driver.poll();
    driver.scheduler.hold_batch(0, 1, 4);
    let cancelled = driver.scheduler.cancel_batch(0, 1);
    assert_eq!(cancelled.in_flight, tickets[1..3]);
    assert_eq!(cancelled.removed.len(), 4);
    let again = driver.scheduler.cancel_batch(0, 1);
    assert_eq!((again.removed.len(), again.in_flight.len()), (0, 2));
    for ticket in cancelled.in_flight {
        driver.scheduler.finish(0, ticket, Outcome::Cancelled).unwrap();
    }
    let snapshot = driver.scheduler.snapshot();
    assert_eq!((snapshot.cancelled, snapshot.queued, snapshot.in_flight), (6, 1, 0));
    assert!(driver.scheduler.cancel_batch(0, 1).removed.is_empty());
    assert_eq!(driver.released().len(), 1);
}
