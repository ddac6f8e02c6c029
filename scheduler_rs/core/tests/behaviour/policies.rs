//! Deadlines for the first token, sizes that count output, and policies that change while prompts wait.

use crate::driver::{BULK, Driver, INTERACTIVE, MS, SECOND, STANDARD, laned, plain, policy, serving};
use crate::seeded::seeded;
use expresslane_scheduler::{
    BackendConfig, BatchOptions, Config, Prompt, Scope, TTFT_DEADLINE_MAX_NS, TicketId,
};
use proptest::prelude::*;

fn submit(driver: &mut Driver, prompts: &[Prompt]) -> Vec<TicketId> {
    driver.scheduler.submit(driver.now_ns, 1, prompts, BatchOptions::default()).unwrap()
}

fn due(tokens: u32, ttft_deadline_ns: u64) -> Prompt {
    Prompt { class: STANDARD, tokens, ttft_deadline_ns, ..Prompt::default() }
}

/// The order in which `count` prompts are released one at a time, as positions in `tickets`.
fn order(driver: &mut Driver, tickets: &[TicketId]) -> Vec<usize> {
    let released = driver.run_one_at_a_time(0);
    released.iter().map(|id| tickets.iter().position(|ticket| ticket == id).unwrap()).collect()
}

/// `edf` releases by deadline, whatever the sizes; without one a prompt is due a minute after it came.
#[test]
fn edf() {
    let mut driver = Driver::with("edf", &[plain(1)]);
    let seconds = [30, 10, 0, 50, 70, 10].map(|seconds| seconds * SECOND);
    let tickets = submit(&mut driver, &seconds.map(|within_ns| due(500, within_ns)));
    assert_eq!(order(&mut driver, &tickets), [1, 5, 0, 3, 2, 4]);
}

/// Under `edf` nothing that comes after a prompt's deadline goes before it, however urgent (G08).
#[test]
fn edf_overtaking_bound() {
    let mut driver = Driver::with("edf", &[plain(1)]);
    let late = submit(&mut driver, &[due(8_000, 20 * SECOND)])[0];
    let mut last_in_time = late;
    for _ in 0..60 {
        let urgent = submit(&mut driver, &[due(10, 1), due(10, 1)]);
        if driver.now_ns < 20 * SECOND {
            last_in_time = urgent[1];
        }
        let released = driver.released();
        if released[0] == late {
            return;
        }
        assert!(released[0] <= last_in_time, "it came after the deadline of one that waits");
        driver.advance(SECOND);
        driver.finish(released[0]);
    }
    panic!("it starves");
}

/// `lars` brings a prompt forward whose deadline is near, relative to its length.
#[test]
fn lars_deadlines() {
    let mut driver = Driver::with("lars", &[plain(1)]);
    let tickets = submit(&mut driver, &[due(1_000, 60 * SECOND), due(1_000, 0), due(1_000, SECOND)]);
    assert_eq!(order(&mut driver, &tickets), [2, 1, 0]);
    let tickets = submit(&mut driver, &[due(1_000, 4 * SECOND), due(10_000, 4 * SECOND)]);
    assert_eq!(order(&mut driver, &tickets), [1, 0], "the long one has less slack for its length");
}

/// Under `lars` a long prompt with a distant deadline gets out of an endless backlog of urgent short ones (G08).
#[test]
fn lars_overtaking_bound() {
    let mut driver = Driver::with("lars", &[plain(1)]);
    let service_ns = 20 * MS;
    submit(&mut driver, &[due(64, SECOND); 50]);
    let serve = |driver: &mut Driver| {
        let released = driver.released()[0];
        submit(driver, &[due(64, SECOND)]);
        driver.advance(service_ns);
        driver.finish(released);
        released
    };
    for _ in 0..50 {
        serve(&mut driver);
    }
    let long = submit(&mut driver, &[due(8_192, 60 * SECOND)])[0];
    for passed in 0..10_000 {
        if serve(&mut driver) == long {
            // Each short waits for the 50 before it, 1 s, so none is ever late, and the long one is first when it is due.
            assert_eq!(passed, 60 * SECOND / service_ns);
            return;
        }
    }
    panic!("the long prompt starves");
}

