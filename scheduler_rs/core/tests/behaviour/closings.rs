//! What is closed for a prompt that asks for more tokens than are left is looked at again after a release that may have
//! put another before it: the next poll would find it, and nobody has to ask (T10, A26).

use crate::driver::{Driver, INTERACTIVE, SECOND, STANDARD, laned, plain, policy, serving};
use expresslane_scheduler::{
    BackendConfig, BatchId, BatchOptions, Config, Left, Outcome, Prompt, Scope, TenantId, TicketId,
};

/// Whose count says how many tokens are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// The backend's tokens per minute: all of it is closed.
    Own,
    /// Its provider's: the model is closed.
    Provider,
}

pub(crate) const COUNTS: [Count; 2] = [Count::Own, Count::Provider];

pub(crate) fn tell(driver: &mut Driver, ticket: TicketId, requests: Option<u64>, tokens: Option<u64>) {
    let left = |amount| Left { amount, limit: 0, reset_at_ns: 60 * SECOND };
    let heard = driver.scheduler.told(driver.now_ns, ticket, requests.map(left), tokens.map(left));
    heard.expect("it is in flight");
}

/// Backend 0, as described, has 500 tokens left for model 0; backend 1 has room for all of model 1.
pub(crate) fn half_used_as(count: Count, config: Config, backend: BackendConfig) -> Driver {
    let mut driver = Driver::new(config);
    let tokens_per_min = if count == Count::Own { 1_000 } else { 0 };
    driver.backend(0, BackendConfig { tokens_per_min, ..backend });
    let ticket = driver.submit(1, &[500])[0];
    assert_eq!(driver.released(), [ticket]);
    if count == Count::Provider {
        tell(&mut driver, ticket, None, Some(500));
    }
    driver.first_token(ticket);
    driver.backend(1, BackendConfig { models: serving(&[1]), ..plain(100) });
    driver
}

pub(crate) fn half_used(count: Count, config: Config) -> Driver {
    half_used_as(count, config, plain(100))
}

/// Backend 0 serves both models, with as many long slots and 500 tokens left of model 0; no other is up.
fn both_at_one(long_slots: u32) -> Driver {
    let both = BackendConfig { models: serving(&[0, 1]), ..laned(long_slots, 4_096) };
    let mut driver = half_used_as(Count::Provider, fcfs(), both);
    driver.backend(1, BackendConfig { available: false, ..plain(1) });
    driver
}

/// Fills the short lane of 4,096 tokens with prompts of model 1 until room is kept. Returns what is in prefill, what room
/// is kept for, and what has passed that.
fn keep_room(driver: &mut Driver, backend: usize) -> [TicketId; 3] {
    let in_prefill = driver.submit_one(1, STANDARD, 3_500);
    assert_eq!(driver.released(), [in_prefill]);
    let kept = driver.submit_one(1, STANDARD, 600);
    let passing = driver.submit_one(1, STANDARD, 256);
    assert_eq!(driver.released(), [passing]);
    assert_eq!(driver.scheduler.snapshot().backends[backend].reserved_for, Some(kept));
    [in_prefill, kept, passing]
}

pub(crate) fn fcfs() -> Config {
    Config { policy: policy("fcfs"), ..Config::default() }
}

/// Standard prompts by model and size.
pub(crate) fn submit_of(
    driver: &mut Driver,
    batch: BatchId,
    tenant: TenantId,
    prompts: &[(u32, u32)],
) -> Vec<TicketId> {
    let prompts: Vec<_> = prompts.iter().map(|&(model, tokens)| (model, STANDARD, tokens)).collect();
    let options = BatchOptions { tenant, ..BatchOptions::default() };
    driver.try_submit(batch, &prompts, options).expect("the queue has room")
}

/// So many more that no backend serves make a batch a flow of its own.
pub(crate) const FLOW: [(u32, u32); 17] = [(9, 1); 17];

/// Once its tenant has had its turn elsewhere, another's prompt is the first, and fits.
#[test]
fn another_tenant() {
    for count in COUNTS {
        let mut driver = half_used(count, Config::default());
        let theirs = submit_of(&mut driver, 2, 2, &[(0, 600), (1, 10_000)]);
        let other = submit_of(&mut driver, 3, 3, &[(0, 100)]);
        assert_eq!(driver.released(), [theirs[1], other[0]], "{count:?}");
        assert!(driver.released().is_empty());
        assert_eq!(driver.scheduler.next_deadline(), Some(60 * SECOND));
    }
}

