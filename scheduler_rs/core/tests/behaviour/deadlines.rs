//! Deadlines, each with its own reason.

use crate::driver::{Driver, SECOND, STANDARD, plain};
use expresslane_scheduler::{
    AttemptDeadline, BackendConfig, BatchOptions, Expired, ExpiryReason, Overdue, OverdueReason, Prompt,
    TicketId,
};

fn queue_timeout(timeout_ns: u64) -> BatchOptions {
    BatchOptions { queue_timeout_ns: timeout_ns, deadline_ns: 0, ..BatchOptions::default() }
}

fn submit(driver: &mut Driver, batch: u64, prompts: usize, options: BatchOptions) -> Vec<TicketId> {
    driver.try_submit(batch, &vec![(0, STANDARD, 10); prompts], options).unwrap()
}

/// Goes from deadline to deadline, as the driver's one timer does, and returns what expired when.
pub(crate) fn run_timer(driver: &mut Driver, until_ns: u64) -> Vec<(u64, Expired)> {
    let mut expired = Vec::new();
    while let Some(at_ns) = driver.scheduler.next_deadline().filter(|&at_ns| at_ns <= until_ns) {
        driver.now_ns = at_ns;
        expired.extend(driver.poll().expired.into_iter().map(|expired| (at_ns, expired)));
    }
    driver.now_ns = until_ns;
    expired
}

/// A prompt that waits longer than its batch's queue timeout expires without reaching a backend (O08).
#[test]
fn queue_timeout_expires() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let tickets = submit(&mut driver, 1, 2, queue_timeout(300 * SECOND));
    driver.poll();
    let expired = run_timer(&mut driver, 1_000 * SECOND);
    assert_eq!(expired, [(300 * SECOND, Expired { ticket: tickets[1], reason: ExpiryReason::Queue })]);
    assert_eq!(driver.scheduler.snapshot().expired, 1);
}

/// The batch's clock restarts when a sibling ends: 500 prompts on one slot do not expire in the queue (O08).
#[test]
fn queue_timeout_restarts() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    submit(&mut driver, 1, 500, queue_timeout(300 * SECOND));
    for _ in 0..500 {
        let decisions = driver.poll();
        assert!(decisions.expired.is_empty());
        let until_ns = driver.now_ns + 299 * SECOND;
        assert!(run_timer(&mut driver, until_ns).is_empty());
        driver.finish(decisions.dispatches[0].ticket);
    }
    assert_eq!(driver.scheduler.snapshot().succeeded, 500);
}

/// Prompts held back for a slow reader do not expire while it still reads, and do once it has stopped (O08).
#[test]
fn queue_timeout_restarts_when_the_reader_moves() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    submit(&mut driver, 1, 3, queue_timeout(100 * SECOND));
    for horizon in [0, 1, 0, 1, 0] {
        driver.scheduler.hold_batch(driver.now_ns, 1, horizon);
        let until_ns = driver.now_ns + 99 * SECOND;
        assert!(run_timer(&mut driver, until_ns).is_empty());
        driver.now_ns = until_ns;
    }
    let stopped_ns = driver.now_ns - 99 * SECOND;
    driver.scheduler.hold_batch(driver.now_ns, 1, 0);
    let at: Vec<u64> = run_timer(&mut driver, 10_000 * SECOND).iter().map(|(at_ns, _)| *at_ns).collect();
    assert_eq!(at, [stopped_ns + 100 * SECOND; 2]);
}

/// What is submitted to a batch later has its own full time to wait.
#[test]
fn queue_timeout_counts_from_the_wait() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    submit(&mut driver, 1, 2, queue_timeout(100 * SECOND));
    driver.poll();
    driver.advance(60 * SECOND);
    submit(&mut driver, 1, 2, queue_timeout(100 * SECOND));
    let at: Vec<u64> = run_timer(&mut driver, 1_000 * SECOND).iter().map(|(at_ns, _)| *at_ns).collect();
    assert_eq!(at, [100 * SECOND, 160 * SECOND, 160 * SECOND]);
}

