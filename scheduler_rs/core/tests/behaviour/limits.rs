//! Requests and tokens per minute, pauses, and the retry budget (T10, T11, T15).

use crate::driver::{Driver, SECOND, STANDARD, plain, policy, serving};
use expresslane_scheduler::{
    BackendConfig, BatchOptions, Config, Error, Holder, LimitKind, Limited, Outcome, Prompt, TicketId, Usage,
};

fn requests(requests_per_min: u32) -> BackendConfig {
    BackendConfig { requests_per_min, ..plain(100) }
}

fn tokens(tokens_per_min: u64) -> BackendConfig {
    BackendConfig { tokens_per_min, ..plain(100) }
}

/// Goes from deadline to deadline and returns what was released when, ending each at once.
fn run(driver: &mut Driver) -> Vec<(u64, Vec<TicketId>)> {
    let mut log = Vec::new();
    loop {
        let released = driver.released();
        for &ticket in &released {
            driver.finish(ticket);
        }
        if !released.is_empty() {
            log.push((driver.now_ns / SECOND, released));
        }
        match driver.scheduler.next_deadline() {
            Some(at_ns) => driver.now_ns = at_ns,
            None => return log,
        }
    }
}

/// No window of a minute sees more than the limit; the rest goes in order, exactly when the window frees.
#[test]
fn requests_per_minute() {
    let mut driver = Driver::with("fcfs", &[requests(3)]);
    let mut tickets = driver.submit(1, &[10; 2]);
    let first = driver.released();
    assert_eq!(first, tickets);
    driver.advance(10 * SECOND);
    tickets.extend(driver.submit(1, &[10; 5]));
    let log = run(&mut driver);
    assert_eq!(
        log,
        [
            (10, tickets[2..3].to_vec()),
            (60, tickets[3..5].to_vec()),
            (70, tickets[5..6].to_vec()),
            (120, tickets[6..].to_vec())
        ]
    );
}

/// Tokens count with the expected output, and what they really were makes room; what was cached was there too.
#[test]
fn tokens_per_minute() {
    let mut driver = Driver::with("fcfs", &[tokens(1_000)]);
    let prompt = Prompt { class: STANDARD, tokens: 300, output_tokens: 200, ..Prompt::default() };
    let tickets = driver.scheduler.submit(0, 1, &[prompt; 4], BatchOptions::default()).unwrap();
    assert_eq!(driver.released(), tickets[..2]);
    assert_eq!(driver.scheduler.snapshot().backends[0].tokens_in_window, 1_000);
    driver.advance(SECOND);
    let usage = Some(Usage { uncached_input_tokens: 100, cached_input_tokens: 200, output_tokens: 20 });
    driver.scheduler.finish_with_usage(driver.now_ns, tickets[0], Outcome::Success, usage).unwrap();
    assert!(driver.released().is_empty(), "820 + 500 is too much");
    driver.scheduler.finish_with_usage(driver.now_ns, tickets[1], Outcome::Success, usage).unwrap();
    assert!(driver.released().is_empty(), "640 + 500 is too much");
    assert_eq!(driver.scheduler.next_deadline(), Some(60 * SECOND));
    driver.now_ns = 60 * SECOND;
    assert_eq!(driver.released(), tickets[2..]);
}

/// A prompt that does not fit the window keeps later, smaller ones back: waiters are served in policy order.
#[test]
fn waiters_keep_their_order() {
    let mut driver = Driver::with("fcfs", &[tokens(1_000)]);
    let tickets = driver.submit(1, &[600, 600, 10, 10]);
    let log = run(&mut driver);
    assert_eq!(log, [(0, tickets[..1].to_vec()), (60, tickets[1..].to_vec())]);
}

/// What a limit closes hides nothing that can go elsewhere.
#[test]
fn other_backends_go_on() {
    let only = |model| BackendConfig { models: serving(&[model]), ..requests(1) };
    let mut driver = Driver::with("fcfs", &[only(0), only(1), plain(1)]);
    let tickets = driver.submit(1, &[10; 3]);
    let other = driver.submit_one(1, STANDARD, 10);
    assert_eq!(driver.released(), [tickets[0], tickets[1], other]);
}

