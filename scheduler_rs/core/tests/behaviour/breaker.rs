//! Breakers: what opens them, what waits meanwhile, what closes them (T15).

use crate::driver::{Driver, SECOND, STANDARD, plain, serving};
use expresslane_scheduler::{
    BackendConfig, BreakerConfig, BreakerSnapshot, BreakerState, ExpiryReason, Holder, LimitKind, Limited,
    Outcome, TicketId,
};

pub(crate) const QUICK: BreakerConfig = BreakerConfig {
    error_ratio: 0.5,
    min_samples: 4,
    window_ns: 30 * SECOND,
    open_ns: 5 * SECOND,
    open_max_ns: 40 * SECOND,
    probes: 1,
};

pub(crate) fn breaking(cap: u32, breaker: BreakerConfig) -> BackendConfig {
    BackendConfig { breaker: Some(breaker), ..plain(cap) }
}

pub(crate) fn breaker(driver: &Driver) -> BreakerSnapshot {
    driver.scheduler.snapshot().backends[0].breaker.expect("the backend has a breaker")
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Good,
    /// By the backend's fault.
    Bad,
    /// By the caller's own fault.
    CallerError,
    Cancel,
    /// Blamed for what a cancel caused.
    CancelBlamed,
}

pub(crate) fn end(driver: &mut Driver, ticket: TicketId, end: End) {
    let now_ns = driver.now_ns;
    if matches!(end, End::Cancel | End::CancelBlamed) {
        driver.scheduler.cancel(now_ns, ticket);
    }
    if matches!(end, End::Bad | End::CancelBlamed) {
        driver.scheduler.blame(now_ns, ticket).expect("it is in flight");
    }
    let outcome = match end {
        End::Good => Outcome::Success,
        End::Bad | End::CallerError => Outcome::Failed,
        End::Cancel | End::CancelBlamed => Outcome::Cancelled,
    };
    driver.scheduler.finish(now_ns, ticket, outcome).expect("it is in flight");
}

/// Submits and releases one prompt, and ends it at once.
fn attempt(driver: &mut Driver, how: End) {
    let ticket = driver.submit(1, &[10])[0];
    assert_eq!(driver.released(), [ticket]);
    end(driver, ticket, how);
}

fn opened() -> Driver {
    let mut driver = Driver::with("fcfs", &[breaking(10, QUICK)]);
    (0..4).for_each(|_| attempt(&mut driver, End::Bad));
    assert_eq!(breaker(&driver).state, BreakerState::Open);
    driver
}

/// It opens at the ratio, not below it and not on too few samples.
#[test]
fn opens_at_the_ratio() {
    let mut driver = Driver::with("fcfs", &[breaking(10, QUICK)]);
    for how in [End::Bad, End::Bad, End::Bad] {
        attempt(&mut driver, how);
    }
    assert_eq!(breaker(&driver).state, BreakerState::Closed, "three samples are too few");
    for _ in 0..4 {
        attempt(&mut driver, End::Good);
    }
    assert_eq!((breaker(&driver).good, breaker(&driver).bad), (4, 3));
    attempt(&mut driver, End::Bad);
    let snapshot = breaker(&driver);
    assert_eq!((snapshot.state, snapshot.opened), (BreakerState::Open, 1));
    assert_eq!(snapshot.half_open_at_ns, Some(5 * SECOND));
}

/// Failures come back before answers do: what is still on its way counts as good until it has told.
#[test]
fn quick_failures() {
    let mut driver = Driver::with("fcfs", &[breaking(20, QUICK)]);
    let tickets = driver.submit(1, &[10; 20]);
    assert_eq!(driver.released(), tickets);
    tickets[..9].iter().for_each(|&ticket| end(&mut driver, ticket, End::Bad));
    assert_eq!(breaker(&driver).state, BreakerState::Closed, "eleven may still be answered");
    end(&mut driver, tickets[9], End::CallerError);
    end(&mut driver, tickets[10], End::Bad);
    assert_eq!(breaker(&driver).state, BreakerState::Open, "ten have failed, and nine may still be answered");
}

