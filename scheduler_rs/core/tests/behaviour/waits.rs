//! The bound of the queue in time: what would wait too long is refused, and nothing else is (A07).

use crate::driver::{BULK, INTERACTIVE, MS, SECOND, plain, policy, serving};
use crate::line::{Line, PLAIN, Sent, Service};
use crate::seeded::some;
use expresslane_scheduler::{BackendConfig, BatchOptions, Config, Error, Fairness};
use proptest::prelude::*;

const LIMIT: u64 = 10 * SECOND;

fn limited() -> Config {
    Config { queue_limit_ns: LIMIT, ..Config::default() }
}

fn half_a_second() -> Service {
    Box::new(|_| (SECOND / 10, 2 * SECOND / 5))
}

/// Ten slots of half a second: twenty prompts a second.
fn line() -> Line {
    Line::new(limited(), &[plain(10)], half_a_second())
}

/// One that has been overrun for a minute.
fn overrun() -> Line {
    let mut line = line();
    line.flood(PLAIN, 60, 60);
    line
}

/// While nothing is known of the rate the bounds by count hold alone, and without a limit always.
#[test]
fn unknown_rate() {
    assert!(line().send(PLAIN, 10_000).is_ok());
    let mut unlimited = Line::new(Config::default(), &[plain(10)], half_a_second());
    unlimited.flood(PLAIN, 60, 60);
    assert_eq!(unlimited.refused, []);
    assert!(unlimited.queued() > 2_000);
}

/// At three times what the backends can do, what is accepted waits for nearly the bound and never longer, and no slot
/// is ever free.
#[test]
fn overrun_line() {
    let mut line = overrun();
    line.flood(PLAIN, 60, 120);
    let late: Vec<_> = line.waits.iter().filter(|(at_ns, _)| *at_ns > 60 * SECOND).collect();
    let longest_ns = late.iter().map(|(_, wait_ns)| *wait_ns).max().unwrap();
    assert!((8 * SECOND..LIMIT).contains(&longest_ns), "{longest_ns}");
    assert!((2_390..=2_410).contains(&late.len()), "{} releases in two minutes", late.len());
}

/// The refusal says how long the wait would be, the bound by its name, and when it will be shorter.
#[test]
fn refusal() {
    let mut line = overrun();
    while line.send(PLAIN, 1).is_ok() {}
    let Err(error) = line.send(PLAIN, 20) else { panic!("it is full") };
    let Error::WaitTooLong { prompts: 20, wait_ns, limit_ns: LIMIT, retry_after_ns } = error else {
        panic!("{error}")
    };
    assert!((LIMIT..LIMIT + 2 * SECOND).contains(&wait_ns), "{error}");
    assert!(error.to_string().contains("more than the 10.0 s that prompts may wait"), "{error}");
    assert!((SECOND / 2..3 * SECOND / 2).contains(&retry_after_ns), "{error}: {retry_after_ns}");
    let refused = line.driver.scheduler.snapshot().refused;
    line.run(retry_after_ns + SECOND / 2);
    assert!(line.send(PLAIN, 20).is_ok(), "as it was told");
    assert_eq!(line.driver.scheduler.snapshot().refused, refused);
}

/// A batch that would take too long even alone is told that coming back is no use; one that would not is.
#[test]
fn batch_too_long() {
    let mut line = overrun();
    let Err(Error::BatchTooLong { prompts: 400, wait_ns, .. }) = line.send(PLAIN, 400) else {
        panic!("20 s of work")
    };
    assert!((18 * SECOND..22 * SECOND).contains(&wait_ns), "{wait_ns}");
    assert!(matches!(line.send(PLAIN, 150), Err(Error::WaitTooLong { .. })));
    line.run(30 * SECOND);
    assert!(line.send(PLAIN, 150).is_ok());
}

/// A higher class waits for its own only: it is let in while a lower one is refused, and what it has before it counts
/// against the lower one.
#[test]
fn classes() {
    let mut line = overrun();
    while line.send(PLAIN, 1).is_ok() {}
    assert!(line.send(Sent { class: INTERACTIVE, ..PLAIN }, 20).is_ok());
    assert!(line.send(Sent { class: BULK, ..PLAIN }, 1).is_err());
    line.run(4 * SECOND);
    assert!(line.send(Sent { class: BULK, ..PLAIN }, 1).is_ok());
    assert!(line.send(Sent { class: BULK, ..PLAIN }, 100).is_err());
}