/// Sizes count the expected output when told so, and lanes still go by the prompt alone.
#[test]
fn cost_with_output() {
    let prompts = [(1_000, 10), (10, 4_000), (400, 400)].map(|(tokens, output_tokens)| Prompt {
        class: STANDARD,
        tokens,
        output_tokens,
        ..Prompt::default()
    });
    for (cost_includes_output, expected) in [(false, [1, 2, 0]), (true, [2, 0, 1])] {
        let config = Config { policy: policy("sjf"), cost_includes_output, ..Config::default() };
        let mut driver = Driver::new(config);
        driver.backend(0, laned(1, 8_192));
        driver.backend(0, plain(1));
        let tickets = submit(&mut driver, &prompts);
        assert_eq!(order(&mut driver, &tickets), expected);
    }
}

/// Each class and each model can have its own policy; the narrowest counts.
#[test]
fn by_class_and_model() {
    let both = BackendConfig { models: serving(&[0, 1]), ..plain(1) };
    let mut driver = Driver::with("fcfs", &[both]);
    let set = |driver: &mut Driver, class, model, name| {
        driver.scheduler.set_policy(0, Scope { class, model }, Some(policy(name))).unwrap();
    };
    set(&mut driver, Some(BULK), None, "sjf");
    set(&mut driver, Some(BULK), Some(1), "ljf");
    let sizes = [500, 20, 900];
    let mut run = |model, class| {
        let prompts = sizes.map(|tokens| (model, class, tokens));
        let tickets = driver.try_submit(1, &prompts, BatchOptions::default()).unwrap();
        order(&mut driver, &tickets)
    };
    assert_eq!(run(0, INTERACTIVE), [0, 1, 2]);
    assert_eq!(run(0, BULK), [1, 0, 2]);
    assert_eq!(run(1, BULK), [2, 0, 1]);
}

/// Where policies meet, the first of each is found and of these the one that came first goes: nothing depends on which
/// model was known first, and nothing that came later goes before one under `fcfs` (G08).
#[test]
fn policies_meet() {
    let (long, small, short) = ((0, STANDARD, 8_000), (1, STANDARD, 100), (2, STANDARD, 20));
    for known_first in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let all = BackendConfig { models: serving(&[0, 1, 2]), ..plain(1) };
        let mut driver = Driver::with("hrrn", &[all]);
        let scope = Scope { class: None, model: Some(1) };
        driver.scheduler.set_policy(0, scope, Some(policy("fcfs"))).unwrap();
        let running = driver.submit_one(known_first[0], STANDARD, 5);
        assert_eq!(driver.released(), [running]);
        let cancelled = known_first.map(|model| driver.submit_one(model, STANDARD, 7));
        let mut submit = |prompt| {
            driver.advance(MS);
            driver.try_submit(0, &[prompt], BatchOptions::default()).unwrap()[0]
        };
        // By score the short one goes before the long one, by arrival the long one before the small one and this before
        // the short one: a circle.
        let (long, small, short) = (submit(long), submit(small), submit(short));
        for ticket in cancelled {
            driver.scheduler.cancel(driver.now_ns, ticket);
        }
        driver.advance(200 * MS);
        driver.finish(running);
        assert_eq!(driver.run_one_at_a_time(10 * MS), [small, short, long], "{known_first:?}");
    }
}

/// One that its batch holds does not stand for its policy: another of it goes, if that came first.
#[test]
fn held_where_policies_meet() {
    let both = BackendConfig { models: serving(&[0, 1]), ..plain(1) };
    let mut driver = Driver::with("fcfs", &[both]);
    let scope = Scope { class: None, model: Some(1) };
    driver.scheduler.set_policy(0, scope, Some(policy("sjf"))).unwrap();
    let running = driver.submit_one(0, STANDARD, 1);
    assert_eq!(driver.released(), [running]);
    let (first, second) = (driver.submit_one(1, STANDARD, 500), driver.submit_one(0, STANDARD, 100));
    let held = driver.try_submit(7, &[(1, STANDARD, 10)], BatchOptions::default()).unwrap();
    driver.scheduler.hold_batch(driver.now_ns, 7, 0);
    driver.finish(running);
    assert_eq!(driver.run_one_at_a_time(0), [first, second]);
    driver.scheduler.release_batch(driver.now_ns, 7);
    assert_eq!(driver.released(), held);
}

