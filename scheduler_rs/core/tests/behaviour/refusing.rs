//! Backends that refuse a model, or the service's key: where its prompts go meanwhile, and what that costs.

use crate::driver::{Driver, SECOND, plain, policy, serving};
use expresslane_scheduler::{BackendConfig, Config};

fn avoid(driver: &mut Driver, backend: u32, for_ns: u64) {
    driver.scheduler.avoid(driver.now_ns, backend, 0, driver.now_ns + for_ns);
}

fn backends(driver: &mut Driver) -> Vec<u32> {
    driver.dispatches().iter().map(|dispatch| dispatch.backend).collect()
}

/// Two backends of so many slots each, the first of which refuses model 0 for a minute.
fn first_refuses(cap: u32) -> Driver {
    let mut driver = Driver::with("fcfs", &[plain(cap), plain(cap)]);
    avoid(&mut driver, 0, 60 * SECOND);
    driver
}

/// While another one is up, busy or paused, it is waited for; from the set time on both take prompts again (A26).
#[test]
fn another_takes_all() {
    for is_paused in [false, true] {
        let mut driver = first_refuses(1);
        if is_paused {
            driver.scheduler.pause(driver.now_ns, 1, None, 600 * SECOND);
        }
        driver.submit(1, &[10; 3]);
        assert_eq!(backends(&mut driver), if is_paused { vec![] } else { vec![1] });
        assert_eq!(driver.scheduler.next_deadline(), Some(60 * SECOND));
        driver.advance(60 * SECOND - 1);
        assert_eq!(backends(&mut driver), []);
        driver.advance(1);
        assert_eq!(backends(&mut driver), [0]);
    }
}

/// Other models go there as ever.
#[test]
fn other_models_do_not_care() {
    let mut driver = first_refuses(1);
    driver.backend(0, BackendConfig { models: serving(&[0, 1]), ..plain(1) });
    let other = driver.submit_one(1, 1, 10);
    assert_eq!(driver.released(), [other]);
}

/// With no other backend, or only ones that are down or refuse too, it is as if it refused nothing: nothing waits.
#[test]
fn where_no_other_is_left() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    avoid(&mut driver, 0, 60 * SECOND);
    driver.submit(1, &[10]);
    assert_eq!(backends(&mut driver), [0]);

    let mut driver = first_refuses(1);
    let running = driver.submit(1, &[10; 3]);
    assert_eq!(backends(&mut driver), [1]);
    driver.backend(1, BackendConfig { available: false, ..plain(1) });
    assert_eq!(backends(&mut driver), [0], "the other one went away");
    driver.backend(1, plain(1));
    driver.finish(running[1]);
    assert_eq!(backends(&mut driver), [], "it is back, and busy");
    avoid(&mut driver, 1, 60 * SECOND);
    assert_eq!(backends(&mut driver), [0], "it refuses too");
}

/// What the others have refused, or failed for good, is sent there at once: whoever refused it once may be mended.
#[test]
fn the_last_that_a_prompt_has_not_met() {
    let mut driver = first_refuses(2);
    let tickets = driver.submit(1, &[10; 2]);
    assert_eq!(backends(&mut driver), [1, 1]);
    driver.scheduler.not_run(driver.now_ns, tickets[0]).unwrap();
    assert!(driver.retry(tickets[0], 0, true));
    let again = driver.dispatches();
    assert_eq!((again[0].ticket, again[0].backend), (tickets[0], 0));
    // The other one still does well.
    driver.submit(2, &[10]);
    assert_eq!(backends(&mut driver), [1]);
    driver.scheduler.not_run(driver.now_ns, tickets[0]).unwrap();
    assert!(!driver.retry(tickets[0], 0, true), "it has met both");
}

/// A prompt that failed elsewhere by a backend's fault does not count one that refuses as open.
#[test]
fn no_way_out_after_a_failure() {
    let mut driver = first_refuses(1);
    let ticket = driver.submit(1, &[10])[0];
    assert_eq!(backends(&mut driver), [1]);
    driver.scheduler.move_on(driver.now_ns, ticket).unwrap();
    assert!(driver.retry(ticket, 0, false));
    assert_eq!(backends(&mut driver), [1]);
}

/// The later of two times counts; one that is past lifts it, as an answer does.
#[test]
fn until_it_answers() {
    let mut driver = first_refuses(1);
    avoid(&mut driver, 0, SECOND);
    driver.submit(1, &[10; 2]);
    assert_eq!(backends(&mut driver), [1]);
    driver.advance(SECOND);
    assert_eq!(backends(&mut driver), []);
    avoid(&mut driver, 0, 0);
    assert_eq!(backends(&mut driver), [0]);
    driver.scheduler.avoid(driver.now_ns, 7, 0, 60 * SECOND);
    driver.scheduler.avoid(driver.now_ns, 0, 7, 60 * SECOND);
}

/// What was not run moves at no cost to its tenant's retry budget, once for each backend; back to the same one it pays.
#[test]
fn moves_are_free() {
    let mut driver = Driver::new(Config { policy: policy("fcfs"), retry_ratio: 0.1, ..Config::default() });
    driver.backend(0, plain(100));
    driver.backend(1, plain(100));
    avoid(&mut driver, 1, 60 * SECOND);
    let tickets = driver.submit(1, &[10; 50]);
    assert_eq!(backends(&mut driver), [0; 50]);
    for &ticket in &tickets {
        driver.scheduler.not_run(driver.now_ns, ticket).unwrap();
        assert!(driver.retry(ticket, 0, true));
    }
    assert_eq!(backends(&mut driver), [1; 50]);
    assert_eq!(driver.scheduler.snapshot().retries_denied, 0);
    let paid = tickets.iter().filter(|&&ticket| {
        driver.scheduler.not_run(driver.now_ns, ticket).unwrap();
        driver.retry(ticket, 0, false)
    });
    assert_eq!(paid.count(), 10);
}

/// That nothing of an attempt was run says nothing of the next one: it pays, though it excludes its backend too.
#[test]
fn free_for_the_attempt_that_was_not_run() {
    let mut driver = Driver::new(Config { policy: policy("fcfs"), retry_ratio: 0.1, ..Config::default() });
    for backend in [0, 1, 2] {
        driver.backend(backend, plain(100));
    }
    let tickets = driver.submit(1, &[10; 50]);
    assert_eq!(driver.released().len(), 50);
    for &ticket in &tickets {
        driver.scheduler.not_run(driver.now_ns, ticket).unwrap();
        assert!(driver.retry(ticket, 0, true));
    }
    assert_eq!(driver.released().len(), 50);
    let paid = tickets.iter().filter(|&&ticket| driver.retry(ticket, 0, true)).count();
    assert_eq!(paid, 10);
}