/// Later on nothing counts that has not told: time-outs come back last, and others have taken their places by then.
#[test]
fn slow_failures() {
    let mut driver = Driver::with("fcfs", &[breaking(20, QUICK)]);
    driver.advance(QUICK.window_ns);
    let slow = driver.submit(1, &[10; 20]);
    assert_eq!(driver.released(), slow);
    driver.submit(1, &[10; 20]);
    driver.advance(20 * SECOND);
    for (at, &ticket) in slow[..4].iter().enumerate() {
        assert_eq!(breaker(&driver).state, BreakerState::Closed, "after {at}");
        end(&mut driver, ticket, End::Bad);
        driver.poll();
    }
    assert_eq!(breaker(&driver).state, BreakerState::Open);
}

/// What hangs for longer than the window says nothing for its backend any more.
#[test]
fn hanging_attempts() {
    let mut driver = Driver::with("fcfs", &[breaking(20, QUICK)]);
    driver.submit(1, &[10; 16]);
    assert_eq!(driver.released().len(), 16);
    driver.advance(QUICK.window_ns);
    (0..4).for_each(|_| attempt(&mut driver, End::Bad));
    assert_eq!(breaker(&driver).state, BreakerState::Open);
}

/// Failures that are older than the window count no more.
#[test]
fn window_slides() {
    let mut driver = Driver::with("fcfs", &[breaking(10, QUICK)]);
    for _ in 0..3 {
        attempt(&mut driver, End::Bad);
    }
    driver.advance(30 * SECOND - 1);
    driver.poll();
    assert_eq!(breaker(&driver).bad, 3);
    driver.advance(1);
    driver.poll();
    assert_eq!(breaker(&driver).bad, 0);
    attempt(&mut driver, End::Bad);
    assert_eq!((breaker(&driver).state, breaker(&driver).bad), (BreakerState::Closed, 1));
}

/// Neither cancels nor errors of callers open it, however many there are.
#[test]
fn not_by_callers() {
    let mut driver = Driver::with("fcfs", &[breaking(10, QUICK)]);
    for how in [End::CallerError, End::Cancel, End::CancelBlamed].repeat(50) {
        attempt(&mut driver, how);
    }
    let ticket = driver.submit(1, &[10])[0];
    driver.poll();
    assert!(driver.retry(ticket, 0, false));
    let snapshot = breaker(&driver);
    assert_eq!((snapshot.state, snapshot.good, snapshot.bad), (BreakerState::Closed, 0, 0));
}

/// One attempt counts once, also when it is blamed twice and then ends.
#[test]
fn counts_once() {
    let mut driver = Driver::with("fcfs", &[breaking(10, QUICK)]);
    let ticket = driver.submit(1, &[10])[0];
    driver.poll();
    driver.scheduler.blame(0, ticket).unwrap();
    driver.scheduler.blame(0, ticket).unwrap();
    assert!(driver.retry(ticket, 0, false));
    assert!(driver.scheduler.blame(0, ticket).is_err(), "it is not in flight");
    assert_eq!((breaker(&driver).good, breaker(&driver).bad), (0, 1));
    driver.poll();
    driver.finish(ticket);
    assert_eq!((breaker(&driver).good, breaker(&driver).bad), (1, 1));
}

/// While it is open nothing goes there; who waits is told until when; then one probe goes, and its success closes it.
#[test]
fn probe_closes() {
    let mut driver = opened();
    let tickets = driver.submit(1, &[10; 3]);
    let decisions = driver.poll();
    assert!(decisions.dispatches.is_empty());
    let told = Limited { holder: Holder::Backend(0), kind: LimitKind::Breaker, reset_at_ns: 5 * SECOND };
    assert_eq!(decisions.limited, [told]);
    assert_eq!(driver.scheduler.next_deadline(), Some(5 * SECOND));
    driver.now_ns = 5 * SECOND;
    let decisions = driver.poll();
    assert_eq!((decisions.dispatches.len(), decisions.limited.len()), (1, 0));
    assert_eq!(breaker(&driver).state, BreakerState::HalfOpen);
    driver.advance(SECOND);
    assert!(driver.released().is_empty(), "one probe at a time");
    driver.finish(tickets[0]);
    assert_eq!(breaker(&driver).state, BreakerState::Closed);
    assert_eq!(driver.released(), tickets[1..]);
}