/// A prompt's own queue timeout counts from its submit and does not restart.
#[test]
fn own_queue_timeout() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let prompt = |queue_timeout_ns| Prompt {
        model: 0,
        class: 1,
        tokens: 10,
        queue_timeout_ns,
        index: 0,
        ..Prompt::default()
    };
    let prompts = [prompt(0), prompt(0), prompt(5 * SECOND), prompt(3 * SECOND)];
    let tickets = driver.scheduler.submit(0, 1, &prompts, queue_timeout(4 * SECOND)).unwrap();
    driver.poll();
    driver.advance(2 * SECOND);
    driver.finish(tickets[0]);
    driver.poll();
    let expired: Vec<_> = run_timer(&mut driver, 100 * SECOND)
        .into_iter()
        .map(|(at_ns, expired)| (at_ns, expired.ticket))
        .collect();
    assert_eq!(expired, [(3 * SECOND, tickets[3]), (5 * SECOND, tickets[2])]);
}

/// At the batch's deadline what waits expires, and what runs is reported once.
#[test]
fn batch_deadline() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let options = BatchOptions { queue_timeout_ns: 0, deadline_ns: 10 * SECOND, ..BatchOptions::default() };
    let tickets = submit(&mut driver, 1, 2, options);
    driver.poll();
    driver.advance(10 * SECOND);
    let decisions = driver.poll();
    assert_eq!(decisions.expired, [Expired { ticket: tickets[1], reason: ExpiryReason::Batch }]);
    assert_eq!(decisions.overdue, [Overdue { ticket: tickets[0], reason: OverdueReason::Batch }]);
    let late = submit(&mut driver, 1, 1, options);
    let decisions = driver.poll();
    assert_eq!(decisions.expired, [Expired { ticket: late[0], reason: ExpiryReason::Batch }]);
    assert!(decisions.overdue.is_empty());
    assert_eq!(driver.scheduler.next_deadline(), None);
}

fn overdue_at(driver: &mut Driver, until_ns: u64) -> Vec<(u64, OverdueReason)> {
    let mut overdue = Vec::new();
    while let Some(at_ns) = driver.scheduler.next_deadline().filter(|&at_ns| at_ns <= until_ns) {
        driver.now_ns = at_ns;
        overdue.extend(driver.poll().overdue.into_iter().map(|overdue| (at_ns, overdue.reason)));
    }
    overdue
}

fn timed() -> BackendConfig {
    BackendConfig {
        first_token_timeout_ns: 20 * SECOND,
        idle_timeout_ns: 5 * SECOND,
        attempt_timeout_ns: 30 * SECOND,
        ..plain(1)
    }
}

/// First token, idle and attempt are separate clocks from the release, each reported once (A10).
#[test]
fn attempt_deadlines() {
    let mut driver = Driver::with("fcfs", &[timed()]);
    driver.submit(1, &[10]);
    driver.poll();
    let overdue = overdue_at(&mut driver, 100 * SECOND);
    assert_eq!(overdue, [(20 * SECOND, OverdueReason::FirstToken), (30 * SECOND, OverdueReason::Attempt)]);
}

/// After the first token the idle clock runs; signs of life move it.
#[test]
fn idle_deadline() {
    let mut driver = Driver::with("fcfs", &[timed()]);
    let ticket = driver.submit(1, &[10])[0];
    driver.poll();
    driver.advance(10 * SECOND);
    driver.first_token(ticket);
    assert!(!driver.scheduler.first_token(driver.now_ns, ticket).unwrap());
    driver.advance(4 * SECOND);
    driver.scheduler.rearm(driver.now_ns, ticket, AttemptDeadline::Idle, 19 * SECOND).unwrap();
    let overdue = overdue_at(&mut driver, 100 * SECOND);
    assert_eq!(overdue, [(19 * SECOND, OverdueReason::Idle), (30 * SECOND, OverdueReason::Attempt)]);
}

