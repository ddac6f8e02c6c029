//! Models in memory: no more than a backend holds, turns instead of a reload for each prompt, and none starves (O06).

use crate::driver::{BULK, Driver, INTERACTIVE, MS, SECOND, STANDARD, laned, plain, policy, serving};
use crate::seeded::seeded;
use expresslane_scheduler::{
    BackendConfig, BatchOptions, Config, ModelId, ModelRoute, Outcome, Prompt, TicketId,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Releases in a turn.
const TURN: usize = 32;

fn holding(max_loaded_models: u32, cap: u32, models: &[ModelId]) -> BackendConfig {
    BackendConfig { max_loaded_models, models: serving(models), ..plain(cap) }
}

/// Prompts of these models in turn, as many of each: prompt by prompt, so that arrival alone alternates.
fn alternate(driver: &mut Driver, models: &[ModelId], of_each: usize) -> BTreeMap<TicketId, ModelId> {
    let prompts: Vec<_> =
        (0..of_each).flat_map(|_| models.iter().map(|&model| (model, STANDARD, 10))).collect();
    let tickets = driver.try_submit(1, &prompts, BatchOptions::default()).expect("the queue has room");
    tickets.into_iter().zip(prompts.iter().map(|&(model, ..)| model)).collect()
}

/// The lengths of the runs of one model in an order.
fn runs(order: impl Iterator<Item = ModelId>) -> Vec<(ModelId, usize)> {
    let mut runs: Vec<(ModelId, usize)> = Vec::new();
    for model in order {
        match runs.last_mut() {
            Some((last, count)) if *last == model => *count += 1,
            _ => runs.push((model, 1)),
        }
    }
    runs
}

/// Two models of equal demand take turns of 32 prompts where one fits; without the limit each prompt is a reload.
#[test]
fn models_take_turns() {
    let turns = [(0, TURN), (1, TURN), (0, TURN), (1, TURN), (0, 16), (1, 16)];
    for (most, expected) in [(1, turns.to_vec()), (0, [(0, 1), (1, 1)].repeat(80))] {
        let mut driver = Driver::with("fcfs", &[holding(most, 1, &[0, 1])]);
        let model_of = alternate(&mut driver, &[0, 1], 80);
        let order = driver.run_one_at_a_time(SECOND);
        assert_eq!(runs(order.iter().map(|ticket| model_of[ticket])), expected, "with {most}");
    }
}

/// Large prompts end a turn by their tokens: four of 4,096.
#[test]
fn turns_by_tokens() {
    let mut driver = Driver::with("fcfs", &[holding(1, 1, &[0, 1])]);
    let prompts: Vec<_> = (0..16).map(|at| (at % 2, STANDARD, 4_096)).collect();
    let tickets = driver.try_submit(1, &prompts, BatchOptions::default()).unwrap();
    let order = driver.run_one_at_a_time(SECOND);
    let model = |ticket: &TicketId| prompts[tickets.iter().position(|of| of == ticket).unwrap()].0;
    assert_eq!(runs(order.iter().map(model)), [(0, 4), (1, 4), (0, 4), (1, 4)]);
}

/// A model of which nothing waits makes room at once, but not before what it runs has ended.
#[test]
fn idle_model_goes_at_once() {
    let mut driver = Driver::with("fcfs", &[holding(1, 4, &[0, 1])]);
    let first = driver.submit_one(0, STANDARD, 10);
    assert_eq!(driver.released(), [first]);
    let other = driver.submit_one(1, STANDARD, 10);
    assert!(driver.released().is_empty());
    driver.finish(first);
    assert_eq!(driver.released(), [other]);
}

/// When its turn is over, nothing more of a model is released until the other has been let in.
#[test]
fn turn_is_over() {
    let mut driver = Driver::with("fcfs", &[holding(1, 4, &[0, 1])]);
    let model_of = alternate(&mut driver, &[0, 1], 60);
    let mut running = driver.released();
    for released in 5..=TURN {
        driver.finish(running.remove(0));
        running.extend(driver.released());
        assert_eq!(running.len(), 4, "at {released}");
    }
    for left in (0..4).rev() {
        driver.finish(running.remove(0));
        let released = driver.released();
        assert_eq!(released.len(), if left == 0 { 4 } else { 0 });
        assert!(released.iter().all(|ticket| model_of[ticket] == 1));
    }
}

/// The end of what waits for a place opens the model in memory again: by cancelling, and by its time (T04).
#[test]
fn waiting_model_goes_away() {
    for expires in [false, true] {
        let mut driver = Driver::with("fcfs", &[holding(1, 1, &[0, 1])]);
        driver.submit(1, &[10; TURN + 2]);
        for _ in 1..TURN {
            let released = driver.released();
            driver.finish(released[0]);
        }
        let last = driver.released();
        let prompt = Prompt {
            model: 1,
            class: STANDARD,
            tokens: 10,
            queue_timeout_ns: SECOND * u64::from(expires),
            ..Prompt::default()
        };
        let at_ns = driver.now_ns;
        let other = driver.scheduler.submit(at_ns, 2, &[prompt], BatchOptions::default()).unwrap()[0];
        driver.backend(0, holding(1, 2, &[0, 1]));
        assert!(driver.released().is_empty(), "the turn is over, and it runs");
        if expires {
            driver.now_ns = driver.scheduler.next_deadline().expect("the queue timeout");
        } else {
            driver.scheduler.cancel(at_ns, other);
        }
        assert_eq!(driver.released().len(), 1, "the turn goes on, expires {expires}");
        driver.finish(last[0]);
        assert_eq!(driver.released().len(), 1);
    }
}

/// A higher class ends the turn of a lower one; a lower one waits as for every other slot.
#[test]
fn classes_and_turns() {
    let mut driver = Driver::with("fcfs", &[holding(1, 1, &[0, 1, 2])]);
    driver.submit(1, &[10; 3]);
    let running = driver.released();
    let bulk = driver.submit_one(2, BULK, 10);
    let urgent = driver.submit_one(1, INTERACTIVE, 10);
    driver.finish(running[0]);
    assert_eq!(driver.released(), [urgent]);
    driver.finish(urgent);
    let rest = driver.run_one_at_a_time(SECOND);
    assert_eq!((rest.len(), rest[2]), (3, bulk));
}

/// Three models where two fit: never three at once, and each waits for one turn of each other one at most.
#[test]
fn three_models_for_two_places() {
    let mut driver = Driver::with("fcfs", &[holding(2, 2, &[0, 1, 2])]);
    let model_of = alternate(&mut driver, &[0, 1, 2], 200);
    let (mut order, mut running) = (Vec::new(), driver.released());
    while !running.is_empty() {
        let models: BTreeSet<_> = running.iter().map(|ticket| model_of[ticket]).collect();
        assert!(models.len() <= 2);
        let ended = running.remove(0);
        order.push(model_of[&ended]);
        driver.finish(ended);
        running.extend(driver.released());
    }
    assert_eq!(order.len(), 600);
    for model in 0..3 {
        let places: Vec<usize> = (0..order.len()).filter(|&at| order[at] == model).collect();
        let longest = places.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest <= 2 * TURN + 2, "model {model} waited for {longest} releases");
    }
}

