//! The short lane: its budget, and what happens to a prompt that it keeps back.

use crate::driver::{BULK, Driver, INTERACTIVE, SECOND, STANDARD, laned, plain, policy, serving};
use expresslane_scheduler::{BackendConfig, Scope, TicketId};

fn reserved_for(driver: &Driver, backend: usize) -> Option<TicketId> {
    driver.scheduler.snapshot().backends[backend].reserved_for
}

/// A backend whose short lane holds 1,024 tokens, under `fcfs`, with 960 of them in prefill.
fn nearly_full() -> (Driver, Vec<TicketId>) {
    let mut driver = Driver::with("fcfs", &[laned(1, 1_024)]);
    driver.submit(1, &[64; 15]);
    let in_prefill = driver.released();
    assert_eq!(in_prefill.len(), 15);
    (driver, in_prefill)
}

/// Lets shorts through one at a time until room is kept for `unfit`, and returns how many tokens passed it.
fn pass_until_reserved(driver: &mut Driver, in_prefill: &mut Vec<TicketId>, unfit: TicketId) -> u32 {
    let mut tokens = 0;
    while reserved_for(driver, 0) != Some(unfit) {
        driver.submit(2, &[64]);
        let passed = driver.released();
        assert!(!passed.contains(&unfit));
        tokens += 64 * passed.len() as u32;
        assert!(tokens <= 64, "nothing is kept for it");
        in_prefill.extend(passed);
        let oldest = in_prefill.remove(0);
        driver.first_token(oldest);
    }
    tokens
}

/// A head that does not fit is passed by a sixteenth of the budget; then the lane is kept for it until it fits.
#[test]
fn bypass_then_reserve() {
    let (mut driver, mut in_prefill) = nearly_full();
    let unfit = driver.submit(1, &[512])[0];
    assert_eq!(pass_until_reserved(&mut driver, &mut in_prefill, unfit), 64);
    driver.submit(2, &[64; 5]);
    loop {
        let released = driver.released();
        if let Some(&first) = released.first() {
            assert_eq!(first, unfit, "the lane is kept for it");
            break;
        }
        driver.first_token(in_prefill.remove(0));
    }
    assert_eq!(reserved_for(&driver, 0), None);
}

/// What has passed a prompt is forgotten when it goes: after a retry as much may pass it again before the lane is kept.
#[test]
fn bypass_begins_anew_after_a_release() {
    let (mut driver, mut in_prefill) = nearly_full();
    let unfit = driver.submit(1, &[512])[0];
    for attempt in 1..=2 {
        let mut passed_tokens = 0;
        while reserved_for(&driver, 0) != Some(unfit) {
            driver.submit(2, &[16]);
            let passed = driver.released();
            assert_eq!(passed.len(), 1, "nothing is kept yet");
            passed_tokens += 16;
            in_prefill.extend(passed);
        }
        assert_eq!(passed_tokens, 1_024 / 16, "a sixteenth of the lane passes attempt {attempt}");
        for ticket in in_prefill.drain(..) {
            driver.first_token(ticket);
        }
        assert_eq!(driver.released(), [unfit]);
        // The lane fills up again before it comes back.
        assert!(driver.retry(unfit, SECOND, false));
        driver.submit(2, &[64; 15]);
        in_prefill.extend(driver.released());
        driver.advance(SECOND);
        assert!(driver.released().is_empty(), "it does not fit");
    }
}

/// While the lane is kept, a higher class is let in, the same and lower ones are not, and longs have their own lane.
#[test]
fn reservation_and_classes() {
    let (mut driver, mut in_prefill) = nearly_full();
    let unfit = driver.submit(1, &[512])[0];
    pass_until_reserved(&mut driver, &mut in_prefill, unfit);
    let others = [STANDARD, BULK].map(|class| driver.submit_one(0, class, 1));
    let long = driver.submit_one(0, BULK, 8_192);
    let higher = driver.submit_one(0, INTERACTIVE, 1);
    let released = driver.released();
    assert_eq!(released, [higher, long]);
    assert!(!released.contains(&others[0]) && !released.contains(&others[1]));
}