/// What higher classes take in passing, without ever waiting, is not there for a lower one (they take three quarters).
#[test]
fn classes_above_in_passing() {
    let mut line = line();
    for tick in 0..60 * 420 {
        if tick % 4 == 0 {
            let _ = line.send(Sent { class: INTERACTIVE, ..PLAIN }, 1);
        }
        let _ = line.send(Sent { class: BULK, ..PLAIN }, 1);
        line.run(SECOND / 60);
    }
    let late: Vec<_> = line.waits.iter().filter(|(at_ns, _)| *at_ns > 240 * SECOND).collect();
    let over = late.iter().filter(|(_, wait_ns)| *wait_ns > LIMIT).count();
    assert!(over * 100 <= late.len(), "{over} of {}", late.len());
    assert!(late.iter().any(|(_, wait_ns)| *wait_ns > LIMIT / 2));
}

/// A tenant that has filled the queue is refused, another with little is not: fairness will put it first. With less
/// and less ahead the more it sends, until it has as much as the first.
#[test]
fn tenants() {
    let mut line = overrun();
    while line.send(PLAIN, 1).is_ok() {}
    let other = Sent { tenant: 2, ..PLAIN };
    let let_in = (0..500).take_while(|_| line.send(other, 1).is_ok()).count();
    assert!((70..=110).contains(&let_in), "half of 10 s of work: {let_in}");
    assert!(line.send(PLAIN, 1).is_err());
}

/// Where tenants are not told apart, nobody is let in before the others.
#[test]
fn tenants_not_told_apart() {
    let config = Config { fairness: Fairness::None, ..limited() };
    let mut line = Line::new(config, &[plain(10)], half_a_second());
    line.flood(PLAIN, 60, 60);
    while line.send(PLAIN, 1).is_ok() {}
    assert!(line.send(Sent { tenant: 2, ..PLAIN }, 1).is_err());
}

/// What a tenant's own limit keeps back keeps back nobody else.
#[test]
fn limited_tenant() {
    let mut line = line();
    line.driver.scheduler.set_tenant_limits(0, 1, 1, 0).unwrap();
    line.send(PLAIN, 2_000).unwrap();
    line.flood(Sent { tenant: 2, ..PLAIN }, 60, 60);
    let released = line.waits.len();
    assert!((1_150..1_250).contains(&released), "{released}");
    assert!((150..250).contains(&(line.queued() - 1_999)), "{}", line.queued());
    assert!(line.send(Sent { tenant: 3, ..PLAIN }, 20).is_ok());
}

/// No model is refused for what waits of another (invariant 8).
#[test]
fn models() {
    let other = BackendConfig { models: serving(&[1]), ..plain(10) };
    let mut line = Line::new(limited(), &[plain(10), other], half_a_second());
    line.flood(PLAIN, 60, 60);
    while line.send(PLAIN, 1).is_ok() {}
    assert!(line.send(Sent { model: 1, ..PLAIN }, 150).is_ok());
}

/// While nothing is released ever less is let in, and nothing is said of ever; once it goes on the queue fills again.
#[test]
fn stalled_drain() {
    let mut line = overrun();
    line.runs = false;
    line.flood(PLAIN, 60, 60);
    let standing = line.queued();
    assert!(standing < 220, "{standing}");
    line.flood(PLAIN, 60, 600);
    assert_eq!(line.queued(), standing);
    let Err(Error::WaitTooLong { retry_after_ns, .. }) = line.send(PLAIN, 10) else {
        panic!("it stands still")
    };
    assert_eq!(retry_after_ns, 60 * SECOND);
    line.runs = true;
    line.flood(PLAIN, 60, 180);
    assert!((100..220).contains(&line.queued()), "{}", line.queued());
    let last = line.waits.last().unwrap().1;
    assert!((5 * SECOND..LIMIT).contains(&last), "{last}");
}

/// What may wait is taken in however long it will, and counts as ahead of all others.
#[test]
fn may_wait() {
    let mut line = overrun();
    while line.send(PLAIN, 1).is_ok() {}
    let other = Sent { tenant: 2, ..PLAIN };
    let options = BatchOptions { may_wait: true, ..BatchOptions::default() };
    assert!(line.send_with(other, 400, options).is_ok());
    assert!(line.send(other, 1).is_err());
}

/// After a time without work nothing that was learned long ago keeps a batch out.
#[test]
fn long_ago() {
    let mut line = overrun();
    assert!(line.send(PLAIN, 400).is_err());
    line.run(90 * SECOND);
    assert!(line.send(PLAIN, 400).is_ok());
}

