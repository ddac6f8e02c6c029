//! What single calls cost: `make bench-core`. The cost of a prompt's whole way is `expresslane-sim core-bench`.
#![expect(missing_docs, reason = "criterion's macro makes a function without any")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use expresslane_scheduler::{
    BackendConfig, BatchId, BatchOptions, Config, Left, ModelRoute, Outcome, Policy, Prompt, Scheduler,
    TicketId,
};
use std::hint::black_box;
use std::time::Duration;

const SECOND_NS: u64 = 1_000_000_000;
const PROMPTS: usize = 1_000;

/// Four backends with room for `cap` prompts each; with lanes their budgets decide, not the caps.
fn scheduler(policy: Policy, cap: u32, lanes: bool) -> Scheduler {
    let mut scheduler =
        Scheduler::new(Config { policy, ..Config::default() }).expect("the configuration is right");
    for backend in 0..4 {
        let config = BackendConfig {
            cap,
            models: vec![ModelRoute { model: 0, cap: 0 }],
            lanes,
            first_token_timeout_ns: 120 * SECOND_NS,
            attempt_timeout_ns: 600 * SECOND_NS,
            ..BackendConfig::default()
        };
        scheduler.update_backend(0, backend, config).expect("the backend is right");
    }
    scheduler
}

/// Lengths from 16 to 16,384, spread over all the buckets between.
fn prompts(count: usize) -> Vec<Prompt> {
    let tokens = |number: u32| 16 << (number * 7 % 11) | (number * 31 % 16);
    let prompt = |index| Prompt { class: 1, tokens: tokens(index), index, ..Prompt::default() };
    (0..count as u32).map(prompt).collect()
}

/// As many tenants as batches; a batch each.
fn fill(scheduler: &mut Scheduler, batches: usize, prompts: &[Prompt]) {
    for batch in 0..batches {
        let options = BatchOptions { tenant: batch as u32, ..BatchOptions::default() };
        scheduler.submit(0, batch as BatchId, prompts, options).expect("there is room");
    }
}

/// One poll that releases a thousand prompts at once.
fn poll(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("poll_releases_1000");
    group.throughput(Throughput::Elements(PROMPTS as u64));
    for (name, tenants) in [("1_tenant", 1), ("10_tenants", 10), ("1000_tenants", PROMPTS)] {
        let prompts = prompts(PROMPTS / tenants);
        let full = || {
            let mut scheduler = scheduler(Policy::Hrrn, PROMPTS as u32, false);
            fill(&mut scheduler, tenants, &prompts);
            scheduler
        };
        group.bench_function(name, |bencher| {
            let release = |scheduler: &mut Scheduler| {
                let decisions = scheduler.poll(SECOND_NS);
                assert_eq!(decisions.dispatches.len(), PROMPTS);
                decisions
            };
            bencher.iter_batched_ref(full, release, BatchSize::LargeInput);
        });
    }
    group.finish();
}

/// One batch of a hundred prompts beside 100,000 that wait, and its cancel.
fn submit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("submit_and_cancel_100");
    group.throughput(Throughput::Elements(100));
    for (name, tenants) in [("1_tenant", 1), ("1000_tenants", 1_000)] {
        let mut scheduler = scheduler(Policy::Hrrn, 1, true);
        fill(&mut scheduler, tenants, &prompts(100_000 / tenants));
        let (prompts, mut batch) = (prompts(100), 1 << 40);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                batch += 1;
                let options = BatchOptions::default();
                black_box(scheduler.submit(SECOND_NS, batch, &prompts, options)).expect("there is room");
                black_box(scheduler.cancel_batch(SECOND_NS, batch));
            });
        });
    }
    group.finish();
}

/// A slot that becomes free, and the release that follows, with 10,000 waiting under each policy; `edf` and `lars` also
/// with a deadline of its own for each prompt, which they have to look at.
fn release(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("release_of_10000");
    group.throughput(Throughput::Elements(1));
    let plain = Policy::NAMES.map(|name| (name, name.to_owned(), false));
    let dated = ["edf", "lars"].map(|name| (name, format!("{name}_with_deadlines"), true));
    for (policy, name, dated) in plain.into_iter().chain(dated) {
        let mut scheduler = scheduler(policy.parse().expect("a policy's name"), 16, false);
        let waiting: Vec<Prompt> = prompts(1_000).into_iter().map(|prompt| of_kind(prompt, dated)).collect();
        fill(&mut scheduler, 10, &waiting);
        let mut in_flight = scheduler.poll(0).dispatches;
        let (mut now_ns, mut batch) = (0, 1 << 40);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                now_ns += 1_000_000;
                let done = in_flight.pop().expect("a slot is taken");
                let (tokens, index) = (done.prefill_tokens, batch as u32);
                let prompt = of_kind(Prompt { class: 1, tokens, index, ..Prompt::default() }, dated);
                batch += 1;
                let options = BatchOptions { tenant: batch as u32 % 10, ..BatchOptions::default() };
                scheduler.submit(now_ns, batch, &[prompt], options).expect("there is room");
                scheduler.finish(now_ns, done.ticket, Outcome::Success).expect("it is in flight");
                in_flight.extend(scheduler.poll(now_ns).dispatches);
            });
        });
    }
    group.finish();
}

