//! Requests and tokens per minute of a tenant, over all classes (T10, T11).

use crate::driver::{BULK, Driver, INTERACTIVE, SECOND, STANDARD, laned, plain, policy, serving};
use expresslane_scheduler::{
    BackendConfig, BatchOptions, Config, Decisions, Error, Fairness, Holder, LimitKind, Limited, Outcome,
    Prompt, TenantId, TicketId, Usage,
};

const ALICE: TenantId = 1;
const BOB: TenantId = 2;

fn of(tenant: TenantId) -> BatchOptions {
    BatchOptions { tenant, ..BatchOptions::default() }
}

/// One batch for each tenant, with the tenant's number.
fn submit(driver: &mut Driver, tenant: TenantId, class: u32, sizes: &[u32]) -> Vec<TicketId> {
    let prompts: Vec<_> = sizes.iter().map(|&tokens| (0, class, tokens)).collect();
    driver.try_submit(u64::from(tenant), &prompts, of(tenant)).expect("the queue has room")
}

fn limit(driver: &mut Driver, tenant: TenantId, requests_per_min: u32, tokens_per_min: u64) {
    let set = driver.scheduler.set_tenant_limits(driver.now_ns, tenant, requests_per_min, tokens_per_min);
    set.expect("the limits make sense");
}

fn told(tenant: TenantId, kind: LimitKind, at_s: u64) -> Limited {
    Limited { holder: Holder::Tenant(tenant), kind, reset_at_ns: at_s * SECOND }
}

fn released(decisions: &Decisions) -> Vec<TicketId> {
    decisions.dispatches.iter().map(|dispatch| dispatch.ticket).collect()
}

/// A tenant at its limit waits in its order, is told once, and keeps nobody else back.
#[test]
fn skipped_whole() {
    let mut driver = Driver::with("fcfs", &[plain(100)]);
    limit(&mut driver, ALICE, 2, 0);
    let alice = submit(&mut driver, ALICE, STANDARD, &[10; 5]);
    let bob = submit(&mut driver, BOB, STANDARD, &[10; 5]);
    let decisions = driver.poll();
    let mut first = released(&decisions);
    first.sort_unstable();
    assert_eq!(first, [&alice[..2], &bob[..]].concat());
    assert_eq!(decisions.limited, [told(ALICE, LimitKind::Requests, 60)]);
    driver.advance(SECOND);
    assert_eq!(driver.poll(), Decisions::default());
    assert_eq!(driver.scheduler.next_deadline(), Some(60 * SECOND));
    driver.now_ns = 60 * SECOND;
    let decisions = driver.poll();
    assert_eq!(released(&decisions), alice[2..4]);
    assert_eq!(decisions.limited, [told(ALICE, LimitKind::Requests, 120)]);
}

/// One limit holds over all classes together; the higher class goes first when it opens.
#[test]
fn over_all_classes() {
    let mut driver = Driver::with("fcfs", &[plain(100)]);
    limit(&mut driver, ALICE, 1, 0);
    let bulk = submit(&mut driver, ALICE, BULK, &[10])[0];
    assert_eq!(driver.released(), [bulk]);
    let waiting = submit(&mut driver, ALICE, BULK, &[10])[0];
    let urgent = submit(&mut driver, ALICE, INTERACTIVE, &[10])[0];
    assert!(driver.released().is_empty());
    driver.now_ns = 60 * SECOND;
    assert_eq!(driver.released(), [urgent]);
    driver.now_ns = 120 * SECOND;
    assert_eq!(driver.released(), [waiting]);
}

/// What is smaller than a head that does not fit never passes it, however much of it comes.
#[test]
fn no_passing_of_the_head() {
    let mut driver = Driver::with("fcfs", &[plain(100)]);
    limit(&mut driver, ALICE, 0, 1_000);
    let large = submit(&mut driver, ALICE, STANDARD, &[600, 600]);
    assert_eq!(driver.released(), large[..1]);
    for _ in 1..60 {
        driver.advance(SECOND);
        submit(&mut driver, ALICE, STANDARD, &[10]);
        assert!(driver.released().is_empty());
    }
    driver.now_ns = 60 * SECOND;
    let now = driver.released();
    assert_eq!((now[0], now.len()), (large[1], 41), "then as many small ones as fit");
}

/// What closes a tenant of a lower class does not keep back what comes in a higher one and fits.
#[test]
fn higher_class_goes_by() {
    let mut driver = Driver::with("fcfs", &[plain(100)]);
    limit(&mut driver, ALICE, 0, 1_000);
    submit(&mut driver, ALICE, BULK, &[600, 600]);
    assert_eq!(driver.released().len(), 1);
    let urgent = submit(&mut driver, ALICE, INTERACTIVE, &[400]);
    assert_eq!(driver.released(), urgent);
}