/// A paused model takes no place, and one that can only go elsewhere waits for none.
#[test]
fn who_cannot_come_shuts_nobody_out() {
    let mut driver = Driver::with("fcfs", &[holding(1, 1, &[0, 1])]);
    driver.submit(1, &[10; 2 * TURN]);
    driver.submit_one(1, STANDARD, 10);
    driver.scheduler.pause(0, 0, Some(1), 1_000 * SECOND);
    assert_eq!(driver.run_one_at_a_time(SECOND).len(), 2 * TURN);
    driver.now_ns = 1_000 * SECOND;
    assert_eq!(driver.released().len(), 1);
}

/// A smaller limit ends nothing: what is above it runs out first; no limit lets all in again (T12).
#[test]
fn limit_changes() {
    let mut driver = Driver::with("fcfs", &[holding(0, 4, &[0, 1])]);
    let model_of = alternate(&mut driver, &[0, 1], 10);
    let running = driver.released();
    assert_eq!(running.iter().map(|ticket| model_of[ticket]).collect::<Vec<_>>(), [0, 1, 0, 1]);
    driver.backend(0, holding(1, 4, &[0, 1]));
    for ticket in running {
        driver.finish(ticket);
    }
    let models: BTreeSet<_> = driver.released().iter().map(|ticket| model_of[ticket]).collect();
    assert_eq!(models.len(), 1);
    driver.backend(0, holding(0, 8, &[0, 1]));
    let others: BTreeSet<_> = driver.released().iter().map(|ticket| model_of[ticket]).collect();
    assert_eq!((others.len(), models.is_disjoint(&others)), (1, true), "the other came first");
}