/// While the lane is kept, nothing of another model gets in either, unless its class is higher.
#[test]
fn reservation_and_models() {
    let both = BackendConfig { models: serving(&[0, 1]), ..laned(1, 1_024) };
    let (mut driver, mut in_prefill) = nearly_full();
    driver.backend(0, both);
    let unfit = driver.submit(1, &[512])[0];
    pass_until_reserved(&mut driver, &mut in_prefill, unfit);
    driver.submit_one(1, STANDARD, 1);
    assert!(driver.released().is_empty());
    let higher = driver.submit_one(1, INTERACTIVE, 1);
    assert_eq!(driver.released(), [higher]);
}

/// The lane is not kept for a prompt whose model is paused there: the others would wait for nothing.
#[test]
fn reservation_and_a_pause() {
    let (mut driver, mut in_prefill) = nearly_full();
    driver.backend(0, BackendConfig { models: serving(&[0, 1]), ..laned(1, 1_024) });
    let unfit = driver.submit(1, &[512])[0];
    pass_until_reserved(&mut driver, &mut in_prefill, unfit);
    let other = driver.submit_one(1, STANDARD, 1);
    assert!(driver.released().is_empty());
    driver.scheduler.pause(driver.now_ns, 0, Some(0), driver.now_ns + 60 * SECOND);
    assert_eq!(driver.released(), [other]);
    assert_eq!(reserved_for(&driver, 0), None);
}

/// Nor for one that is to go to another backend by now, since that one no longer refuses its model and this one does.
#[test]
fn reservation_and_a_way_elsewhere() {
    let (mut driver, mut in_prefill) = nearly_full();
    driver.backend(0, BackendConfig { models: serving(&[0, 1]), ..laned(1, 1_024) });
    driver.backend(1, BackendConfig { models: serving(&[0, 2]), ..plain(1) });
    let elsewhere = driver.submit_one(2, STANDARD, 10);
    assert_eq!(driver.released(), [elsewhere]);
    for backend in [0, 1] {
        driver.scheduler.avoid(driver.now_ns, backend, 0, driver.now_ns + 60 * SECOND);
    }
    let unfit = driver.submit(1, &[512])[0];
    pass_until_reserved(&mut driver, &mut in_prefill, unfit);
    let other = driver.submit_one(1, STANDARD, 1);
    assert!(driver.released().is_empty());
    driver.scheduler.avoid(driver.now_ns, 1, 0, driver.now_ns);
    assert_eq!(driver.released(), [other]);
    driver.finish(elsewhere);
    assert_eq!(driver.released(), [unfit]);
}

/// Of two that have been passed by enough at once, the lane is kept for the one that came first, whichever model was
/// known first.
#[test]
fn reservation_by_arrival() {
    for models in [[0, 1], [1, 0]] {
        let (mut driver, mut in_prefill) = nearly_full();
        driver.backend(0, BackendConfig { models: serving(&[0, 1]), ..laned(1, 1_024) });
        let unfit = models.map(|model| driver.submit_one(model, STANDARD, 512));
        pass_until_reserved(&mut driver, &mut in_prefill, unfit[0]);
        assert_eq!(reserved_for(&driver, 0), Some(unfit[0]));
    }
}

/// Where policies meet in a flow, a prompt of another policy passes one that came before it, and not one that came later.
#[test]
fn bypass_where_policies_meet() {
    for came_first in [true, false] {
        let (mut driver, mut in_prefill) = nearly_full();
        driver.backend(0, BackendConfig { models: serving(&[0, 1]), ..laned(1, 1_024) });
        let scope = Scope { class: None, model: Some(1) };
        driver.scheduler.set_policy(0, scope, Some(policy("sjf"))).unwrap();
        let mut unfit = came_first.then(|| driver.submit_one(1, STANDARD, 512));
        driver.submit(2, &[64; 3]);
        let unfit = *unfit.get_or_insert_with(|| driver.submit_one(1, STANDARD, 512));
        assert_eq!(driver.released().len(), 1);
        assert_eq!(reserved_for(&driver, 0), came_first.then_some(unfit));
        for _ in 0..2 {
            driver.first_token(in_prefill.remove(0));
            assert_eq!(driver.released().len(), usize::from(!came_first));
        }
        assert_eq!(reserved_for(&driver, 0), came_first.then_some(unfit));
    }
}