/// A tenant that comes back while it is at its limit is closed from the start, even where it was forgotten meanwhile:
/// it is told so though no slot is free.
#[test]
fn comes_back_closed() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    limit(&mut driver, ALICE, 1, 0);
    submit(&mut driver, ALICE, STANDARD, &[10]);
    let first = driver.released();
    driver.finish(first[0]);
    submit(&mut driver, BOB, STANDARD, &[10]);
    assert_eq!(driver.released().len(), 1);
    submit(&mut driver, ALICE, STANDARD, &[10]);
    let decisions = driver.poll();
    assert_eq!(
        (released(&decisions), decisions.limited),
        (vec![], vec![told(ALICE, LimitKind::Requests, 60)])
    );
    assert_eq!(driver.scheduler.next_deadline(), Some(60 * SECOND));
}

/// A class in which the tenant appears only while it is closed waits with the others: it does not pass their head.
#[test]
fn a_new_class_waits_too() {
    let mut driver = Driver::with("fcfs", &[plain(100)]);
    limit(&mut driver, ALICE, 0, 1_000);
    let large = submit(&mut driver, ALICE, STANDARD, &[600, 600]);
    assert_eq!(driver.released(), large[..1]);
    submit(&mut driver, ALICE, BULK, &[100]);
    assert!(driver.released().is_empty());
}

/// When the head that did not fit goes away, the next one is looked at without waiting for its time.
#[test]
fn head_cancelled() {
    let mut driver = Driver::with("fcfs", &[plain(100)]);
    limit(&mut driver, ALICE, 0, 1_000);
    let tickets = submit(&mut driver, ALICE, STANDARD, &[600, 600, 400]);
    assert_eq!(driver.released(), tickets[..1]);
    driver.scheduler.cancel(driver.now_ns, tickets[1]);
    assert_eq!(driver.released(), tickets[2..]);
}

/// Nor does a head that is held keep the rest of its tenant back until it would have fitted.
#[test]
fn head_held() {
    let mut driver = Driver::with("fcfs", &[plain(100)]);
    limit(&mut driver, ALICE, 0, 100);
    let first = submit(&mut driver, ALICE, STANDARD, &[60])[0];
    assert_eq!(driver.released(), [first]);
    let held = driver.try_submit(7, &[(0, STANDARD, 90)], of(ALICE)).expect("the queue has room")[0];
    let small = submit(&mut driver, ALICE, STANDARD, &[30])[0];
    assert!(driver.released().is_empty());
    driver.scheduler.hold_batch(driver.now_ns, 7, 0);
    assert_eq!(driver.released(), [small]);
    driver.scheduler.release_batch(driver.now_ns, 7);
    assert!(driver.released().is_empty());
    driver.now_ns = 60 * SECOND;
    assert_eq!(driver.released(), [held]);
}

/// What was charged to limits that were lifted is not settled at the cost of what new ones charge at the same time.
#[test]
fn lifted_and_set_again() {
    let mut driver = Driver::with("fcfs", &[plain(100)]);
    limit(&mut driver, ALICE, 0, 100);
    let before = submit(&mut driver, ALICE, STANDARD, &[60])[0];
    assert_eq!(driver.released(), [before]);
    limit(&mut driver, ALICE, 0, 0);
    limit(&mut driver, ALICE, 0, 100);
    let after = submit(&mut driver, ALICE, STANDARD, &[60])[0];
    assert_eq!(driver.released(), [after]);
    driver.scheduler.finish(driver.now_ns, before, Outcome::Failed).expect("it is in flight");
    let last = submit(&mut driver, ALICE, STANDARD, &[60])[0];
    assert!(driver.released().is_empty());
    driver.now_ns = 60 * SECOND;
    assert_eq!(driver.released(), [last]);
}

/// The tokens that were really used make room at once; a failure before the first token costs none.
#[test]
fn settled() {
    let mut driver = Driver::with("fcfs", &[plain(100)]);
    limit(&mut driver, ALICE, 0, 1_000);
    let prompt = Prompt { class: STANDARD, tokens: 300, output_tokens: 200, ..Prompt::default() };
    let tickets = driver.scheduler.submit(0, 1, &[prompt; 4], of(ALICE)).unwrap();
    assert_eq!(driver.released(), tickets[..2]);
    let usage = Some(Usage { uncached_input_tokens: 300, ..Usage::default() });
    driver.scheduler.finish_with_usage(0, tickets[0], Outcome::Success, usage).unwrap();
    assert!(driver.released().is_empty(), "800 + 500 is too much");
    driver.scheduler.finish(0, tickets[1], Outcome::Failed).unwrap();
    assert_eq!(driver.released(), tickets[2..3]);
    assert_eq!(driver.scheduler.tenant_limits()[0].tokens_in_window, 800);
}