/// Where scores are equal across models, arrival decides, whichever model was known first.
#[test]
fn equal_scores_across_models() {
    for name in ["fcfs", "sjf", "hrrn"] {
        let both = BackendConfig { models: serving(&[0, 1]), ..plain(1) };
        let mut driver = Driver::with(name, &[both]);
        let running = driver.submit_one(0, STANDARD, 1);
        driver.poll();
        let tickets = [1, 0, 0, 1, 1].map(|model| driver.submit_one(model, STANDARD, 100));
        driver.finish(running);
        assert_eq!(driver.run_one_at_a_time(0), tickets, "{name}");
    }
}

/// A policy that changes while prompts wait orders them from then on, and none is lost.
#[test]
fn changed_while_waiting() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let seconds = [50, 10, 30, 0, 20].map(|seconds| seconds * SECOND);
    let tickets = submit(&mut driver, &seconds.map(|within_ns| due(500, within_ns)));
    let mut seen = Vec::new();
    for name in ["edf", "fcfs", "lars", "edf"] {
        driver.scheduler.set_policy(0, Scope::default(), Some(policy(name))).unwrap();
        let ticket = driver.released()[0];
        seen.push(tickets.iter().position(|&other| other == ticket).unwrap());
        driver.finish(ticket);
    }
    assert_eq!(seen, [1, 0, 3, 4]);
    assert_eq!(driver.released(), tickets[2..3]);
}

/// Nor does one count from its deadline any more that stood before others of its bucket for it: under `fcfs` arrival alone
/// counts.
#[test]
fn deadlines_are_forgotten_under_fcfs() {
    let mut driver = Driver::with("edf", &[plain(1)]);
    let running = driver.submit_one(0, STANDARD, 1);
    assert_eq!(driver.released(), [running]);
    let late = submit(&mut driver, &[due(500, 50 * SECOND)])[0];
    // It goes before one that came earlier, so it has no place in the bucket's FIFO,
    let first = submit(&mut driver, &[due(500, 40 * SECOND)])[0];
    driver.scheduler.cancel(driver.now_ns, late);
    // which this one begins anew.
    let second = submit(&mut driver, &[due(500, 30 * SECOND)])[0];
    driver.scheduler.set_policy(driver.now_ns, Scope::default(), Some(policy("fcfs"))).unwrap();
    driver.finish(running);
    assert_eq!(driver.run_one_at_a_time(0), [first, second]);
}

/// What makes no sense is refused by name and changes nothing.
#[test]
fn refusals() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let scope = Scope { class: Some(3), model: None };
    let refused = driver.scheduler.set_policy(0, scope, Some(policy("sjf"))).unwrap_err().to_string();
    assert!(refused.contains("class = 3"), "{refused}");
    assert!(driver.scheduler.set_policy(0, Scope::default(), None).is_err());
    let prompt = due(1, TTFT_DEADLINE_MAX_NS + 1);
    let refused = driver.scheduler.submit(0, 1, &[prompt], BatchOptions::default()).unwrap_err().to_string();
    assert!(refused.contains("ttft_deadline_ns"), "{refused}");
    assert_eq!(driver.scheduler.snapshot().policy, "fcfs");
}

seeded! {
    /// Without deadlines `lars` decides exactly as `hrrn`.
    #[test]
    fn lars_equals_hrrn(steps in prop::collection::vec((1..40_000_u32, 0..3_u32, any::<bool>(), 0..5_000_u64), 1..150)) {
        let run = |name| {
            let mut driver = Driver::with(name, &[laned(1, 2_048), plain(2)]);
            let mut in_flight = Vec::new();
            let mut log = Vec::new();
            for &(tokens, class, ends, gap_ms) in &steps {
                driver.try_submit(1, &[(0, class, tokens)], BatchOptions::default()).unwrap();
                let dispatches = driver.dispatches();
                in_flight.extend(dispatches.iter().map(|dispatch| dispatch.ticket));
                log.extend(dispatches);
                driver.advance(gap_ms * MS);
                if ends && !in_flight.is_empty() {
                    let ticket = in_flight.remove(0);
                    driver.finish(ticket);
                }
            }
            log
        };
        prop_assert_eq!(run("lars"), run("hrrn"));
    }
}
