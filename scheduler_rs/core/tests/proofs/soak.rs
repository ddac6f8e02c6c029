//! The long run: traces of all adversaries, from one seed, until so many events have happened.

use crate::adversary::Adversary;
use crate::dice::Dice;
use crate::seeded::number;
use crate::trace::Trace;
use std::time::Instant;

const STEPS: usize = 400;

/// No law is broken over millions of events (`make soak`; `SEED` and `EVENTS` may be set).
#[test]
#[ignore = "minutes long: make soak"]
#[expect(clippy::disallowed_methods, reason = "tells how fast it goes")]
fn soak() {
    let (seed, events) = (number("SEED", 1), number("EVENTS", 10_000_000));
    let mut dice = Dice::new(seed);
    let started = Instant::now();
    let (mut done, mut traces, mut told) = (0, 0_u64, 0);
    println!("soak: seed {seed}, {events} events");
    while done < events {
        let adversary = Adversary::ALL[(traces % Adversary::ALL.len() as u64) as usize];
        let steps = 1 + dice.below(STEPS as u64) as usize;
        let trace = Trace {
            adversary,
            seed: dice.word(),
            drain: dice.word(),
            words: (0..steps).map(|_| dice.word()).collect(),
        };
        if let Err(why) = trace.survives() {
            let (world, steps) = (trace.seed, trace.words.len());
            panic!(
                "{why}\nseed {seed}, trace {traces} ({adversary:?}, world {world}, {steps} steps); repeat with\n  \
                 make soak SEED={seed} EVENTS={}\nsmallest trace found: {}",
                done + steps as u64,
                trace.cut_down().told()
            );
        }
        (done, traces) = (done + steps as u64, traces + 1);
        if done / 1_000_000 > told {
            told = done / 1_000_000;
            let per_s = done as f64 / started.elapsed().as_secs_f64();
            println!("soak: {done} events in {traces} traces, {per_s:.0} events/s");
        }
    }
    let per_s = done as f64 / started.elapsed().as_secs_f64();
    println!("soak: done, {done} events in {traces} traces, {per_s:.0} events/s, seed {seed}");
}