/// Limits change while prompts wait: a higher one lets more go at once, none lets all go, a lower one holds at once.
#[test]
fn changed_while_waiting() {
    let mut driver = Driver::with("fcfs", &[plain(100)]);
    limit(&mut driver, ALICE, 2, 0);
    let tickets = submit(&mut driver, ALICE, STANDARD, &[10; 10]);
    assert_eq!(driver.released(), tickets[..2]);
    limit(&mut driver, ALICE, 5, 0);
    assert_eq!(driver.released(), tickets[2..5]);
    limit(&mut driver, ALICE, 3, 0);
    driver.now_ns = 59 * SECOND;
    assert!(driver.released().is_empty());
    limit(&mut driver, ALICE, 0, 0);
    assert_eq!(driver.released(), tickets[5..]);
    assert_eq!(driver.scheduler.next_deadline(), None);
    assert!(driver.scheduler.tenant_limits().is_empty());
}

/// A prompt above the whole limit of its tenant is refused with its batch, naming the tenant; others may have it.
#[test]
fn above_the_limit() {
    let mut driver = Driver::with("fcfs", &[plain(100)]);
    limit(&mut driver, ALICE, 0, 1_000);
    let refused = driver.try_submit(1, &[(0, STANDARD, 10), (0, STANDARD, 1_001)], of(ALICE));
    let above = Error::AboveLimit { tokens: 1_001, limit: 1_000, tenant: Some(ALICE) };
    assert!(above.to_string().contains("its tenant"));
    assert_eq!(refused, Err(above));
    assert_eq!(driver.scheduler.snapshot().queued, 0);
    submit(&mut driver, BOB, STANDARD, &[1_001]);
}

/// A limit that shrinks below a prompt that waits lets it through an empty window instead of blocking for ever.
#[test]
fn shrunk_limit() {
    let mut driver = Driver::with("fcfs", &[plain(100)]);
    limit(&mut driver, ALICE, 0, 1_000);
    let tickets = submit(&mut driver, ALICE, STANDARD, &[800, 800, 100]);
    assert_eq!(driver.released(), tickets[..1]);
    limit(&mut driver, ALICE, 0, 500);
    for (at_s, expected) in
        [(59, &tickets[..0]), (60, &tickets[1..2]), (119, &tickets[..0]), (120, &tickets[2..])]
    {
        driver.now_ns = at_s * SECOND;
        assert_eq!(driver.released(), expected, "at {at_s} s");
    }
}

/// Limits that cannot be told apart from those of others are refused, and nothing is applied.
#[test]
fn needs_fairness() {
    let config = Config { policy: policy("fcfs"), fairness: Fairness::None, ..Config::default() };
    let mut driver = Driver::new(config);
    driver.backend(0, plain(100));
    let refused = driver.scheduler.set_tenant_limits(0, ALICE, 1, 0);
    assert!(refused.unwrap_err().to_string().contains("fairness"));
    driver.scheduler.set_tenant_limits(0, ALICE, 0, 0).expect("nothing to lift is no error");
    submit(&mut driver, ALICE, STANDARD, &[10; 3]);
    assert_eq!(driver.released().len(), 3);
}

/// Room that is kept for a prompt is given up when its tenant may not release it.
#[test]
fn no_room_is_kept_for_a_closed_tenant() {
    let mut driver = Driver::with("sjf", &[laned(1, 1_024)]);
    limit(&mut driver, ALICE, 2, 0);
    let tiny = submit(&mut driver, ALICE, STANDARD, &[1])[0];
    submit(&mut driver, BOB, STANDARD, &[512]);
    assert_eq!(driver.released().len(), 2);
    driver.first_token(tiny);
    submit(&mut driver, ALICE, STANDARD, &[1_024]);
    // Passed by another, so the lane is kept for it.
    let small = submit(&mut driver, BOB, STANDARD, &[512]);
    assert_eq!(driver.released(), small);
    driver.first_token(small[0]);
    let kept = |driver: &Driver| driver.scheduler.snapshot().backends[0].reserved_for;
    assert!(kept(&driver).is_some());
    limit(&mut driver, ALICE, 1, 0);
    let small = submit(&mut driver, BOB, STANDARD, &[512]);
    assert_eq!(driver.released(), small);
    assert_eq!(kept(&driver), None);
}