/// So it is for the flows of one tenant: once a batch has had its turn elsewhere, another's prompt is the first.
#[test]
fn another_flow() {
    for count in COUNTS {
        let mut driver = half_used(count, Config::default());
        let first = submit_of(&mut driver, 2, 0, &[&[(0, 600), (1, 10_000)], &FLOW[..]].concat());
        let other = submit_of(&mut driver, 3, 0, &[&[(0, 100)], &FLOW[..]].concat());
        assert_eq!(driver.released(), [first[1], other[0]], "{count:?}");
        assert!(driver.released().is_empty());
    }
}

/// It need not be its own flow that has had the tenant's turn.
#[test]
fn another_tenant_after_another_flow() {
    for count in COUNTS {
        let mut driver = half_used(count, Config::default());
        submit_of(&mut driver, 2, 2, &[&[(0, 600)], &FLOW[..]].concat());
        let passing = submit_of(&mut driver, 3, 2, &[&[(1, 10_000)], &FLOW[..]].concat())[0];
        let other = submit_of(&mut driver, 4, 3, &[(0, 100)])[0];
        assert_eq!(driver.released(), [passing, other], "{count:?}");
    }
}

/// As long as its tenant and flow have their turn, it keeps others back.
#[test]
fn still_first() {
    for count in COUNTS {
        let mut driver = half_used(count, Config::default());
        let theirs = submit_of(&mut driver, 2, 2, &[(0, 600), (1, 100), (0, 100)]);
        submit_of(&mut driver, 3, 3, &[(0, 100)]);
        assert_eq!(driver.released(), theirs[1..2], "{count:?}");
        assert!(driver.released().is_empty());
    }
}

/// So it is after a release that makes promotion due: an overdue prompt that fits takes the turn of one that does not.
#[test]
fn promotion() {
    for count in COUNTS {
        let config = Config { policy: policy("sjf"), max_wait_ns: 10 * SECOND, ..Config::default() };
        let mut driver = half_used(count, config);
        for backend in [0, 1] {
            driver.scheduler.pause(0, backend, None, 11 * SECOND);
        }
        let fits = driver.submit_one(0, STANDARD, 400);
        let largest = driver.submit_one(1, STANDARD, 8_192);
        assert!(driver.released().is_empty());
        driver.now_ns = 11 * SECOND;
        let does_not = Prompt { tokens: 100, output_tokens: 500, class: STANDARD, ..Prompt::default() };
        driver.scheduler.submit(driver.now_ns, 2, &[does_not], BatchOptions::default()).unwrap();
        // Nine times its tokens must pass before an overdue one has its turn.
        let passing: Vec<_> = (0..9).map(|_| driver.submit_one(1, STANDARD, 500)).collect();
        let released = driver.released();
        assert!(released.contains(&fits) && released.contains(&largest), "{count:?}: {released:?}");
        assert!(passing.iter().all(|ticket| released.contains(ticket)));
        assert!(driver.released().is_empty());
    }
}

/// And after one that makes a lower class due for its share, whichever tenant's it was.
#[test]
fn a_share() {
    for count in COUNTS {
        let mut driver = half_used(count, Config { class_min_shares: [0.0, 0.5, 0.0], ..Config::default() });
        let options = BatchOptions { tenant: 2, ..BatchOptions::default() };
        driver.try_submit(2, &[(0, INTERACTIVE, 600)], options).unwrap();
        let (passing, tiny) = (driver.submit_one(1, INTERACTIVE, 10_000), driver.submit_one(1, STANDARD, 10));
        let fits = driver.submit_one(0, STANDARD, 100);
        let released = driver.released();
        assert_eq!(released[0], passing);
        assert!(released.contains(&tiny) && released.contains(&fits), "{count:?}: {released:?}");
        assert!(driver.released().is_empty());
    }
}

/// And after one that uses up its tenant's own limit: what its tenant may not release keeps nobody else back.
#[test]
fn its_tenants_limit() {
    for count in COUNTS {
        let mut driver = half_used(count, fcfs());
        driver.scheduler.set_tenant_limits(0, 2, 0, 1_000).unwrap();
        let theirs = submit_of(&mut driver, 2, 2, &[(0, 600), (1, 700)]);
        let other = submit_of(&mut driver, 3, 3, &[(0, 100)]);
        assert_eq!(driver.released(), [theirs[1], other[0]], "{count:?}");
    }
}

