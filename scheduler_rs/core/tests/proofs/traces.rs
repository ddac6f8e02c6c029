//! Random traces: made from a seed, and told with the command that repeats them when one fails.

use crate::adversary::Adversary;
use crate::seeded::{number, repeat, smallest_failure};
use crate::trace::Trace;
use proptest::prelude::*;

/// A build without optimisation is ten times slower.
pub(crate) const CASES: u64 = if cfg!(debug_assertions) { 64 } else { 256 };

fn traces(adversaries: &'static [Adversary]) -> impl Strategy<Value = Trace> {
    let seeds = (any::<u64>().no_shrink(), any::<u64>().no_shrink());
    let traces = (prop::sample::select(adversaries), seeds).prop_flat_map(|(adversary, seeds)| {
        let words = prop::collection::vec(any::<u64>().no_shrink(), 1..adversary.steps_max());
        (Just(adversary), Just(seeds), words)
    });
    traces.prop_map(|(adversary, (seed, drain), words)| Trace { adversary, seed, words, drain })
}

/// Plays random traces of these adversaries and fails with the smallest one found that breaks the property.
pub(crate) fn all(
    test: &str,
    adversaries: &'static [Adversary],
    property: impl Fn(&Trace) -> Result<(), String>,
) {
    some(test, CASES, adversaries, property);
}

/// Like [`all`], with so many cases unless the environment says otherwise.
pub(crate) fn some(
    test: &str,
    cases: u64,
    adversaries: &'static [Adversary],
    property: impl Fn(&Trace) -> Result<(), String>,
) {
    let (seed, cases) = (number("SEED", 1), number("CASES", cases));
    let failure = smallest_failure(&traces(adversaries), seed, cases, |trace| {
        property(&trace).map_err(TestCaseError::fail)
    });
    if let Some((why, trace)) = failure {
        panic!("{why}\n{}\nsmallest trace found: {}", repeat("proofs", test, seed, cases), trace.told());
    }
}
