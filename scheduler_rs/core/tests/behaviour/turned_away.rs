//! Rate limits that providers enforce: what they turn away waits on as before, and less goes there at once (A26, P35).

use crate::driver::{Driver, MS, SECOND, plain, policy, serving};
use expresslane_scheduler::{
    BackendConfig, BatchOptions, Config, ExpiryReason, ModelRoute, Outcome, TicketId,
};

fn ramped(cap: u32) -> BackendConfig {
    BackendConfig { ramp: true, ..plain(cap) }
}

fn turn_away(driver: &mut Driver, ticket: TicketId, delay_ns: u64) {
    driver.scheduler.turned_away(driver.now_ns, ticket).expect("it is in flight");
    assert!(driver.retry(ticket, delay_ns, false));
}

/// What may be in flight at backend 0, by model.
fn caps(driver: &Driver) -> Vec<(u32, u32)> {
    driver.scheduler.snapshot().backends[0].cap_by_model.clone()
}

fn finish_all(driver: &mut Driver, tickets: &[TicketId]) {
    for &ticket in tickets {
        driver.finish(ticket);
    }
}

/// Eight in flight of which one is turned away: four may be from then on, five after a round of four, and so on to the
/// cap (P35).
#[test]
fn half_and_then_one_more_each_round() {
    let mut driver = Driver::with("fcfs", &[ramped(8)]);
    driver.submit(1, &[10; 60]);
    let burst = driver.released();
    driver.advance(MS);
    turn_away(&mut driver, burst[0], 0);
    finish_all(&mut driver, &burst[1..]);
    let mut rounds = Vec::new();
    for _ in 0..6 {
        driver.advance(MS);
        let round = driver.released();
        rounds.push(round.len());
        finish_all(&mut driver, &round);
    }
    assert_eq!(rounds, [4, 5, 6, 7, 8, 8]);
    assert_eq!(caps(&driver), [(0, 8)]);
}

/// A burst that is turned away as a whole halves once; the next round that is turned away halves again, down to one.
#[test]
fn one_cut_each_round() {
    let mut driver = Driver::with("fcfs", &[ramped(8)]);
    let tickets = driver.submit(1, &[10; 8]);
    let mut rounds = Vec::new();
    for _ in 0..5 {
        let round = driver.released();
        rounds.push(round.len());
        driver.advance(MS);
        for &ticket in &round {
            turn_away(&mut driver, ticket, MS);
        }
        driver.advance(MS);
    }
    assert_eq!(rounds, [8, 4, 2, 1, 1]);
    let backend = &driver.scheduler.snapshot().backends[0];
    assert_eq!((backend.turned_away, backend.in_flight), (16, 0));
    assert_eq!(driver.released(), tickets[..1], "who came first is still first");
}

/// What was on its way before the cut says nothing about what is sent after it.
#[test]
fn late_successes_do_not_count() {
    let mut driver = Driver::with("fcfs", &[ramped(8)]);
    driver.submit(1, &[10; 20]);
    let burst = driver.released();
    driver.advance(MS);
    turn_away(&mut driver, burst[0], 0);
    finish_all(&mut driver, &burst[1..]);
    assert_eq!(caps(&driver), [(0, 4)]);
    assert_eq!(driver.released().len(), 4);
}

/// It holds for one model of one backend; the others go on with their caps.
#[test]
fn of_one_model() {
    let both = vec![ModelRoute { model: 0, cap: 6 }, ModelRoute { model: 1, cap: 0 }];
    let mut driver = Driver::with("fcfs", &[BackendConfig { models: both, ..ramped(8) }, ramped(8)]);
    let tickets = driver.submit(1, &[10; 16]);
    driver.poll();
    driver.advance(MS);
    turn_away(&mut driver, tickets[0], 0);
    let caps: Vec<_> = driver.scheduler.snapshot().backends.into_iter().map(|one| one.cap_by_model).collect();
    assert_eq!(caps, [vec![(0, 3), (1, 8)], vec![(0, 8)]]);
}