/// Nor does a prompt that its tenant may not release close a backend's tokens to smaller ones of others.
#[test]
fn no_tokens_are_kept_for_a_closed_tenant() {
    let counted = BackendConfig { tokens_per_min: 1_000, ..plain(100) };
    let other = BackendConfig { models: serving(&[1]), ..plain(100) };
    let mut driver = Driver::with("fcfs", &[counted, other]);
    limit(&mut driver, ALICE, 0, 1_000);
    let used = submit(&mut driver, BOB, STANDARD, &[600])[0];
    let used_too = driver.try_submit(11, &[(1, STANDARD, 300)], of(ALICE)).expect("the queue has room")[0];
    assert_eq!(driver.released(), [used, used_too]);
    // The first does not fit the backend, then the second not the tenant.
    let kept_back = [(0, INTERACTIVE, 500), (1, STANDARD, 900)];
    driver.try_submit(12, &kept_back, of(ALICE)).expect("the queue has room");
    let small = submit(&mut driver, BOB, BULK, &[100])[0];
    assert_eq!(driver.released(), [small]);
}

/// A release that takes a tenant's last request keeps no room for what it has passed of the same tenant.
#[test]
fn no_room_is_kept_with_the_last_request() {
    let mut driver = Driver::with("fcfs", &[laned(1, 1_024)]);
    limit(&mut driver, ALICE, 2, 0);
    submit(&mut driver, ALICE, STANDARD, &[512]);
    assert_eq!(driver.released().len(), 1);
    submit(&mut driver, ALICE, STANDARD, &[1_024]);
    let small = submit(&mut driver, ALICE, STANDARD, &[512]);
    assert_eq!(driver.released(), small);
    driver.first_token(small[0]);
    assert_eq!(driver.scheduler.snapshot().backends[0].reserved_for, None);
    let small = submit(&mut driver, BOB, STANDARD, &[512]);
    assert_eq!(driver.released(), small);
}

/// What its own limit kept from a tenant is not made up for when the limit goes: it shares with the others from then on.
#[test]
fn nothing_is_owed() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    limit(&mut driver, ALICE, 1, 0);
    submit(&mut driver, ALICE, STANDARD, &[16_384; 50]);
    let bob = submit(&mut driver, BOB, STANDARD, &[16_384; 100]);
    for _ in 0..50 {
        let ticket = driver.released()[0];
        driver.advance(1);
        driver.finish(ticket);
    }
    limit(&mut driver, ALICE, 0, 0);
    let mut of_bob = 0;
    for _ in 0..20 {
        let ticket = driver.released()[0];
        of_bob += u32::from(bob.contains(&ticket));
        driver.finish(ticket);
    }
    assert!((9..=11).contains(&of_bob), "{of_bob} of 20");
}

/// A thousand tenants at their limits cost one wake-up for each time at which something opens.
#[test]
fn a_thousand_tenants() {
    let mut driver = Driver::with("fcfs", &[plain(10_000)]);
    for tenant in 0..1_000 {
        limit(&mut driver, tenant, 1, 0);
        submit(&mut driver, tenant, STANDARD, &[10; 3]);
    }
    let decisions = driver.poll();
    assert_eq!((decisions.dispatches.len(), decisions.limited.len()), (1_000, 1_000));
    let mut wake_ups = Vec::new();
    while let Some(at_ns) = driver.scheduler.next_deadline() {
        driver.now_ns = at_ns;
        wake_ups.push((at_ns / SECOND, driver.released().len()));
    }
    assert_eq!(wake_ups, [(60, 1_000), (120, 1_000)]);
}

/// The snapshot tells limits, use, reset and retries of each tenant.
#[test]
fn snapshot() {
    let mut driver = Driver::new(Config { policy: policy("fcfs"), retry_ratio: 0.5, ..Config::default() });
    driver.backend(0, plain(100));
    limit(&mut driver, ALICE, 12, 5_000);
    let ticket = submit(&mut driver, ALICE, STANDARD, &[10; 2])[0];
    driver.poll();
    for _ in 0..10 {
        assert!(driver.retry(ticket, 0, false));
        driver.poll();
    }
    assert!(!driver.retry(ticket, 0, false));
    let tenants = driver.scheduler.tenant_limits();
    let [alice] = tenants[..] else { panic!("one tenant is known") };
    assert_eq!((alice.tenant, alice.requests_per_min, alice.tokens_per_min), (ALICE, 12, 5_000));
    assert_eq!(
        (alice.requests_in_window, alice.tokens_in_window),
        (12, 20),
        "a failed attempt costs no tokens"
    );
    assert_eq!(alice.limited, Some((LimitKind::Requests, 60 * SECOND)));
    assert_eq!((alice.retries_allowed, alice.retries_denied), (10, 1));
    assert_eq!(driver.scheduler.snapshot().retries_denied, 1);
}