/// Of several backends those are told whose breakers are open or being tried, as the snapshot tells of them.
#[test]
fn tripped() {
    let of = |model, config| BackendConfig { models: serving(&[model]), ..config };
    let backends = [of(0, plain(10)), of(1, breaking(10, QUICK)), of(2, breaking(10, QUICK))];
    let mut driver = Driver::with("fcfs", &backends);
    let ask = |driver: &mut Driver, model| {
        let ticket = driver.submit_one(model, STANDARD, 10);
        assert_eq!(driver.released(), [ticket]);
        ticket
    };
    let told = |driver: &Driver| {
        let tripped = driver.scheduler.tripped_breakers();
        let backends = driver.scheduler.snapshot().backends;
        for &(backend, breaker) in &tripped {
            assert_eq!(backends[backend as usize].breaker, Some(breaker));
        }
        tripped.iter().map(|(backend, breaker)| (*backend, breaker.state)).collect::<Vec<_>>()
    };
    for (model, how) in [(0, End::Bad), (1, End::Good), (2, End::Bad)].repeat(4) {
        assert_eq!(told(&driver), []);
        let ticket = ask(&mut driver, model);
        end(&mut driver, ticket, how);
    }
    assert_eq!(told(&driver), [(2, BreakerState::Open)]);
    driver.advance(5 * SECOND);
    let probe = ask(&mut driver, 2);
    assert_eq!(told(&driver), [(2, BreakerState::HalfOpen)]);
    driver.finish(probe);
    assert_eq!(told(&driver), []);
}

/// A probe's first token closes it: its answer may take minutes. That answer's end says nothing more.
#[test]
fn first_token_closes() {
    let mut driver = opened();
    let tickets = driver.submit(1, &[10; 3]);
    driver.now_ns = 5 * SECOND;
    assert_eq!(driver.released(), tickets[..1]);
    driver.advance(SECOND);
    driver.first_token(tickets[0]);
    assert_eq!(driver.released(), tickets[1..]);
    end(&mut driver, tickets[0], End::Bad);
    assert_eq!((breaker(&driver).state, breaker(&driver).bad), (BreakerState::Closed, 0));
}

/// A probe that says nothing makes room for the next; one that fails opens it again, for twice as long.
#[test]
fn probe_fails() {
    let mut driver = opened();
    let tickets = driver.submit(1, &[10; 3]);
    driver.now_ns = 5 * SECOND;
    assert_eq!(driver.released(), tickets[..1]);
    end(&mut driver, tickets[0], End::CallerError);
    assert_eq!(driver.released(), tickets[1..2]);
    end(&mut driver, tickets[1], End::Bad);
    assert!(driver.released().is_empty());
    assert_eq!(breaker(&driver).half_open_at_ns, Some(15 * SECOND));
}

/// Late failures of what was released before the opening do not open it again once a probe has closed it.
#[test]
fn late_failures() {
    let mut driver = Driver::with("fcfs", &[breaking(20, QUICK)]);
    let tickets = driver.submit(1, &[10; 14]);
    assert_eq!(driver.released(), tickets);
    for &ticket in &tickets[..7] {
        end(&mut driver, ticket, End::Bad);
    }
    driver.now_ns = 5 * SECOND;
    attempt(&mut driver, End::Good);
    for &ticket in &tickets[7..] {
        end(&mut driver, ticket, End::Bad);
    }
    assert_eq!((breaker(&driver).state, breaker(&driver).bad), (BreakerState::Closed, 0));
}