/// What models cost that are closed for a prompt that asks for more tokens than their provider has left: a release of
/// another model beside them, a slot that becomes free included, and a poll that finds nothing to do.
fn closed_models(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("beside_closed_models");
    for closed in [0, 1, 20, 100] {
        let (mut scheduler, mut in_flight) = closed_for_tokens(closed);
        let (mut now_ns, mut batch) = (0, 1 << 40);
        group.throughput(Throughput::Elements(RELEASES as u64));
        group.bench_function(format!("release/{closed}"), |bencher| {
            bencher.iter(|| {
                now_ns += 1_000;
                for ticket in in_flight.drain(..) {
                    scheduler.finish(now_ns, ticket, Outcome::Success).expect("it is in flight");
                }
                fill_pools(&mut scheduler, now_ns, &mut batch);
                in_flight.extend(scheduler.poll(now_ns).dispatches.iter().map(|dispatch| dispatch.ticket));
                assert_eq!(in_flight.len(), RELEASES);
            });
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("idle_poll/{closed}"), |bencher| {
            bencher.iter(|| {
                now_ns += 1_000;
                black_box(scheduler.poll(now_ns));
            });
        });
    }
    group.finish();
}

const RELEASES: usize = 64;

/// A prompt of model 0 for each slot, of ten tenants.
fn fill_pools(scheduler: &mut Scheduler, now_ns: u64, batch: &mut BatchId) {
    for _ in 0..RELEASES {
        let prompt = Prompt { class: 1, tokens: 500, ..Prompt::default() };
        let options = BatchOptions { tenant: *batch as u32 % 10, ..BatchOptions::default() };
        *batch += 1;
        scheduler.submit(now_ns, *batch, &[prompt], options).expect("there is room");
    }
}

/// One backend with 64 slots for model 0, and so many other models of which one prompt runs, 100 tokens are left and one
/// prompt of more waits; and what runs of model 0.
fn closed_for_tokens(closed: u32) -> (Scheduler, Vec<TicketId>) {
    let mut scheduler = Scheduler::new(Config::default()).expect("the configuration is right");
    let models =
        (0..=closed).map(|model| ModelRoute { model, cap: if model == 0 { RELEASES as u32 } else { 9 } });
    let config =
        BackendConfig { cap: 1_000, models: models.collect(), lanes: false, ..BackendConfig::default() };
    scheduler.update_backend(0, 0, config).expect("the backend is right");
    for model in 1..=closed {
        let prompt = Prompt { model, class: 1, tokens: 600, ..Prompt::default() };
        let options = BatchOptions { tenant: model % 10, ..BatchOptions::default() };
        for prompt in [prompt, Prompt { index: 1, ..prompt }] {
            scheduler.submit(0, model.into(), &[prompt], options).expect("there is room");
            for dispatch in scheduler.poll(0).dispatches {
                let left = Left { amount: 100, limit: 0, reset_at_ns: 1 << 60 };
                scheduler.told(0, dispatch.ticket, None, Some(left)).expect("it is in flight");
            }
        }
    }
    fill_pools(&mut scheduler, 0, &mut (1 << 39));
    let in_flight: Vec<_> = scheduler.poll(0).dispatches.iter().map(|dispatch| dispatch.ticket).collect();
    assert_eq!((in_flight.len(), scheduler.snapshot().queued), (RELEASES, closed));
    (scheduler, in_flight)
}

/// Where dated, with a deadline 1 to 61 seconds from the submit, in no order that lengths or arrivals have.
fn of_kind(prompt: Prompt, dated: bool) -> Prompt {
    let in_s = 1 + u64::from(prompt.index) * 37 % 61;
    Prompt { ttft_deadline_ns: if dated { in_s * SECOND_NS } else { 0 }, ..prompt }
}

/// About two minutes in all.
fn short() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
}

criterion_group! { name = benches; config = short(); targets = poll, submit, release, closed_models }
criterion_main!(benches);