/// Off, the caps are all that holds; switched off or lowered below it at runtime, the soft cap is gone.
#[test]
fn switched_off() {
    let mut driver = Driver::with("fcfs", &[plain(8)]);
    let tickets = driver.submit(1, &[10; 8]);
    driver.poll();
    turn_away(&mut driver, tickets[0], 0);
    assert_eq!(caps(&driver), [(0, 8)]);
    driver.backend(0, ramped(8));
    driver.advance(MS);
    driver.poll();
    driver.advance(MS);
    turn_away(&mut driver, tickets[0], 0);
    assert_eq!(caps(&driver), [(0, 4)]);
    driver.backend(0, ramped(6));
    assert_eq!(caps(&driver), [(0, 4)], "another cap above it does not end it");
    driver.backend(0, plain(8));
    assert_eq!(caps(&driver), [(0, 8)]);
    driver.backend(0, ramped(8));
    assert_eq!(caps(&driver), [(0, 8)]);
}

/// The queue timeout counts from the first wait on: a backend that only ever turns away does not put it off, though
/// each other end of an attempt would.
#[test]
fn does_not_put_off_the_queue_timeout() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let options = BatchOptions { queue_timeout_ns: 30 * SECOND, ..BatchOptions::default() };
    let tickets = driver.try_submit(1, &[(0, 1, 10), (0, 1, 10)], options).unwrap();
    for _ in 0..3 {
        assert_eq!(driver.released(), tickets[..1]);
        turn_away(&mut driver, tickets[0], 9 * SECOND);
        driver.advance(9 * SECOND);
    }
    assert_eq!(driver.released(), tickets[..1]);
    turn_away(&mut driver, tickets[0], 9 * SECOND);
    assert_eq!(driver.scheduler.next_deadline(), Some(30 * SECOND));
    driver.poll();
    driver.advance(3 * SECOND);
    let expired: Vec<_> = driver.poll().expired.iter().map(|one| (one.ticket, one.reason)).collect();
    assert_eq!(expired, [(tickets[0], ExpiryReason::Queue)], "the other one is released to the free slot");
}

/// A prompt that gives up because it was turned away is no sign that its batch moves on.
#[test]
fn giving_up_does_not_restart_the_batch() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let options = BatchOptions { queue_timeout_ns: 30 * SECOND, ..BatchOptions::default() };
    let tickets = driver.try_submit(1, &[(0, 1, 10), (0, 1, 10)], options).unwrap();
    driver.poll();
    driver.advance(20 * SECOND);
    driver.scheduler.pause(driver.now_ns, 0, None, 100 * SECOND);
    driver.scheduler.turned_away(driver.now_ns, tickets[0]).unwrap();
    driver.scheduler.finish(driver.now_ns, tickets[0], Outcome::Failed).unwrap();
    driver.poll();
    driver.advance(10 * SECOND);
    assert_eq!(driver.poll().expired[0].ticket, tickets[1]);
}

/// What was turned away costs the tenant's retry budget nothing, and what fails afterwards costs it again.
#[test]
fn costs_no_retry_budget() {
    let mut driver = Driver::new(Config { policy: policy("fcfs"), retry_ratio: 0.1, ..Config::default() });
    driver.backend(0, ramped(1));
    let ticket = driver.submit(1, &[10])[0];
    for _ in 0..40 {
        assert_eq!(driver.released(), [ticket]);
        turn_away(&mut driver, ticket, 0);
        driver.advance(MS);
    }
    for allowed in [[true; 10].as_slice(), &[false]].concat() {
        driver.poll();
        assert_eq!(driver.retry(ticket, 0, false), allowed);
    }
}

/// Told late or twice it changes nothing.
#[test]
fn told_once_and_in_time() {
    let mut driver = Driver::with("fcfs", &[BackendConfig { models: serving(&[0]), ..ramped(8) }]);
    let tickets = driver.submit(1, &[10; 8]);
    assert!(driver.scheduler.turned_away(0, tickets[0]).is_err(), "it still waits");
    driver.poll();
    for _ in 0..2 {
        driver.scheduler.turned_away(MS, tickets[0]).unwrap();
    }
    let backend = &driver.scheduler.snapshot().backends[0];
    assert_eq!((backend.turned_away, backend.cap_by_model[0].1), (1, 4));
    driver.scheduler.finish(MS, tickets[0], Outcome::Failed).unwrap();
    assert!(driver.scheduler.turned_away(MS, tickets[0]).is_err());
}