/// With another backend for the model, work moves at once.
#[test]
fn work_moves() {
    let mut driver = Driver::with("fcfs", &[breaking(10, QUICK), plain(1)]);
    for _ in 0..4 {
        let ticket = driver.submit(1, &[10])[0];
        assert_eq!(driver.dispatches()[0].backend, 0);
        end(&mut driver, ticket, End::Bad);
    }
    driver.submit(1, &[10]);
    assert_eq!(driver.dispatches()[0].backend, 1);
}

/// With none, work waits as long as for a backend that is down, counted from the opening until a probe succeeds, but not
/// while one is out.
#[test]
fn no_backend() {
    let mut driver = opened();
    let first = driver.submit(1, &[10; 2]);
    driver.now_ns = 5 * SECOND;
    assert_eq!(driver.released(), first[..1]);
    end(&mut driver, first[0], End::Bad);
    driver.now_ns = 10 * SECOND - 1;
    assert!(driver.poll().expired.is_empty());
    driver.now_ns = 10 * SECOND;
    let expired = driver.poll().expired;
    assert_eq!((expired[0].ticket, expired[0].reason), (first[1], ExpiryReason::NoBackend));
    let late = driver.submit(1, &[10])[0];
    driver.now_ns = 15 * SECOND;
    assert_eq!(driver.released(), [late], "it is the next probe");
    driver.finish(late);
    driver.submit(1, &[10]);
    assert_eq!(driver.released().len(), 1);
}

/// While a slow probe is out nobody knows that the backend is down: what waits for it is given up only once it has failed,
/// however long ago the breaker opened (P33).
#[test]
fn slow_probe() {
    for (how, given_up) in [(End::Good, 0), (End::Bad, 9)] {
        let mut driver = opened();
        let tickets = driver.submit(1, &[10; 10]);
        driver.now_ns = 5 * SECOND;
        assert_eq!(driver.released(), tickets[..1]);
        driver.now_ns = 34 * SECOND;
        assert!(driver.poll().expired.is_empty(), "its first token takes 29 seconds");
        end(&mut driver, tickets[0], how);
        let decisions = driver.poll();
        assert_eq!((decisions.expired.len(), decisions.dispatches.len()), (given_up, 9 - given_up));
    }
}

/// A probe that hangs is given half a minute, then its backend is left alone again, and what has waited for it too long
/// is told so; what it says in the end counts no more (P33).
#[test]
fn hung_probe() {
    let mut driver = opened();
    let tickets = driver.submit(1, &[10; 10]);
    driver.now_ns = 5 * SECOND;
    assert_eq!(driver.released(), tickets[..1]);
    driver.now_ns = 30 * SECOND;
    let late = driver.submit(2, &[10])[0];
    driver.poll();
    assert_eq!(driver.scheduler.next_deadline(), Some(35 * SECOND));
    driver.now_ns = 35 * SECOND;
    let decisions = driver.poll();
    assert_eq!(decisions.expired.iter().map(|one| one.ticket).collect::<Vec<_>>(), tickets[1..]);
    let snapshot = breaker(&driver);
    assert_eq!((snapshot.state, snapshot.half_open_at_ns), (BreakerState::Open, Some(45 * SECOND)));
    driver.first_token(tickets[0]);
    driver.finish(tickets[0]);
    assert_eq!(breaker(&driver).state, BreakerState::Open);
    driver.now_ns = 40 * SECOND;
    assert_eq!(driver.poll().expired[0].ticket, late, "it has waited ten seconds, and no probe is out");
}

/// A backend whose first tokens always take longer than a probe is given has twice as long each time; where they are known
/// to, four times what is expected.
#[test]
fn patience_grows() {
    let patience = |driver: &mut Driver| {
        driver.now_ns = breaker(driver).half_open_at_ns.expect("it is open");
        let ticket = driver.submit(1, &[1_000])[0];
        assert_eq!(driver.released(), [ticket]);
        let released_ns = driver.now_ns;
        while breaker(driver).state == BreakerState::HalfOpen {
            driver.now_ns = driver.scheduler.next_deadline().expect("the probe has its time");
            driver.poll();
        }
        (driver.now_ns - released_ns) / SECOND
    };
    let mut driver = opened();
    let seconds: Vec<_> = (0..6).map(|_| patience(&mut driver)).collect();
    assert_eq!(seconds, [30, 60, 120, 240, 480, 600]);
    let slow = BackendConfig { prefill_tokens_per_s: 10.0, ..breaking(10, QUICK) };
    let mut driver = Driver::with("fcfs", &[slow]);
    (0..4).for_each(|_| attempt(&mut driver, End::Bad));
    assert_eq!(patience(&mut driver) / 10, 40, "a thousand tokens take about 100 seconds");
}