/// The kept room goes to the bucket's head: one that comes back from a retry and arrived earlier takes it.
#[test]
fn reservation_goes_to_the_head() {
    let mut driver = Driver::with("fcfs", &[laned(1, 1_024)]);
    let older = driver.submit(1, &[512])[0];
    driver.submit(1, &[64; 8]);
    let mut in_prefill = driver.released();
    in_prefill.retain(|&ticket| ticket != older);
    let newer = driver.submit(1, &[512])[0];
    while reserved_for(&driver, 0) != Some(newer) {
        driver.submit(2, &[64]);
        in_prefill.extend(driver.released());
        driver.first_token(in_prefill.remove(0));
    }
    driver.scheduler.cancel_batch(driver.now_ns, 2);
    assert!(driver.retry(older, 0, false));
    let released = driver.released();
    assert_eq!(released, [older]);
    assert_eq!(reserved_for(&driver, 0), None);
}

/// What was kept is free again when its ticket is cancelled, held, or its backend is described anew.
#[test]
fn reservation_is_dropped() {
    type Drop = fn(&mut Driver, TicketId);
    let drops: [Drop; 4] = [
        |driver, unfit| drop(driver.scheduler.cancel(driver.now_ns, unfit)),
        |driver, _| driver.scheduler.hold_batch(driver.now_ns, 7, 0),
        |driver, _| driver.backend(0, BackendConfig { available: false, ..laned(1, 1_024) }),
        |driver, _| driver.backend(0, laned(1, 4_096)),
    ];
    for drop_it in drops {
        let (mut driver, mut in_prefill) = nearly_full();
        let unfit = driver.submit(7, &[512])[0];
        pass_until_reserved(&mut driver, &mut in_prefill, unfit);
        drop_it(&mut driver, unfit);
        driver.poll();
        assert_eq!(reserved_for(&driver, 0), None);
    }
}

/// The lane is kept where the fewest short tokens are outstanding.
#[test]
fn reserves_the_emptiest() {
    let mut driver = Driver::with("fcfs", &[laned(1, 1_024), laned(1, 1_024)]);
    driver.submit(1, &[64; 30]);
    let mut in_prefill = driver.dispatches();
    let unfit = driver.submit(1, &[512])[0];
    let oldest_at_0 = in_prefill.iter().position(|dispatch| dispatch.backend == 0).unwrap();
    driver.first_token(in_prefill.remove(oldest_at_0).ticket);
    for _ in 0..100 {
        driver.submit(2, &[64]);
        in_prefill.extend(driver.dispatches());
        let snapshot = driver.scheduler.snapshot();
        if let Some(kept) = snapshot.backends.iter().find(|backend| backend.reserved_for == Some(unfit)) {
            let least = snapshot.backends.iter().map(|backend| backend.short_tokens_in_prefill).min();
            assert_eq!(Some(kept.short_tokens_in_prefill), least);
            return;
        }
        driver.first_token(in_prefill.remove(0).ticket);
    }
    panic!("nothing was kept");
}

/// Nothing is kept where there is no budget.
#[test]
fn no_lanes_no_reservation() {
    let mut driver = Driver::with("fcfs", &[plain(1_000)]);
    driver.submit(1, &[4_096; 500]);
    assert_eq!(driver.released().len(), 500);
    assert_eq!(reserved_for(&driver, 0), None);
}

/// A prompt above the whole budget passes alone.
#[test]
fn oversize_passes_alone() {
    let mut driver = Driver::with("fcfs", &[laned(1, 1_024)]);
    let tickets = driver.submit(1, &[4_096, 4_096]);
    assert_eq!(driver.released(), tickets[..1]);
    driver.first_token(tickets[0]);
    assert_eq!(driver.released(), tickets[1..]);
}

/// What is passed is charged for it also where no other bucket is kept back: the largest short one alone.
#[test]
fn only_the_largest_short_one_is_passed() {
    let mut driver = Driver::with("fcfs", &[laned(1, 8_192)]);
    driver.submit(1, &[4_096]);
    driver.submit(2, &[64; 8]);
    let in_prefill = driver.released();
    assert_eq!(in_prefill.len(), 9);
    let unfit = driver.submit(3, &[4_096])[0];
    for &small in &in_prefill[1..] {
        assert_eq!(reserved_for(&driver, 0), None);
        driver.first_token(small);
        driver.submit(2, &[64]);
        assert_eq!(driver.released().len(), 1);
    }
    assert_eq!(reserved_for(&driver, 0), Some(unfit));
}