/// A prompt above every whole limit is refused at submit with its batch; one backend that takes it is enough.
#[test]
fn above_the_limit() {
    let mut driver = Driver::with("fcfs", &[tokens(1_000), tokens(2_000)]);
    let refused = driver.try_submit(1, &[(0, 1, 10), (0, 1, 2_001)], BatchOptions::default());
    assert_eq!(refused, Err(Error::AboveLimit { tokens: 2_001, limit: 2_000, tenant: None }));
    assert_eq!(driver.scheduler.snapshot().queued, 0);
    driver.submit(1, &[2_000]);
    assert_eq!(driver.dispatches()[0].backend, 1);
    driver.backend(2, plain(1));
    driver.submit(1, &[5_000]);
    assert_eq!(driver.dispatches()[0].backend, 2);
}

/// A limit that shrinks below a prompt that waits lets it through an empty window instead of blocking for ever.
#[test]
fn shrunk_limit() {
    let mut driver = Driver::with("fcfs", &[tokens(1_000)]);
    let tickets = driver.submit(1, &[800, 800, 100]);
    assert_eq!(driver.released(), tickets[..1]);
    driver.backend(0, tokens(500));
    driver.finish(tickets[0]);
    assert_eq!(run(&mut driver), [(60, tickets[1..2].to_vec()), (120, tickets[2..].to_vec())]);
}

/// A prompt that was too large for a backend goes there once its limit is raised, in whatever state it waits (T11).
#[test]
fn raised_limit() {
    let mut driver = Driver::with("fcfs", &[tokens(1_000), BackendConfig { cap: 1, ..tokens(0) }]);
    let tickets = driver.submit(1, &[2_000, 2_000, 2_000, 3_000]);
    driver.scheduler.hold_batch(0, 1, 2);
    assert_eq!(driver.dispatches()[0].backend, 1);
    assert!(driver.retry(tickets[0], SECOND, false));
    assert_eq!(driver.released(), tickets[1..2], "only there");
    driver.backend(0, tokens(2_500));
    assert!(driver.released().is_empty(), "one waits for its retry, two for their reader");
    driver.advance(SECOND);
    let back = driver.dispatches();
    assert_eq!((back[0].ticket, back[0].backend), (tickets[0], 0));
    driver.finish(tickets[0]);
    driver.scheduler.release_batch(driver.now_ns, 1);
    assert_eq!(driver.scheduler.snapshot().queued, 2);
    driver.now_ns = 61 * SECOND;
    let back = driver.dispatches();
    assert_eq!(
        (back.len(), back[0].ticket, back[0].backend),
        (1, tickets[2], 0),
        "still too small for the last"
    );
    driver.backend(0, tokens(0));
    assert_eq!(driver.released(), tickets[3..]);
}

/// A retry goes by the limits of now, although they changed during the attempt.
#[test]
fn raised_limit_in_flight() {
    let one = BackendConfig { cap: 1, ..plain(1) };
    let mut driver = Driver::with("fcfs", &[tokens(1_000), one]);
    let ticket = driver.submit(1, &[2_000])[0];
    assert_eq!(driver.dispatches()[0].backend, 1);
    driver.backend(0, tokens(5_000));
    assert!(driver.retry(ticket, 0, true), "there is another backend by now");
    assert_eq!(driver.dispatches()[0].backend, 0);
}

/// A limit that is lowered sends what it is too small for elsewhere; time without a backend counts from then on.
#[test]
fn lowered_limit() {
    let down = BackendConfig { available: false, ..tokens(0) };
    let mut driver = Driver::with("fcfs", &[BackendConfig { cap: 1, ..tokens(0) }, down]);
    let running = driver.submit(1, &[800])[0];
    assert_eq!(driver.released(), [running]);
    driver.advance(5 * SECOND);
    let waiting = driver.submit(2, &[800])[0];
    driver.advance(5 * SECOND);
    driver.backend(0, tokens(500));
    assert!(driver.released().is_empty(), "the other one is down, but takes it");
    assert_eq!(driver.scheduler.next_deadline(), Some(20 * SECOND));
    driver.now_ns = 20 * SECOND;
    assert_eq!(driver.poll().expired[0].ticket, waiting);
}