/// What leaves the queue otherwise than by a release leaves no trace: cancels, holds, and batches that become large.
#[test]
fn other_ways_out() {
    let mut line = overrun();
    let now_ns = line.driver.now_ns;
    line.driver.scheduler.hold_batch(now_ns, 1_000_000, 0);
    for batch in 0..20_000 {
        line.driver.scheduler.cancel_batch(now_ns, batch);
    }
    assert_eq!(line.queued(), 0);
    assert!(line.send(PLAIN, 150).is_ok());
}

/// How long attempts take, for a prompt of 1,000 tokens in milliseconds: decoding, the same for all, or prefill, by size,
/// or both.
fn services() -> impl Strategy<Value = (&'static str, u64)> {
    (prop::sample::select(vec!["decode", "prefill", "both"]), 200..2_000_u64)
}

fn service(kind: &'static str, ms: u64) -> Service {
    Box::new(move |tokens| {
        let by_size_ns = ms * MS * u64::from(tokens) / 1_000;
        match kind {
            "decode" => (0, ms * MS),
            "prefill" => (by_size_ns, 0),
            _ => (by_size_ns / 2, ms * MS / 2),
        }
    })
}

/// However fast the backends are and whatever sizes come, as long as they drain steadily at most one in a hundred of what
/// was accepted waits longer than the bound, but for those that the policy lets others pass, and no slot is free for it.
#[test]
fn waits_stay_below_the_bound() {
    let spreads = prop::sample::select(vec![1, 10, 1_000]);
    let names = prop::sample::select(vec!["hrrn", "fcfs"]);
    let values = (services(), 1..12_u32, 12..50_u64, spreads, names, 5..15_u64, any::<u64>());
    let path = "behaviour::waits::waits_stay_below_the_bound";
    some(path, 12, &values, |((kind, ms), cap, over, spread, name, limit_s, seed)| {
        let mut chance = seed;
        let mut draw = move |most: u64| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (chance >> 33) % most
        };
        // Long beside one answer, or there is nothing to choose between a free slot and a wait too long.
        let limit_ns = (limit_s * SECOND).max(100 * ms * MS / u64::from(cap));
        let config = Config { queue_limit_ns: limit_ns, policy: policy(name), ..Config::default() };
        let mut line = Line::new(config, &[plain(cap)], service(kind, ms));
        // A prompt of the mean size, 1,000 tokens, takes `ms`.
        let interval_ns = ms * MS / u64::from(cap) * 10 / over;
        let size = |draw: u32| match spread {
            1 => 1_000,
            10 => 100 + draw % 1_801,
            // Nine in ten have 100 tokens, the tenth 9,100.
            _ => {
                if draw.is_multiple_of(10) {
                    9_100
                } else {
                    100
                }
            }
        };
        let warm_ns = 6 * limit_ns;
        // Of each slot, as many as it ends in that time.
        let warm = (u64::from(cap) * warm_ns / (ms * MS)) as usize;
        while line.driver.now_ns < warm_ns || line.waits.len() < warm + 2_000 {
            let _ = line.send(Sent { tokens: size(draw(1 << 30) as u32), ..PLAIN }, 1);
            line.run(draw(2 * interval_ns) + 1);
        }
        // Of the prompts that are ninety times as long `hrrn` lets others pass as many as its own bound says.
        let is_passed = |tokens: u32| (name, tokens) == ("hrrn", 9_100);
        let measured = line.waits.iter().zip(&line.sizes);
        let late = measured.filter(|((at_ns, _), tokens)| *at_ns > warm_ns && !is_passed(**tokens));
        let late: Vec<u64> = late.map(|((_, wait_ns), _)| *wait_ns).collect();
        let over = late.iter().filter(|wait_ns| **wait_ns > limit_ns).count();
        prop_assert!(over * 100 <= late.len(), "{over} of {}", late.len());
        // Where one prompt may be a tenth of all that the bound holds, the queue is empty now and then.
        let busy = if spread == 1_000 { 95 } else { 98 };
        let busy_ns: u64 = line.driver.scheduler.snapshot().backends[0].slot_ns;
        prop_assert!(
            busy_ns >= u64::from(cap) * (line.driver.now_ns / 100 * busy),
            "{busy_ns} of {}",
            line.driver.now_ns
        );
        Ok(())
    });
}