/// Which of two backends opens a model depends on what the other has in memory, and of an overdue prompt only the short
/// budget keeps it back: the room that promotion keeps for it goes when its model is shut again, and the poll ends all
/// the same. A scheduler that kept the room anew each time would never return: this test would hang, not fail.
#[test]
fn room_kept_for_a_model_that_is_shut_again() {
    let config = Config { policy: policy("fcfs"), max_wait_ns: 10 * MS, ..Config::default() };
    let mut driver = Driver::new(config);
    driver.backend(0, holding(1, 1, &[0, 1]));
    let lanes = BackendConfig { long_threshold_tokens: 16_384, ..laned(1, 8_192) };
    driver.backend(1, BackendConfig { cap: 4, max_loaded_models: 1, models: serving(&[0, 1]), ..lanes });
    let submit = |driver: &mut Driver, prompts: &[(ModelId, u32)]| {
        let prompts: Vec<_> = prompts.iter().map(|&(model, tokens)| (model, STANDARD, tokens)).collect();
        driver.try_submit(1, &prompts, BatchOptions::default()).expect("the queue has room")
    };
    let sent = |driver: &mut Driver| -> Vec<(TicketId, u32)> {
        driver.dispatches().iter().map(|dispatch| (dispatch.ticket, dispatch.backend)).collect()
    };
    // One model at each; the first turn is over at once.
    let first = submit(&mut driver, &[(0, 20_000), (1, 5_000), (0, 10)]);
    assert_eq!(sent(&mut driver), [(first[0], 0), (first[1], 1)]);
    // Two of 5,000 are above the budget; a long one and a small one have room beside the first.
    let later = submit(&mut driver, &[(1, 5_000), (1, 100_000), (1, 10)]);
    driver.advance(SECOND);
    assert_eq!(sent(&mut driver), [(later[1], 1), (later[2], 1)]);
    for ticket in [first[0], first[1], later[1], later[2]] {
        driver.finish(ticket);
    }
    let mut rest = Vec::new();
    while rest.len() < 2 {
        let released = driver.released();
        assert!(!released.is_empty(), "{rest:?} alone went");
        for &ticket in &released {
            driver.finish(ticket);
        }
        rest.extend(released);
    }
    rest.sort_unstable();
    assert_eq!(rest, [first[2], later[0]]);
}

const MODELS: u32 = 4;

#[derive(Clone, Copy, Debug)]
enum Event {
    Submit { model: ModelId, class: u32, tokens: u32, count: usize },
    FirstToken(usize),
    Finish(usize),
    Retry(usize, bool),
    Cancel(usize),
    Advance(u64),
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (0..MODELS, 0..3_u32, 1..12_000_u32, 1..40_usize)
            .prop_map(|(model, class, tokens, count)| Event::Submit { model, class, tokens, count }),
        3 => any::<usize>().prop_map(Event::FirstToken),
        6 => any::<usize>().prop_map(Event::Finish),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(pick, exclude)| Event::Retry(pick, exclude)),
        1 => any::<usize>().prop_map(Event::Cancel),
        2 => (1..20 * SECOND).prop_map(Event::Advance),
    ]
}

/// A scheduler with two backends, lanes on, and what is in flight there.
struct World {
    driver: Driver,
    most: [u32; 2],
    model_of: BTreeMap<TicketId, ModelId>,
    running: BTreeMap<TicketId, u32>,
}