/// So it is where no release uses it up, but a prompt that is larger than what is left of it.
#[test]
fn its_tenants_limit_met_elsewhere() {
    for count in COUNTS {
        let mut driver = half_used(count, fcfs());
        driver.scheduler.set_tenant_limits(0, 2, 0, 1_000).unwrap();
        submit_of(&mut driver, 2, 2, &[(1, 300)]);
        submit_of(&mut driver, 3, 3, &[(1, 5_000)]);
        assert_eq!(driver.released().len(), 2);
        submit_of(&mut driver, 2, 2, &[(0, 600), (1, 800)]);
        let other = submit_of(&mut driver, 3, 3, &[(0, 100)]);
        assert_eq!(driver.released(), other, "{count:?}");
    }
}

/// And where two policies meet in its flow: the release of one that came later puts one that came earlier before it.
#[test]
fn another_policy() {
    let mut driver =
        half_used_as(Count::Own, fcfs(), BackendConfig { models: serving(&[0, 2]), ..plain(100) });
    for model in [1, 2] {
        let scope = Scope { class: None, model: Some(model) };
        driver.scheduler.set_policy(0, scope, Some(policy("sjf"))).unwrap();
    }
    let earlier = driver.submit_one(2, STANDARD, 100);
    driver.submit_one(0, STANDARD, 600);
    let later = driver.submit_one(1, STANDARD, 50);
    assert_eq!(driver.released(), [later, earlier]);
}

/// And after its own release to another backend.
#[test]
fn its_own_release() {
    for count in COUNTS {
        let mut driver = half_used(count, fcfs());
        driver.backend(1, BackendConfig { cap: 3, models: serving(&[0, 1]), ..laned(1, 4_096) });
        let [in_prefill, kept, _] = keep_room(&mut driver, 1);
        driver.finish(in_prefill);
        // Before `kept` has gone nothing else may go to backend 1, and then one more.
        let theirs = submit_of(&mut driver, 2, 2, &[(0, 600), (0, 100)]);
        assert_eq!(
            driver.dispatches().iter().map(|one| (one.ticket, one.backend)).collect::<Vec<_>>(),
            [(kept, 1), (theirs[0], 1), (theirs[1], 0)],
            "{count:?}"
        );
    }
}

/// And after one that ends a reservation there: what it kept back may be before it.
#[test]
fn a_reservation_that_ends() {
    let mut driver = both_at_one(2);
    let [in_prefill, kept, passing] = keep_room(&mut driver, 0);
    driver.finish(in_prefill);
    driver.finish(passing);
    let theirs = submit_of(&mut driver, 2, 2, &[(0, 100), (0, 5_000)]);
    assert_eq!(driver.released(), [kept, theirs[0]], "the long one has its own lane, and was the first");
}

/// Nor need it be released there: it may go elsewhere, or its tenant's limit may keep it back.
#[test]
fn a_reservation_that_ends_elsewhere() {
    for goes_elsewhere in [true, false] {
        let mut driver = both_at_one(2);
        let in_prefill = driver.submit_one(1, STANDARD, 3_500);
        assert_eq!(driver.released(), [in_prefill]);
        driver.scheduler.set_tenant_limits(0, 4, 0, 800).unwrap();
        // Four releases are a turn: the next tenant is before it.
        let theirs = submit_of(&mut driver, 4, 4, &[(1, 600), (1, 16), (1, 16), (1, 16), (1, 256)]);
        let kept = theirs[0];
        assert_eq!(driver.released(), theirs[1..]);
        assert_eq!(driver.scheduler.snapshot().backends[0].reserved_for, Some(kept));
        let [fits, _] = submit_of(&mut driver, 2, 2, &[(0, 100), (0, 5_000)])[..] else { panic!() };
        if goes_elsewhere {
            driver.scheduler.set_tenant_limits(0, 4, 0, 0).unwrap();
            driver.backend(1, BackendConfig { models: serving(&[1]), ..plain(1) });
            assert_eq!(driver.released(), [kept, fits]);
        } else {
            driver.finish(in_prefill);
            assert_eq!(driver.released(), [fits]);
        }
        assert!(driver.released().is_empty());
    }
}

/// And after one that takes the lane that it would need, whichever tenant's it is: then the lane keeps it back, not the
/// tokens.
#[test]
fn a_lane_that_fills() {
    let mut driver = both_at_one(1);
    let theirs = submit_of(&mut driver, 2, 2, &[(0, 5_000), (0, 100)]);
    let long = submit_of(&mut driver, 3, 3, &[(1, 5_000)])[0];
    assert_eq!(driver.released(), [long, theirs[1]]);
}

