//! The long run: traces of all adversaries, from one seed, until so many events have happened.

use crate::adversary::Adversary;
use crate::dice::Dice;
use crate::seeded::number;
use crate::trace::Trace;
use std::time::Instant;

const STEPS: u64 = 400;

/// No law is broken over millions of events (`make soak`; `SEED` and `EVENTS` may be set). With `TRACE`, one trace of
/// the seed is played alone: those before it are only drawn.
#[test]
#[ignore = "minutes long: make soak"]
#[expect(clippy::disallowed_methods, reason = "tells how fast it goes")]
fn soak() {
    let (seed, events, only) = (number("SEED", 1), number("EVENTS", 10_000_000), number("TRACE", u64::MAX));
    let (mut dice, started) = (Dice::new(seed), Instant::now());
    let (mut done, mut told) = (0, 0);
    println!("soak: seed {seed}, {events} events");
    for traces in 0_u64.. {
        let trace = draw(traces, &mut dice);
        if traces == only || only == u64::MAX {
            play(&trace, traces, seed);
        }
        done += trace.words.len() as u64;
        let is_last = traces == only || only == u64::MAX && done >= events;
        if is_last || done / 1_000_000 > told {
            told = done / 1_000_000;
            let per_s = done as f64 / started.elapsed().as_secs_f64();
            println!("soak: {done} events in {} traces, {per_s:.0} events/s, seed {seed}", traces + 1);
        }
        if is_last {
            return;
        }
    }
}

fn draw(number: u64, dice: &mut Dice) -> Trace {
    let steps = 1 + dice.below(STEPS) as usize;
    Trace {
        adversary: Adversary::ALL[(number % Adversary::ALL.len() as u64) as usize],
        seed: dice.word(),
        drain: dice.word(),
        words: (0..steps).map(|_| dice.word()).collect(),
    }
}

fn play(trace: &Trace, number: u64, seed: u64) {
    if let Err(why) = trace.survives() {
        let least = trace.cut_down();
        panic!(
            "{why}\nseed {seed}, trace {number}; repeat with\n  make soak SEED={seed} TRACE={number}\n\
             smallest trace found: {}",
            least.told()
        );
    }
}
