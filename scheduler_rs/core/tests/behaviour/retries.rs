//! Retries: off-slot, by arrival, and elsewhere when told so.

use crate::driver::{BULK, Driver, INTERACTIVE, MS, SECOND, plain, policy};
use expresslane_scheduler::{AttemptEnd, BackendConfig, BatchOptions, Config, Outcome, Prompt};

/// A retry waits without a slot and then goes before those that arrived later (A18).
#[test]
fn off_slot_by_arrival() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let tickets = driver.submit(1, &[10; 4]);
    driver.poll();
    assert!(driver.retry(tickets[0], 100 * MS, false));
    assert_eq!(driver.scheduler.snapshot().retry_waiting, 1);
    assert_eq!(driver.released(), tickets[1..2], "the slot is free at once");
    assert_eq!(driver.scheduler.next_deadline(), Some(100 * MS));
    driver.advance(100 * MS);
    driver.finish(tickets[1]);
    let again = driver.dispatches();
    assert_eq!((again[0].ticket, again[0].attempt), (tickets[0], 2));
    assert_eq!(again[0].queue_wait_ns, 100 * MS);
}

/// Many retries that come back in any order leave by arrival.
#[test]
fn many_return_by_arrival() {
    let mut driver = Driver::with("fcfs", &[plain(100)]);
    let tickets = driver.submit(1, &[10; 100]);
    driver.poll();
    for (position, &ticket) in tickets.iter().enumerate() {
        assert!(driver.retry(ticket, (position as u64 * 37 % 100) * MS, false));
    }
    driver.backend(0, plain(1));
    driver.advance(100 * MS);
    assert_eq!(driver.run_one_at_a_time(0), tickets);
}

/// An excluded backend is never tried again, over several retries, also when it alone is free.
#[test]
fn excluded_backends() {
    let mut driver = Driver::with("fcfs", &[plain(1), plain(1), plain(1)]);
    let ticket = driver.submit(1, &[10])[0];
    let mut tried = Vec::new();
    for _ in 0..3 {
        let dispatches = driver.dispatches();
        tried.push(dispatches[0].backend);
        let is_last = tried.len() == 3;
        assert_eq!(driver.retry(ticket, 0, true), !is_last, "the last has nowhere else to go");
    }
    tried.sort_unstable();
    assert_eq!(tried, [0, 1, 2]);
    driver.scheduler.finish(driver.now_ns, ticket, Outcome::Failed).unwrap();
    assert_eq!(driver.scheduler.snapshot().failed, 1);
}

/// After a failure the next attempt, and only that, goes to another backend, even where that one is busy.
#[test]
fn moves_on() {
    let mut driver = Driver::with("fcfs", &[plain(1), plain(1)]);
    let ticket = driver.submit(1, &[10])[0];
    for backend in [0, 1, 0] {
        assert_eq!(driver.dispatches()[0].backend, backend);
        driver.scheduler.move_on(driver.now_ns, ticket).unwrap();
        assert!(driver.retry(ticket, 0, false));
    }
    assert_eq!(driver.dispatches()[0].backend, 1);
    let other = driver.submit(2, &[10])[0];
    assert_eq!(driver.dispatches()[0].backend, 0);
    driver.scheduler.move_on(driver.now_ns, other).unwrap();
    assert!(driver.retry(other, 0, false));
    assert!(driver.dispatches().is_empty(), "it waits for the busy one");
    driver.finish(ticket);
    assert_eq!(driver.dispatches()[0].backend, 1);
}

/// It goes back to the one that failed it as soon as no other is open: down, or paused for its model.
#[test]
fn moves_nowhere() {
    for is_down in [false, true] {
        let mut driver = Driver::with("fcfs", &[plain(1), plain(1)]);
        let ticket = driver.submit(1, &[10; 2])[0];
        assert_eq!(driver.dispatches().len(), 2);
        driver.scheduler.move_on(driver.now_ns, ticket).unwrap();
        assert!(driver.retry(ticket, 0, false));
        assert!(driver.dispatches().is_empty());
        if is_down {
            driver.backend(1, BackendConfig { available: false, ..plain(1) });
        } else {
            driver.scheduler.pause(driver.now_ns, 1, None, 600 * SECOND);
        }
        let again = driver.dispatches();
        assert_eq!((again[0].ticket, again[0].backend), (ticket, 0));
    }
}

/// A retry that would start after its batch's deadline makes no sense, and changes nothing.
#[test]
fn not_past_the_deadline() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let options = BatchOptions { deadline_ns: 10 * SECOND, queue_timeout_ns: 0, ..BatchOptions::default() };
    let ticket = driver.try_submit(1, &[(0, 1, 10)], options).unwrap()[0];
    driver.poll();
    assert!(!driver.retry(ticket, 10 * SECOND, false));
    assert_eq!(driver.scheduler.snapshot().in_flight, 1);
    assert!(driver.retry(ticket, 9 * SECOND, false));
}

/// Nor does one that would start after the ticket's own deadline for its wait in the queue, which no retry moves.
#[test]
fn not_past_its_own_queue_deadline() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let prompt = Prompt { tokens: 10, queue_timeout_ns: 30 * SECOND, ..Prompt::default() };
    let ticket = driver.scheduler.submit(0, 1, &[prompt, prompt], BatchOptions::default()).unwrap()[0];
    driver.poll();
    driver.now_ns = 20 * SECOND;
    assert!(!driver.retry(ticket, 10 * SECOND, false));
    assert!(driver.retry(ticket, 10 * SECOND - 1, false));
    assert_eq!(driver.poll().dispatches.len(), 1, "the other one");
    driver.now_ns = 30 * SECOND - 1;
    assert!(driver.poll().expired.is_empty());
}