/// A second attempt has fresh clocks, and none of the first one's.
#[test]
fn clocks_belong_to_the_attempt() {
    let mut driver = Driver::with("fcfs", &[timed()]);
    let ticket = driver.submit(1, &[10])[0];
    driver.poll();
    driver.advance(19 * SECOND);
    driver.retry(ticket, 0, false);
    driver.poll();
    let overdue = overdue_at(&mut driver, 100 * SECOND);
    assert_eq!(overdue, [(39 * SECOND, OverdueReason::FirstToken), (49 * SECOND, OverdueReason::Attempt)]);
}

/// Without timeouts nothing is ever due.
#[test]
fn no_deadlines() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let ticket = driver.submit(1, &[10, 10])[0];
    driver.poll();
    driver.first_token(ticket);
    assert_eq!(driver.scheduler.next_deadline(), None);
}

/// While all its backends are down work waits for the timeout, then expires with that reason.
#[test]
fn no_backend() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let waiting = driver.submit(1, &[10; 2]);
    driver.poll();
    driver.advance(100 * SECOND);
    driver.backend(0, BackendConfig { available: false, ..plain(1) });
    driver.advance(4 * SECOND);
    let later = driver.submit(1, &[10])[0];
    driver.poll();
    let expired = run_timer(&mut driver, 1_000 * SECOND);
    let gone = |ticket| Expired { ticket, reason: ExpiryReason::NoBackend };
    assert_eq!(expired, [(110 * SECOND, gone(waiting[1])), (114 * SECOND, gone(later))]);
}

/// Work for a model that nobody serves waits as long, and a backend that comes in time takes it.
#[test]
fn unserved_model() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let lost = driver.submit_one(9, STANDARD, 10);
    driver.poll();
    assert_eq!(run_timer(&mut driver, 60 * SECOND)[0].1.ticket, lost);
    let saved = driver.submit_one(9, STANDARD, 10);
    driver.poll();
    driver.advance(9 * SECOND);
    driver.backend(1, BackendConfig { models: crate::driver::serving(&[9]), ..plain(1) });
    assert_eq!(driver.released(), [saved]);
}

/// A backend that comes back in time stops the clock, and the next outage starts it anew.
#[test]
fn flapping_backend() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let tickets = driver.submit(1, &[10; 2]);
    driver.poll();
    let down = BackendConfig { available: false, ..plain(1) };
    for _ in 0..10 {
        driver.backend(0, down.clone());
        let until_ns = driver.now_ns + 9 * SECOND;
        assert!(run_timer(&mut driver, until_ns).is_empty());
        driver.backend(0, plain(1));
        driver.poll();
    }
    driver.backend(0, down);
    let down_since_ns = driver.now_ns;
    let expired = run_timer(&mut driver, 1_000 * SECOND);
    assert_eq!(expired.len(), 1);
    assert_eq!((expired[0].0, expired[0].1.ticket), (down_since_ns + 10 * SECOND, tickets[1]));
}

/// What a time limit was for an attempt is none for the next, whichever prompt that is of.
#[test]
fn times_of_an_attempt_end_with_it() {
    let config = BackendConfig {
        first_token_timeout_ns: 30 * SECOND,
        idle_timeout_ns: 10 * SECOND,
        attempt_timeout_ns: 60 * SECOND,
        ..plain(1)
    };
    let mut driver = Driver::with("fcfs", &[config]);
    let ticket = driver.submit(1, &[10])[0];
    assert_eq!(driver.released(), [ticket]);
    driver.first_token(ticket);
    assert!(driver.retry(ticket, 0, false));
    assert_eq!(driver.released(), [ticket]);
    driver.advance(29 * SECOND);
    assert!(driver.poll().overdue.is_empty());
    driver.advance(SECOND);
    assert_eq!(driver.poll().overdue.len(), 1);
}
