//! The laws that random traces are held against: a test for each, with the adversaries that it has most to fear.

use crate::adversary::Adversary;
use crate::reference::{Decided, Law};
use crate::trace::Trace;
use crate::traces::{self, CASES};
use crate::world::World;
use std::cell::Cell;

/// By a trace on average; the adversary with the fewest has about twice as many.
const RELEASES_MIN: u64 = 5;

fn holds(test: &str, law: Law, adversaries: &'static [Adversary]) {
    traces::all(test, adversaries, |trace| trace.play(Some(law), false).map(|_| ()));
}

/// Law 1: in flight is never above a cap; after a cap shrinks nothing is released until below it (A06, A07). The soft cap
/// after a rate limit is one of them: half of what was in flight, one more for each round of successes (P35).
#[test]
fn law_01_caps() {
    use Adversary::{CancelStorm, Everything, FlappingBackends, Races, RateLimits, Retries, ShrinkingCaps};
    holds(
        "laws::law_01_caps",
        Law::Caps,
        &[Everything, ShrinkingCaps, FlappingBackends, CancelStorm, Races, Retries, RateLimits],
    );
}

/// Law 2: the long lane holds no more prompts and the short lane no more tokens than it may.
#[test]
fn law_02_lanes() {
    use Adversary::{Chunks, EndlessShorts, Everything, Learning, Races, Retries, ShrinkingCaps};
    holds(
        "laws::law_02_lanes",
        Law::Lanes,
        &[Everything, ShrinkingCaps, EndlessShorts, Races, Retries, Chunks, Learning],
    );
}

/// Law 3: after each poll no waiting prompt is left that a backend could take within all its caps, the soft ones too,
/// but where a lane is kept for another prompt; and it is kept only for one that a sixteenth of the lane's tokens has
/// passed (O05).
#[test]
fn law_03_work_conservation() {
    holds("laws::law_03_work_conservation", Law::WorkConservation, &Adversary::ALL);
}

/// Law 5: among those that some backend could take, the tenant goes first that has had least, and of it the flow: by
/// turns, with estimates, refunds and weights, under cancels, changing backends, full lanes and limits of tenants
/// (G08). Where horizons, barriers or delayed retries keep prompts back, the model gives up: a horizon is met when a
/// prompt would be next, which only the scheduler knows.
#[test]
fn law_05_least_served_first() {
    holds("laws::law_05_least_served_first", Law::FairnessGap, &[Adversary::Shares]);
}

/// Every law at once under each of the adversaries. The tests of one law play with others for longer, but forgive what
/// breaks another one. Nothing is shown where nothing happens: on average a trace releases some prompts at least.
#[test]
fn every_law_under_every_adversary() {
    for adversary in &Adversary::ALL {
        let only = std::slice::from_ref(adversary);
        let (traces, releases) = (Cell::new(0), Cell::new(0));
        traces::some("laws::every_law_under_every_adversary", CASES / 8, only, |trace| {
            let world = trace.play(None, false)?;
            traces.set(traces.get() + 1);
            releases.set(releases.get() + world.releases);
            Ok(())
        });
        let (traces, releases) = (traces.get(), releases.get());
        // One trace alone may be short, or begin with all backends down.
        assert!(
            traces < CASES / 8 || releases >= RELEASES_MIN * traces,
            "{adversary:?} presses too little: {releases} releases in {traces} traces"
        );
    }
}

/// Every law where the lanes are left open and engines work in chunks: the configuration that most have.
#[test]
fn lanes_left_open() {
    traces::all("laws::lanes_left_open", &[Adversary::Chunks], |trace| trace.play(None, false).map(|_| ()));
}

/// Every law where backends hold fewer models than they serve (O06).
#[test]
fn models_in_memory() {
    traces::all("laws::models_in_memory", &[Adversary::FewModels], |trace| {
        trace.play(None, false).map(|_| ())
    });
}

/// Every law where backends fail, are left alone and are tried again (T15).
#[test]
fn failing_backends() {
    traces::all("laws::failing_backends", &[Adversary::Breakers], |trace| {
        trace.play(None, false).map(|_| ())
    });
}

/// Every law once times are learned: order, budgets and all.
#[test]
fn learned_times() {
    traces::all("laws::learned_times", &[Adversary::Learning], |trace| trace.play(None, false).map(|_| ()));
}

/// Law 6: submitted = ended + queued + in flight, one end each, and every late call refused (O08).
#[test]
fn law_06_conservation() {
    holds("laws::law_06_conservation", Law::Conservation, &Adversary::ALL);
}

/// Law 7: nothing goes before a prompt of a higher class that could go, but for a least share, and no more than that.
#[test]
fn law_07_class_order() {
    holds("laws::law_07_class_order", Law::ClassOrder, &Adversary::ALL);
}

/// Law 8: a prompt that no backend can take keeps back none that some backend could.
#[test]
fn law_08_no_head_of_line_blocking() {
    use Adversary::{
        Barriers, EndlessShorts, Everything, FlappingBackends, Limits, ShrinkingCaps, SlowReaders,
    };
    holds(
        "laws::law_08_no_head_of_line_blocking",
        Law::NoHeadOfLineBlocking,
        &[Everything, FlappingBackends, ShrinkingCaps, EndlessShorts, Limits, SlowReaders, Barriers],
    );
}