/// The last of a batch is not retried past its queue timeout either; while others may restart that clock, it waits for it.
#[test]
fn not_past_the_queue_timeout() {
    let options = BatchOptions { queue_timeout_ns: 30 * SECOND, ..BatchOptions::default() };
    let run_until_20_s = |prompts: &[_], is_turned_away: bool| {
        let mut driver = Driver::with("fcfs", &[plain(2)]);
        let ticket = driver.try_submit(1, prompts, options).unwrap()[0];
        driver.poll();
        driver.now_ns = 20 * SECOND;
        if is_turned_away {
            driver.scheduler.turned_away(driver.now_ns, ticket).unwrap();
        }
        (driver, ticket)
    };
    for (is_turned_away, left) in [(false, 30), (true, 10)] {
        let (mut driver, ticket) = run_until_20_s(&[(0, 1, 10), (0, 1, 10)], is_turned_away);
        assert!(driver.retry(ticket, 400 * SECOND, false), "the other one runs");
        let (mut driver, ticket) = run_until_20_s(&[(0, 1, 10)], is_turned_away);
        assert!(!driver.retry(ticket, left * SECOND, false));
        assert!(driver.retry(ticket, left * SECOND - 1, false));
        driver.poll();
        driver.now_ns += left * SECOND - 1;
        assert_eq!(driver.released(), [ticket]);
    }
}

/// A ticket that was cancelled while it ran is not retried.
#[test]
fn not_after_a_cancel() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let ticket = driver.submit(1, &[10])[0];
    driver.poll();
    assert_eq!(driver.scheduler.cancel(driver.now_ns, ticket).in_flight, [ticket]);
    assert!(!driver.retry(ticket, 0, false));
    driver.scheduler.finish(driver.now_ns, ticket, Outcome::Cancelled).unwrap();
    assert!(driver.scheduler.cancel(driver.now_ns, ticket).in_flight.is_empty());
}

/// A retry that is refused says why, and the first reason that holds is told; budgets are of a tenant over all classes.
#[test]
fn says_why_not() {
    let mut driver = Driver::new(Config { policy: policy("fcfs"), retry_ratio: 0.1, ..Config::default() });
    driver.backend(0, plain(10));
    let options = BatchOptions { deadline_ns: 10 * SECOND, ..BatchOptions::default() };
    let prompts = [(0, INTERACTIVE, 10), (0, BULK, 10)];
    let tickets = driver.try_submit(1, &prompts, options).unwrap();
    assert_eq!(driver.released(), tickets);
    let answer = |driver: &mut Driver, ticket, not_before_ns, exclude| {
        let answer = driver.scheduler.retry(driver.now_ns, ticket, not_before_ns, exclude, false).unwrap();
        driver.poll();
        answer.name()
    };
    for attempt in 0..10 {
        assert_eq!(answer(&mut driver, tickets[attempt % 2], 0, false), "queued");
    }
    for &ticket in &tickets {
        assert_eq!(answer(&mut driver, ticket, 0, false), "budget_exhausted", "one budget for both classes");
    }
    assert_eq!(answer(&mut driver, tickets[0], 0, true), "no_other_backend");
    assert_eq!(answer(&mut driver, tickets[0], 10 * SECOND, true), "past_deadline");
    driver.scheduler.cancel(0, tickets[0]);
    assert_eq!(answer(&mut driver, tickets[0], 10 * SECOND, true), "cancelled");
    assert_eq!(driver.scheduler.snapshot().retries_denied, 2);
    assert_eq!(driver.scheduler.snapshot().in_flight, 2);
}

/// Attempts are counted where they ended, retries apart from the ends of tickets.
#[test]
fn counters() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let ticket = driver.submit(1, &[10])[0];
    driver.poll();
    driver.retry(ticket, 0, false);
    driver.poll();
    driver.first_token(ticket);
    driver.finish(ticket);
    let snapshot = driver.scheduler.snapshot();
    assert_eq!((snapshot.retried, snapshot.succeeded, snapshot.submitted), (1, 1, 1));
    let backend = &snapshot.backends[0];
    let count = |end| backend.outcomes.iter().find(|(other, _)| *other == end).unwrap().1;
    assert_eq!(backend.dispatched, 2);
    assert_eq!((count(AttemptEnd::Retry), count(AttemptEnd::Ticket(Outcome::Success))), (1, 1));
}

/// Moving on holds for one attempt: the one after that need not leave the backend to which it went.
#[test]
fn moves_on_once() {
    let mut driver = Driver::with("fcfs", &[plain(1), plain(1)]);
    let ticket = driver.submit(1, &[10])[0];
    assert_eq!(driver.dispatches()[0].backend, 0);
    driver.scheduler.move_on(driver.now_ns, ticket).unwrap();
    assert!(driver.retry(ticket, 0, false));
    assert_eq!(driver.dispatches()[0].backend, 1);
    driver.submit(2, &[10]);
    assert_eq!(driver.dispatches()[0].backend, 0);
    assert!(driver.retry(ticket, 0, false));
    assert_eq!(driver.released(), [ticket], "where it was, as the other is busy");
}
