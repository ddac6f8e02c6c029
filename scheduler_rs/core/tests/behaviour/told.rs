//! What providers say is left of their own limits (A26, T15).

use crate::driver::{Driver, SECOND, STANDARD, plain, serving};
use expresslane_scheduler::{
    BackendConfig, BatchOptions, Holder, Left, LimitKind, Limited, Outcome, Prompt, TicketId, Usage,
};

fn left(amount: u64, limit: u64, reset_s: u64) -> Left {
    Left { amount, limit, reset_at_ns: reset_s * SECOND }
}

fn told(
    driver: &mut Driver,
    ticket: TicketId,
    requests: Option<Left>,
    tokens: Option<Left>,
) -> Option<(LimitKind, u64)> {
    driver.scheduler.told(driver.now_ns, ticket, requests, tokens).expect("it is in flight")
}

/// Three left and eight slots: of what waits as many go as are left, the rest in order at the reset.
#[test]
fn as_many_as_are_left() {
    let mut driver = Driver::with("fcfs", &[plain(8)]);
    let first = driver.submit(1, &[10]);
    assert_eq!(driver.released(), first);
    assert_eq!(told(&mut driver, first[0], Some(left(3, 5, 60)), None), None);
    let tickets = driver.submit(1, &[10; 9]);
    assert_eq!(driver.released(), tickets[..3]);
    assert_eq!(driver.scheduler.next_deadline(), Some(60 * SECOND));
    driver.now_ns = 60 * SECOND;
    assert_eq!(driver.released(), tickets[3..7], "four slots are free; the whole limit is five");
    for &ticket in &tickets[..3] {
        driver.finish(ticket);
    }
    assert_eq!(driver.released(), tickets[7..8], "that is the fifth, and no answer has come yet");
    told(&mut driver, tickets[7], Some(left(0, 5, 120)), None);
    driver.now_ns = 120 * SECOND;
    assert_eq!(driver.released(), tickets[8..]);
}

/// Who waits is told once, with the model's backend, what is used up and when it is there again.
#[test]
fn told_once() {
    let mut driver = Driver::with("fcfs", &[plain(8)]);
    let tickets = driver.submit(1, &[10]);
    driver.released();
    let closed = told(&mut driver, tickets[0], Some(left(0, 0, 30)), Some(left(9, 0, 20)));
    assert_eq!(closed, Some((LimitKind::RequestsLeft, 30 * SECOND)));
    assert!(driver.poll().limited.is_empty(), "nobody waits");
    driver.submit(1, &[10]);
    let limited =
        Limited { holder: Holder::Model(0, 0), kind: LimitKind::RequestsLeft, reset_at_ns: 30 * SECOND };
    assert_eq!(driver.poll().limited, [limited]);
    driver.advance(SECOND);
    assert!(driver.poll().limited.is_empty());
    let snapshot = driver.scheduler.snapshot();
    assert_eq!(snapshot.backends[0].limited, Some((LimitKind::RequestsLeft, 30 * SECOND)));
    assert_eq!(snapshot.backends[0].spent, [(0, LimitKind::RequestsLeft, 30 * SECOND)]);
}

/// A prompt that asks for more tokens than are left waits for the reset and keeps smaller ones of its model back, no
/// others; a usage below the estimate lets it go.
#[test]
fn tokens_in_order() {
    let both = BackendConfig { models: serving(&[0, 1]), ..plain(8) };
    let mut driver = Driver::with("fcfs", &[both]);
    let prompt = Prompt { class: STANDARD, tokens: 300, output_tokens: 200, ..Prompt::default() };
    let first = driver.scheduler.submit(0, 1, &[prompt; 2], BatchOptions::default()).unwrap();
    assert_eq!(driver.released(), first);
    told(&mut driver, first[0], None, Some(left(1_000, 0, 60)));
    let waiting = driver.submit(1, &[600, 10]);
    let other = driver.submit_one(1, STANDARD, 2_000);
    assert_eq!(driver.released(), [other]);
    let usage = Some(Usage { uncached_input_tokens: 200, cached_input_tokens: 100, output_tokens: 50 });
    driver.scheduler.finish_with_usage(0, first[1], Outcome::Success, usage).unwrap();
    assert_eq!(driver.released(), waiting);
}

/// What is above the whole limit goes alone after the reset, and nothing beside it.
#[test]
fn above_the_whole_limit() {
    let mut driver = Driver::with("fcfs", &[plain(8)]);
    let first = driver.submit(1, &[10]);
    driver.released();
    told(&mut driver, first[0], None, Some(left(400, 500, 60)));
    driver.finish(first[0]);
    let tickets = driver.submit(1, &[5_000, 10]);
    assert!(driver.released().is_empty());
    driver.now_ns = 60 * SECOND;
    assert_eq!(driver.released(), tickets[..1]);
    driver.finish(tickets[0]);
    assert_eq!(driver.released(), tickets[1..], "its answer said nothing, and nothing is in flight");
}

/// What one backend has nothing left of goes to another that has.
#[test]
fn elsewhere() {
    let mut driver = Driver::with("fcfs", &[plain(8), plain(1)]);
    let first = driver.submit(1, &[10]);
    assert_eq!(driver.dispatches()[0].backend, 0);
    told(&mut driver, first[0], Some(left(0, 0, 60)), Some(left(5, 0, 60)));
    driver.submit(1, &[10; 2]);
    let dispatches = driver.dispatches();
    assert_eq!(dispatches.iter().map(|one| one.backend).collect::<Vec<_>>(), [1]);
}

/// It narrows what configured limits allow, and never widens it.
#[test]
fn beside_configured_limits() {
    let mut driver = Driver::with("fcfs", &[BackendConfig { requests_per_min: 2, ..plain(8) }]);
    let tickets = driver.submit(1, &[10; 4]);
    assert_eq!(driver.released(), tickets[..2]);
    told(&mut driver, tickets[1], Some(left(100, 100, 5)), None);
    assert!(driver.released().is_empty());
    driver.now_ns = 60 * SECOND;
    assert_eq!(driver.released(), tickets[2..]);
}

/// Of a ticket that is not in flight nothing can be told.
#[test]
fn not_in_flight() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let ticket = driver.submit(1, &[10])[0];
    assert!(driver.scheduler.told(0, ticket, Some(left(0, 0, 60)), None).is_err());
    assert_eq!(driver.released(), [ticket]);
}