/// And after one that uses up what is left elsewhere: what avoided a backend may go there then, before others.
#[test]
fn nothing_left_elsewhere() {
    let mut driver = Driver::new(fcfs());
    driver.backend(1, BackendConfig { models: serving(&[0, 1]), ..laned(1, 4_096) });
    // The third tenant has had most, the second a little.
    submit_of(&mut driver, 3, 3, &[(1, 5_000)]);
    let told = submit_of(&mut driver, 2, 2, &[(0, 10)])[0];
    assert_eq!(driver.released().len(), 2);
    tell(&mut driver, told, Some(1), None);
    driver.backend(0, plain(100));
    let avoids = driver.submit_one(0, STANDARD, 5_000);
    assert_eq!(driver.dispatches()[0].backend, 0, "the long lane of the other is full");
    tell(&mut driver, avoids, None, Some(5_500));
    driver.scheduler.move_on(0, avoids).unwrap();
    assert!(driver.retry(avoids, 0, false));
    assert!(driver.released().is_empty(), "the other is busy, and waited for");
    submit_of(&mut driver, 2, 2, &[(0, 6_000)]);
    let last = submit_of(&mut driver, 3, 3, &[(0, 100)])[0];
    assert_eq!(
        driver.dispatches().iter().map(|one| (one.ticket, one.backend)).collect::<Vec<_>>(),
        [(last, 1), (avoids, 0)]
    );
    driver.scheduler.finish(0, last, Outcome::Success).unwrap();
}

/// Room that is kept for a prompt of the model that is closed is given up: it would keep back the other models.
#[test]
fn room_for_the_closed_model() {
    let mut driver = Driver::new(fcfs());
    driver.backend(0, BackendConfig { models: serving(&[0, 1]), ..laned(1, 4_096) });
    let [first, in_prefill] = submit_of(&mut driver, 1, 0, &[(0, 10), (1, 3_500)])[..] else { panic!() };
    assert_eq!(driver.released(), [first, in_prefill]);
    let kept = driver.submit_one(0, STANDARD, 600);
    let passing = driver.submit_one(1, STANDARD, 256);
    assert_eq!(driver.released(), [passing]);
    assert_eq!(driver.scheduler.snapshot().backends[0].reserved_for, Some(kept));
    tell(&mut driver, first, None, Some(500));
    driver.finish(in_prefill);
    let other = driver.submit_one(1, STANDARD, 1_000);
    assert_eq!(driver.released(), [other]);
    assert_eq!(driver.scheduler.snapshot().backends[0].reserved_for, None);
}

/// Nothing is closed for a prompt that goes elsewhere, so room that is kept for another of its model stays kept.
#[test]
fn room_where_it_need_not_go() {
    let mut driver = both_at_one(2);
    let in_prefill = [driver.submit_one(1, STANDARD, 3_500), driver.submit_one(1, STANDARD, 100)];
    assert_eq!(driver.released(), in_prefill);
    let kept = driver.submit_one(0, STANDARD, 450);
    let passing = driver.submit_one(1, STANDARD, 256);
    assert_eq!(driver.released(), [passing]);
    driver.backend(2, plain(1));
    let long = submit_of(&mut driver, 2, 2, &[(0, 5_000)]);
    assert_eq!(driver.released(), long);
    assert_eq!(driver.scheduler.snapshot().backends[0].reserved_for, Some(kept));
}

/// Room that is kept for a prompt of another model stays kept.
#[test]
fn room_for_another_model() {
    let mut driver = both_at_one(2);
    let [_, kept, _] = keep_room(&mut driver, 0);
    driver.submit_one(0, STANDARD, 5_000);
    driver.submit_one(1, STANDARD, 100);
    assert!(driver.released().is_empty());
    assert_eq!(driver.scheduler.snapshot().backends[0].reserved_for, Some(kept));
}

/// Promotion keeps room without a release. What was closed for a short prompt that this room now keeps out opens for the
/// long one behind it, in the same poll.
#[test]
fn room_that_promotion_keeps() {
    let config = Config { policy: policy("sjf"), max_wait_ns: 10 * SECOND, ..Config::default() };
    let mut driver = Driver::new(config);
    driver.backend(0, BackendConfig { models: serving(&[0, 1]), ..laned(4, 4_096) });
    driver.backend(1, BackendConfig { models: serving(&[2]), ..plain(100) });
    let first = driver.submit(1, &[500])[0];
    assert_eq!(driver.released(), [first]);
    tell(&mut driver, first, None, Some(5_500));
    driver.first_token(first);
    let nearly_fills_the_lane = submit_of(&mut driver, 9, 9, &[(1, 3_500)])[0];
    assert_eq!(driver.released(), [nearly_fills_the_lane]);
    let unfit = submit_of(&mut driver, 3, 3, &[(1, 1_024)])[0];
    assert!(driver.released().is_empty());
    driver.now_ns = 11 * SECOND;
    submit_of(&mut driver, 3, 3, &[(2, 1_024); 9]);
    assert_eq!(driver.released().len(), 9, "elsewhere, before what is overdue");
    let options = BatchOptions { tenant: 2, ..BatchOptions::default() };
    let asks_for_too_much =
        Prompt { tokens: 100, output_tokens: 6_000, class: STANDARD, ..Prompt::default() };
    driver.scheduler.submit(driver.now_ns, 2, &[asks_for_too_much], options).unwrap();
    let long = submit_of(&mut driver, 2, 2, &[(0, 5_000)])[0];
    submit_of(&mut driver, 3, 3, &[(1, 16)]);
    assert_eq!(driver.released(), [long]);
    assert_eq!(driver.scheduler.snapshot().backends[0].reserved_for, Some(unfit));
    assert!(driver.released().is_empty());
}

