//! Traces of the adversaries against the naive model: none of the twelve laws is broken.
//!
//! Two bytes are a step, so that the fuzzer can leave out, repeat and join steps. A failing input tells its trace.

#![no_main]

#[path = "../../core/tests/proofs"]
#[allow(dead_code, unused_imports, reason = "the proofs use the rest")]
mod proofs {
    pub(crate) mod adversary;
    pub(crate) mod bridge;
    pub(crate) mod dice;
    pub(crate) mod reference;
    pub(crate) mod scenario;
    pub(crate) mod trace;
    pub(crate) mod world;
}

use adversary::Adversary;
use proofs::{adversary, bridge, dice, reference, scenario, trace, world};
use trace::Trace;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let trace = trace_of(input);
    if let Err(why) = trace.play(None, false) {
        panic!("{why}\n{}", trace.told());
    }
});

/// Who makes trouble, in which world (two bytes), how it ends, and the steps.
fn trace_of(input: &[u8]) -> Trace {
    let (head, steps) = input.split_at(input.len().min(4));
    let at = |place: usize| head.get(place).copied().unwrap_or(0);
    Trace {
        adversary: Adversary::ALL[usize::from(at(0)) % Adversary::ALL.len()],
        seed: u64::from(u16::from_le_bytes([at(1), at(2)])),
        drain: u64::from(at(3)),
        words: steps.chunks_exact(2).map(|step| u64::from(u16::from_le_bytes([step[0], step[1]]))).collect(),
    }
}
