//! Where a prompt goes when some backends have its model in memory and others would have to load it (O06).

use crate::driver::{Driver, MS, SECOND, STANDARD, plain, serving};
use expresslane_scheduler::{BackendConfig, BatchOptions, ModelId};

fn holding(max_loaded_models: u32, cap: u32, models: &[ModelId]) -> BackendConfig {
    BackendConfig { max_loaded_models, models: serving(models), ..plain(cap) }
}

fn loads(driver: &Driver) -> Vec<u64> {
    driver.scheduler.snapshot().backends.iter().map(|backend| backend.model_loads).collect()
}

fn in_memory(driver: &Driver) -> Vec<Vec<ModelId>> {
    driver.scheduler.snapshot().backends.into_iter().map(|backend| backend.loaded_models).collect()
}

/// Two models on two idle backends with a place each: each stays where it was loaded first.
#[test]
fn each_to_its_own() {
    let mut driver = Driver::with("fcfs", &[holding(1, 4, &[0, 1]), holding(1, 4, &[0, 1])]);
    for at in 0..100 {
        let model = at % 2;
        let ticket = driver.submit_one(model, STANDARD, 10);
        let sent = driver.dispatches();
        assert_eq!((sent.len(), sent[0].backend), (1, model), "prompt {at}");
        driver.finish(ticket);
    }
    assert_eq!((loads(&driver), in_memory(&driver)), (vec![1, 1], vec![vec![0], vec![1]]));
}

/// A load is worth it once the backend that has the model is busy for longer than the load takes: 5 s until learned.
#[test]
fn load_against_wait() {
    let mut driver = Driver::with("fcfs", &[holding(2, 9, &[0]), holding(2, 9, &[0])]);
    // 2 s each at the assumed rate.
    driver.submit(1, &[10_000; 5]);
    let backends: Vec<_> = driver.dispatches().iter().map(|sent| sent.backend).collect();
    assert_eq!(
        backends,
        [0, 0, 0, 1, 1],
        "after 6 s here, 2 s and a load are as good there; then they are equal"
    );
}

/// Of two backends that would have to load it, the one with a free place does: nothing has to go for it.
#[test]
fn free_place_first() {
    let mut driver = Driver::with("fcfs", &[holding(1, 4, &[0, 1]), holding(2, 4, &[1, 2])]);
    let sizes = [(0, 10), (2, 10), (1, 10)];
    for (model, tokens) in sizes {
        let ticket = driver.submit_one(model, STANDARD, tokens);
        driver.released();
        driver.finish(ticket);
    }
    assert_eq!(in_memory(&driver), [vec![0], vec![1, 2]]);
}

/// A backend without the limit needs no load, as far as anyone knows.
#[test]
fn unlimited_first() {
    let mut driver = Driver::with("fcfs", &[holding(1, 4, &[0]), holding(0, 4, &[0])]);
    driver.submit_one(0, STANDARD, 10);
    assert_eq!(driver.dispatches()[0].backend, 1);
    assert_eq!(in_memory(&driver), [vec![], vec![]]);
}

/// How long a load takes is learned from prompts that waited for one; what prefills take is not learned from these.
#[test]
fn load_time_is_learned() {
    let mut driver = Driver::with("fcfs", &[holding(1, 4, &[0, 1])]);
    let prefill_ns = 1_000 * SECOND / 5_000;
    for at in 0..8 {
        let seen = driver.scheduler.snapshot().backends.remove(0);
        assert_eq!(seen.load_samples, at);
        assert!((seen.load_ns / 5e9 - 1.0).abs() < 1e-9, "{}", seen.load_ns);
        let ticket = driver.submit_one((at % 2) as u32, STANDARD, 1_000);
        assert_eq!(driver.released(), [ticket]);
        driver.advance(prefill_ns + 2 * SECOND);
        driver.first_token(ticket);
        driver.finish(ticket);
    }
    let seen = driver.scheduler.snapshot().backends.remove(0);
    assert_eq!((seen.model_loads, seen.load_samples, seen.prefill_samples), (8, 8, 0));
    assert!((seen.load_ns / 2e9 - 1.0).abs() < 0.05, "{}", seen.load_ns);
    let again = driver.submit_one(1, STANDARD, 1_000);
    driver.released();
    driver.advance(prefill_ns);
    driver.first_token(again);
    driver.finish(again);
    assert_eq!(driver.scheduler.snapshot().backends[0].prefill_samples, 1, "no load, so a prefill");
}

/// Two models that never run dry, two backends with a place each: once each has one, none has to move.
#[test]
fn backlogs_stay_apart() {
    let mut driver = Driver::with("fcfs", &[holding(1, 2, &[0, 1]), holding(1, 2, &[0, 1])]);
    let prompts: Vec<_> = (0..400).map(|at| (at % 2, STANDARD, 10)).collect();
    driver.try_submit(1, &prompts, BatchOptions::default()).unwrap();
    let mut running = driver.released();
    let mut ended = 0;
    while !running.is_empty() {
        driver.advance(100 * MS);
        driver.finish(running.remove(0));
        ended += 1;
        running.extend(driver.released());
    }
    assert_eq!((ended, loads(&driver)), (400, vec![1, 1]));
}

/// Releases in a turn of a model.
const TURN: usize = 32;

/// A model that is in memory elsewhere ends no turn, but a prompt that has failed there is to go on here: its model gets a
/// place after one turn of the other, however much of that waits.
#[test]
fn failed_where_it_is_in_memory() {
    let mut driver = Driver::with("fcfs", &[plain(1), holding(1, 1, &[0, 1])]);
    let moves = driver.submit_one(0, STANDARD, 10);
    assert_eq!(driver.dispatches()[0].backend, 0);
    driver.try_submit(1, &vec![(1, STANDARD, 10); 4 * TURN], BatchOptions::default()).unwrap();
    let mut running = driver.released();
    driver.scheduler.move_on(driver.now_ns, moves).unwrap();
    assert!(driver.retry(moves, 0, false));
    let mut passed = 0;
    while !running.contains(&moves) {
        passed += 1;
        assert!(passed <= TURN, "it waits for more than a turn");
        driver.finish(running.remove(0));
        running = driver.released();
    }
    assert_eq!(driver.scheduler.snapshot().backends[1].in_flight_by_model, [(0, 1)]);
}

/// Where every backend refuses a model its prompts may go to each: in memory at one, it ends no turn at another.
#[test]
fn in_memory_where_all_refuse() {
    let mut driver = Driver::with("fcfs", &[plain(1), holding(1, 1, &[0, 1])]);
    for backend in [0, 1] {
        driver.scheduler.avoid(0, backend, 0, 600 * SECOND);
    }
    let prompts = [vec![(0, STANDARD, 10); 4], vec![(1, STANDARD, 10); 2 * TURN]].concat();
    let tickets = driver.try_submit(1, &prompts, BatchOptions::default()).unwrap();
    let mut running = driver.released();
    assert_eq!(running, [tickets[0], tickets[4]]);
    for ended in 1..2 * TURN {
        driver.finish(running.remove(1));
        running.extend(driver.released());
        assert_eq!(running, [tickets[0], tickets[4 + ended]]);
    }
    assert_eq!(loads(&driver), [0, 1]);
}
