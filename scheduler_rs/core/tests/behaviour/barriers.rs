//! Sequential prompts: they start after all earlier ones of their batch and before all later ones (T17).

use crate::driver::{Driver, SECOND, plain};
use expresslane_scheduler::{BatchOptions, Outcome, Prompt, TicketId};

/// Submits prompts of ten tokens to batch 1, sequential where the mark is `s`.
fn submit(driver: &mut Driver, marks: &str) -> Vec<TicketId> {
    let prompts: Vec<Prompt> = (0..)
        .zip(marks.chars())
        .map(|(index, mark)| Prompt {
            class: 1,
            tokens: 10,
            index,
            sequential: mark == 's',
            ..Prompt::default()
        })
        .collect();
    driver.scheduler.submit(driver.now_ns, 1, &prompts, BatchOptions::default()).unwrap()
}

/// What runs together, each stage ended before the next is looked at.
fn stages(driver: &mut Driver) -> Vec<Vec<TicketId>> {
    let mut stages = Vec::new();
    loop {
        let released = driver.released();
        if released.is_empty() {
            return stages;
        }
        for &ticket in &released {
            driver.finish(ticket);
        }
        stages.push(released);
    }
}

/// Concurrent prompts before a sequential one run together, then it alone, then those after it.
#[test]
fn barrier() {
    let mut driver = Driver::with("fcfs", &[plain(10)]);
    let tickets = submit(&mut driver, "..s..ss.");
    let expected =
        [&tickets[..2], &tickets[2..3], &tickets[3..5], &tickets[5..6], &tickets[6..7], &tickets[7..]];
    assert_eq!(stages(&mut driver), expected);
}

/// The barrier waits for the last of the earlier ones, however they end, and holds up no other batch.
#[test]
fn waits_for_all() {
    let mut driver = Driver::with("fcfs", &[plain(10)]);
    let tickets = submit(&mut driver, "...s.");
    assert_eq!(driver.released(), tickets[..3]);
    driver.finish(tickets[0]);
    driver.scheduler.finish(0, tickets[1], Outcome::Failed).unwrap();
    assert!(driver.released().is_empty());
    assert!(driver.retry(tickets[2], SECOND, false), "a retry has not ended");
    let other = driver.submit(2, &[10]);
    assert_eq!(driver.released(), other);
    driver.advance(SECOND);
    assert_eq!(driver.released(), tickets[2..3]);
    driver.finish(tickets[2]);
    assert_eq!(driver.released(), tickets[3..4]);
    driver.finish(tickets[3]);
    assert_eq!(driver.released(), tickets[4..]);
}

/// A cancelled barrier keeps nothing back any more, and cancelling everything ends everything.
#[test]
fn cancelled() {
    let mut driver = Driver::with("fcfs", &[plain(10)]);
    let tickets = submit(&mut driver, ".s..s.");
    assert_eq!(driver.released(), tickets[..1]);
    driver.scheduler.cancel(0, tickets[1]);
    assert_eq!(driver.released(), tickets[2..4]);
    let cancelled = driver.scheduler.cancel_batch(0, 1);
    assert_eq!((cancelled.removed.len(), cancelled.in_flight.len()), (2, 3));
    for ticket in cancelled.in_flight {
        driver.scheduler.finish(0, ticket, Outcome::Cancelled).unwrap();
    }
    assert_eq!(driver.scheduler.snapshot().queued, 0);
}

/// What is submitted to the batch later waits for its barriers too.
#[test]
fn submitted_later() {
    let mut driver = Driver::with("fcfs", &[plain(10)]);
    let mut tickets = submit(&mut driver, "s");
    assert_eq!(driver.released(), tickets);
    tickets.extend(submit(&mut driver, ".s"));
    assert!(driver.released().is_empty());
    driver.finish(tickets[0]);
    assert_eq!(stages(&mut driver), [&tickets[1..2], &tickets[2..]]);
}

/// Behind a barrier the queue timeout runs as for any waiting prompt.
#[test]
fn expires_behind_a_barrier() {
    let mut driver = Driver::with("fcfs", &[plain(10)]);
    let options = BatchOptions { queue_timeout_ns: 5 * SECOND, ..BatchOptions::default() };
    let prompt = |sequential| Prompt { class: 1, tokens: 10, sequential, ..Prompt::default() };
    let tickets = driver.scheduler.submit(0, 1, &[prompt(true), prompt(false)], options).unwrap();
    assert_eq!(driver.released(), tickets[..1]);
    assert_eq!(driver.scheduler.next_deadline(), Some(5 * SECOND));
    driver.advance(5 * SECOND);
    assert_eq!(driver.poll().expired[0].ticket, tickets[1]);
}