/// Limits that are lowered take no prompt its last backend: it goes where it could go before, not where it never could.
#[test]
fn lowered_limits_leave_one() {
    let mut driver =
        Driver::with("fcfs", &[tokens(500), BackendConfig { available: false, ..tokens(2_000) }]);
    let ticket = driver.submit(1, &[1_000])[0];
    driver.backend(1, BackendConfig { available: false, ..tokens(900) });
    assert!(driver.released().is_empty());
    driver.backend(1, tokens(900));
    let sent = driver.dispatches();
    assert_eq!((sent[0].ticket, sent[0].backend), (ticket, 1));
}

/// Who waits is told once which limit it is and when it resets, and the snapshot says so meanwhile.
#[test]
fn told_once() {
    let mut driver = Driver::with("fcfs", &[requests(1)]);
    driver.submit(1, &[10; 3]);
    let told = |at_s: u64| Limited {
        holder: Holder::Backend(0),
        kind: LimitKind::Requests,
        reset_at_ns: at_s * SECOND,
    };
    assert_eq!(driver.poll().limited, [told(60)]);
    for _ in 0..5 {
        driver.advance(SECOND);
        assert!(driver.poll().limited.is_empty());
    }
    let snapshot = driver.scheduler.snapshot();
    assert_eq!(snapshot.backends[0].limited, Some((LimitKind::Requests, 60 * SECOND)));
    assert_eq!(snapshot.backends[0].requests_in_window, 1);
    driver.now_ns = 60 * SECOND;
    let decisions = driver.poll();
    assert_eq!((decisions.dispatches.len(), decisions.limited), (1, vec![told(120)]));
    driver.scheduler.cancel_batch(driver.now_ns, 1);
    driver.now_ns = 120 * SECOND;
    assert!(driver.poll().limited.is_empty(), "nobody waits");
}

/// A pause holds one model or the whole backend until its time, the later one counts, and an early end lifts it.
#[test]
fn pauses() {
    let both = BackendConfig { models: serving(&[0, 1]), ..plain(10) };
    let mut driver = Driver::with("fcfs", &[both]);
    driver.scheduler.pause(0, 0, Some(0), 5 * SECOND);
    driver.scheduler.pause(0, 0, Some(0), 3 * SECOND);
    let held = driver.submit(1, &[10]);
    let other = driver.submit_one(1, STANDARD, 10);
    let decisions = driver.poll();
    assert_eq!(decisions.dispatches[0].ticket, other);
    let told = Limited { holder: Holder::Backend(0), kind: LimitKind::Pause, reset_at_ns: 5 * SECOND };
    assert_eq!(decisions.limited, [told]);
    assert_eq!(driver.scheduler.next_deadline(), Some(5 * SECOND));
    driver.now_ns = 5 * SECOND;
    assert_eq!(driver.released(), held);
    driver.scheduler.pause(driver.now_ns, 0, None, 60 * SECOND);
    let held = driver.submit(1, &[10]);
    assert!(driver.released().is_empty());
    driver.scheduler.pause(driver.now_ns, 0, None, 0);
    assert_eq!(driver.released(), held);
}

/// A tenant's retries are a burst and then a ratio of its first attempts; others keep theirs (P36).
#[test]
fn retry_budget() {
    let mut driver = Driver::new(Config { policy: policy("fcfs"), retry_ratio: 0.5, ..Config::default() });
    driver.backend(0, plain(1));
    let mut retries = |tenant: u32, attempts: u64| {
        let mut granted = 0;
        for attempt in 0..attempts {
            let options = BatchOptions { tenant, ..BatchOptions::default() };
            let ticket = driver.try_submit(attempt, &[(0, STANDARD, 10)], options).unwrap()[0];
            assert_eq!(driver.released(), [ticket]);
            while driver.retry(ticket, 0, false) {
                granted += 1;
                assert_eq!(driver.released(), [ticket]);
            }
            driver.finish(ticket);
            // Keeps the tenant known.
            driver.advance(1);
        }
        granted
    };
    assert_eq!(retries(1, 1), 10);
    assert_eq!(retries(2, 1), 10);
    assert_eq!(retries(1, 20), 10, "one for two first attempts");
}

/// Limits that make no sense are refused by name.
#[test]
fn bad_ratio() {
    for retry_ratio in [-0.1, f64::NAN] {
        let refused = expresslane_scheduler::Scheduler::new(Config { retry_ratio, ..Config::default() });
        assert!(refused.unwrap_err().to_string().contains("retry_ratio"));
    }
}