/// Law 9: the same trace gives the same decisions at the same times, whoever looks on in between.
#[test]
fn law_09_determinism() {
    traces::all("laws::law_09_determinism", &Adversary::ALL, |trace| {
        let first = trace.play(Some(Law::Determinism), true)?;
        let second = trace.play(Some(Law::Determinism), true)?;
        let watched = watched(trace);
        let are_same = first.log == second.log && first.seen() == second.seen();
        if !are_same {
            return Err(format!("{}: two runs of one trace differ", Law::Determinism));
        }
        if first.log[..watched.len().min(first.log.len())] != watched[..watched.len().min(first.log.len())] {
            return Err(format!("{}: looking on changes what is decided", Law::Determinism));
        }
        Ok(())
    });
}

/// The decisions of a trace while everything that only reads is called all the time.
fn watched(trace: &Trace) -> Vec<(u64, Decided)> {
    let mut world = World::of(trace.adversary, trace.seed);
    world.keeps_log = true;
    for &word in &trace.words {
        let step = trace.adversary.step(word);
        world.act(&step.event);
        _ = (world.scheduler.snapshot(), world.scheduler.tenants(), world.scheduler.next_deadline());
        if step.polls {
            world.poll();
        }
        if world.model.verdict.is_lost {
            break;
        }
    }
    world.log
}

/// Polling again at the same time finds nothing, so nobody has to.
#[test]
fn law_09_one_poll_is_enough() {
    traces::all("laws::law_09_one_poll_is_enough", &Adversary::ALL, |trace| {
        let mut world = World::of(trace.adversary, trace.seed);
        for &word in &trace.words {
            world.step(&trace.adversary.step(word));
            world.poll();
            if world.model.verdict.is_lost {
                break;
            }
            let again = world.poll();
            if again != Decided::default() {
                return Err(format!("{}: a second poll at the same time finds {again:?}", Law::Determinism));
            }
        }
        Ok(())
    });
}

/// Law 10: a retry keeps its arrival, waits off-slot until its time, goes where it may, within its tenant's budget
/// (T15); one that a rate limit turned away pays nothing and waits on since when it did before (A26).
#[test]
fn law_10_retries() {
    use Adversary::{Everything, FlappingBackends, Races, RateLimits, Retries, Tenants};
    holds(
        "laws::law_10_retries",
        Law::Retries,
        &[Everything, Retries, Races, FlappingBackends, Tenants, RateLimits],
    );
}

/// Law 11: served, cancelled or with all backends lost, every prompt comes to an end and everything is given back.
#[test]
fn law_11_drain() {
    holds("laws::law_11_drain", Law::Drain, &Adversary::ALL);
}

/// Law 12: no limit is exceeded over any minute; what waits is served in its policy's order; the next deadline is never
/// too late and never now (T10, T11, G08).
#[test]
fn law_12_limits_and_order() {
    holds("laws::law_12_limits_and_order", Law::LimitsAndOrder, &Adversary::ALL);
}

/// Law 12 where limits, those of tenants too, are what keeps most back.
#[test]
fn law_12_under_limits() {
    holds("laws::law_12_under_limits", Law::LimitsAndOrder, &[Adversary::Limits]);
}

/// Law 12 where providers say what is left of their own limits (A26).
#[test]
fn law_12_under_providers_words() {
    holds("laws::law_12_under_providers_words", Law::LimitsAndOrder, &[Adversary::Providers]);
}

/// Law 12 where policies change while prompts wait: each is served in the order that holds when it goes (G08).
#[test]
fn law_12_while_policies_change() {
    holds("laws::law_12_while_policies_change", Law::LimitsAndOrder, &[Adversary::ChangingPolicies]);
}

/// Besides: horizons, barriers and every deadline hold to the nanosecond, and a prompt goes only where it is served
/// (T17).
#[test]
fn own_constraints() {
    holds("laws::own_constraints", Law::OwnConstraints, &Adversary::ALL);
}

/// The model knows nothing of the scheduler: it could not share a mistake with it.
#[test]
fn model_imports_nothing() {
    let sources = [
        include_str!("reference.rs"),
        include_str!("reference/bounds.rs"),
        include_str!("reference/breaker.rs"),
        include_str!("reference/calls.rs"),
        include_str!("reference/check.rs"),
        include_str!("reference/closing.rs"),
        include_str!("reference/deadlines.rs"),
        include_str!("reference/flow.rs"),
        include_str!("reference/lanes.rs"),
        include_str!("reference/law.rs"),
        include_str!("reference/memory.rs"),
        include_str!("reference/order.rs"),
        include_str!("reference/place.rs"),
        include_str!("reference/poll.rs"),
        include_str!("reference/ramp.rs"),
        include_str!("reference/retries.rs"),
        include_str!("reference/shares.rs"),
        include_str!("reference/sizes.rs"),
        include_str!("reference/tenants.rs"),
        include_str!("reference/terms.rs"),
        include_str!("reference/times.rs"),
        include_str!("reference/told.rs"),
    ];
    assert!(sources.iter().all(|source| !source.contains("expresslane_scheduler")));
}