/// What waits while a backend is tried is due at once where the backend is taken away then.
#[test]
fn taken_away_while_tried() {
    let mut driver = opened();
    let tickets = driver.submit(1, &[10; 3]);
    driver.now_ns = 5 * SECOND;
    assert_eq!(driver.released(), tickets[..1]);
    driver.now_ns = 20 * SECOND;
    assert!(driver.poll().expired.is_empty());
    driver.backend(0, BackendConfig { available: false, ..breaking(10, QUICK) });
    assert_eq!(driver.poll().expired.len(), 2);
}

/// A backend that works only for its probes is tried less and less often, up to the longest time.
#[test]
fn flapping() {
    let mut driver = opened();
    let mut waits = Vec::new();
    for _ in 0..5 {
        let half_open_at_ns = breaker(&driver).half_open_at_ns.expect("it is open");
        waits.push((half_open_at_ns - driver.now_ns) / SECOND);
        driver.now_ns = half_open_at_ns;
        attempt(&mut driver, End::Good);
        (0..4).for_each(|_| attempt(&mut driver, End::Bad));
    }
    assert_eq!(waits, [5, 10, 20, 40, 40]);
    let half_open_at_ns = breaker(&driver).half_open_at_ns.expect("it is open");
    driver.now_ns = half_open_at_ns;
    attempt(&mut driver, End::Good);
    driver.advance(30 * SECOND);
    (0..4).for_each(|_| attempt(&mut driver, End::Bad));
    let again_ns = breaker(&driver).half_open_at_ns.expect("it is open") - driver.now_ns;
    assert_eq!(again_ns, 5 * SECOND, "a whole window closed makes up for it");
}

/// A breaker that is switched off lets everything go; other numbers keep its state.
#[test]
fn changed_while_open() {
    let mut driver = opened();
    let tickets = driver.submit(1, &[10; 2]);
    driver.backend(0, breaking(10, BreakerConfig { probes: 2, ..QUICK }));
    assert!(driver.released().is_empty());
    driver.backend(0, plain(10));
    assert_eq!(driver.released(), tickets);
    assert_eq!(driver.scheduler.snapshot().backends[0].breaker, None);
}

/// Numbers that make no sense are refused by name, and nothing is applied.
#[test]
fn bad_numbers() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let wrong = [
        ("error_ratio", BreakerConfig { error_ratio: 0.0, ..QUICK }),
        ("error_ratio", BreakerConfig { error_ratio: -0.5, ..QUICK }),
        ("error_ratio", BreakerConfig { error_ratio: 1.01, ..QUICK }),
        ("error_ratio", BreakerConfig { error_ratio: f64::NAN, ..QUICK }),
        ("min_samples", BreakerConfig { min_samples: 0, ..QUICK }),
        ("window_ns", BreakerConfig { window_ns: 0, ..QUICK }),
        ("open_ns", BreakerConfig { open_ns: 0, ..QUICK }),
        ("open_max_ns", BreakerConfig { open_max_ns: QUICK.open_ns - 1, ..QUICK }),
        ("probes", BreakerConfig { probes: 0, ..QUICK }),
    ];
    for (field, breaker) in wrong {
        let config = BackendConfig { cap: 7, ..breaking(7, breaker) };
        let refused = driver.scheduler.update_backend(0, 0, config).unwrap_err().to_string();
        assert!(refused.contains(field), "{refused}");
    }
    let backend = &driver.scheduler.snapshot().backends[0];
    assert_eq!((backend.cap, backend.breaker), (1, None));
}