/// And after one that puts its own tenant before others: a greater weight, given with its last submit, counts from then
/// on.
#[test]
fn a_greater_weight() {
    for count in COUNTS {
        let mut driver = half_used(count, fcfs());
        let elsewhere = BackendConfig { cap: 2, models: serving(&[1]), ..plain(2) };
        driver.backend(1, elsewhere.clone());
        let first = submit_of(&mut driver, 2, 2, &[(1, 9_000), (0, 600)])[0];
        let theirs = submit_of(&mut driver, 3, 3, &[(1, 20_000), (1, 100)]);
        assert_eq!(driver.released(), [first, theirs[0]], "{count:?}");
        let options = BatchOptions { tenant: 3, weight: 1_000, ..BatchOptions::default() };
        let fits = driver.try_submit(3, &[(0, STANDARD, 100)], options).unwrap()[0];
        driver.backend(1, BackendConfig { cap: 3, ..elsewhere });
        assert_eq!(driver.released(), [theirs[1], fits], "{count:?}");
        assert!(driver.released().is_empty());
    }
}

/// And after one that puts its own flow before others: a tenant's small batches have a share each.
#[test]
fn more_small_batches() {
    for count in COUNTS {
        let mut driver = half_used(count, fcfs());
        let elsewhere = BackendConfig { cap: 2, models: serving(&[1]), ..plain(2) };
        driver.backend(1, elsewhere.clone());
        let first = submit_of(&mut driver, 2, 2, &[&[(1, 9_000), (0, 600)], &FLOW[..]].concat())[0];
        let small = submit_of(&mut driver, 3, 2, &[(1, 20_000), (1, 100)]);
        assert_eq!(driver.released(), [first, small[0]], "{count:?}");
        let fits = submit_of(&mut driver, 4, 2, &[(0, 100)])[0];
        for batch in 5..10 {
            submit_of(&mut driver, batch, 2, &[(9, 1)]);
        }
        driver.backend(1, BackendConfig { cap: 3, ..elsewhere });
        assert_eq!(driver.released(), [small[1], fits], "{count:?}");
        assert!(driver.released().is_empty());
    }
}

/// A release puts a model into memory elsewhere: that of the prompt for which the backend is closed has no claim to a place
/// there any more, and another model's prompt, which fits, has (O06).
#[test]
fn a_model_in_memory_elsewhere() {
    let holds_one = BackendConfig { max_loaded_models: 1, ..plain(100) };
    let mut driver = Driver::new(fcfs());
    let first = BackendConfig { models: serving(&[0, 1, 3]), tokens_per_min: 1_000, ..holds_one };
    driver.backend(0, first);
    let used = submit_of(&mut driver, 1, 1, &[(3, 500)])[0];
    assert_eq!(driver.released(), [used]);
    driver.first_token(used);
    driver.finish(used);
    // The long lane is taken there, and 600 tokens are long.
    let lanes = BackendConfig { long_threshold_tokens: 500, ..laned(1, 1_000) };
    driver.backend(1, BackendConfig { max_loaded_models: 2, models: serving(&[0, 2]), ..lanes });
    let long = submit_of(&mut driver, 1, 1, &[(2, 600)]);
    assert_eq!(driver.released(), long);
    submit_of(&mut driver, 2, 2, &[(0, 600)]);
    let others = submit_of(&mut driver, 3, 3, &[(0, 100), (1, 100)]);
    let released: Vec<_> = driver.dispatches().iter().map(|sent| (sent.ticket, sent.backend)).collect();
    assert_eq!(released, [(others[0], 1), (others[1], 0)]);
    assert!(driver.released().is_empty());
}