impl World {
    fn new(most: [u32; 2], cap: u32, policy: &str) -> Self {
        let models: Vec<_> = (0..MODELS).map(|model| ModelRoute { model, cap: model % 3 }).collect();
        let backends = most.map(|max_loaded_models| BackendConfig {
            max_loaded_models,
            models: models.clone(),
            lanes: true,
            short_budget_tokens: Some(10_000),
            ..plain(cap)
        });
        let driver = Driver::with(policy, &backends);
        Self { driver, most, model_of: BTreeMap::new(), running: BTreeMap::new() }
    }

    fn picked(&self, pick: usize) -> Option<TicketId> {
        self.running.keys().nth(pick % self.running.len().max(1)).copied()
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Submit { model, class, tokens, count } => {
                let prompts = vec![(model, class, tokens); count];
                let tickets = self.driver.try_submit(1, &prompts, BatchOptions::default()).unwrap();
                self.model_of.extend(tickets.into_iter().map(|ticket| (ticket, model)));
            }
            Event::Advance(by_ns) => self.driver.advance(by_ns),
            Event::Cancel(pick) => {
                let Some(&ticket) = self.model_of.keys().nth(pick % self.model_of.len().max(1)) else {
                    return;
                };
                for removed in self.driver.scheduler.cancel(self.driver.now_ns, ticket).removed {
                    self.model_of.remove(&removed);
                }
            }
            Event::FirstToken(pick) => {
                let Some(ticket) = self.picked(pick) else { return };
                self.driver.scheduler.first_token(self.driver.now_ns, ticket).unwrap();
            }
            Event::Finish(pick) => {
                let Some(ticket) = self.picked(pick) else { return };
                self.driver.scheduler.finish(self.driver.now_ns, ticket, Outcome::Success).unwrap();
                self.running.remove(&ticket);
                self.model_of.remove(&ticket);
            }
            Event::Retry(pick, exclude) => {
                let Some(ticket) = self.picked(pick) else { return };
                if !exclude {
                    self.driver.scheduler.move_on(self.driver.now_ns, ticket).expect("it is in flight");
                }
                if self.driver.retry(ticket, SECOND, exclude) {
                    self.running.remove(&ticket);
                }
            }
        }
    }

    /// Takes what is released; no backend may run more models than it holds.
    fn poll(&mut self) {
        for dispatch in self.driver.dispatches() {
            self.running.insert(dispatch.ticket, dispatch.backend);
        }
        for backend in 0..2 {
            let here = self.running.iter().filter(|(_, of)| **of == backend);
            let models: BTreeSet<_> = here.map(|(ticket, _)| self.model_of[ticket]).collect();
            let most = self.most[backend as usize];
            assert!(most == 0 || models.len() <= most as usize, "{models:?} at backend {backend}");
        }
    }
}

seeded! {
    /// Along any trace no backend runs more models than it holds, and everything ends (O06, T02).
    #[test]
    fn never_more_than_it_holds(
        trace in prop::collection::vec(events(), 1..150),
        most in [0..4_u32, 1..4_u32],
        cap in 1..6_u32,
        policy in prop::sample::select(vec!["fcfs", "hrrn", "sjf", "lars"]),
    ) {
        let mut world = World::new(most, cap, policy);
        for event in trace {
            world.apply(event);
            world.poll();
        }
        for _ in 0..20_000 {
            if world.model_of.is_empty() {
                break;
            }
            if world.running.is_empty() {
                world.driver.now_ns = world.driver.scheduler.next_deadline().expect("nothing waits for nothing");
            } else {
                world.apply(Event::Finish(0));
            }
            world.poll();
        }
        prop_assert!(world.model_of.is_empty(), "{} did not end", world.model_of.len());
    }
}

/// Without the limit the global one alone holds: nothing is shut out.
#[test]
fn off_by_default() {
    let mut driver = Driver::new(Config::default());
    driver.backend(0, BackendConfig { models: serving(&[0, 1, 2, 3]), ..plain(4) });
    for model in 0..4 {
        driver.submit_one(model, STANDARD, 10);
    }
    assert_eq!(driver.released().len(), 4);
}
