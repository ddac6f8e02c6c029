//! Random traces: made from a seed, and told with the command that repeats them when one fails.

use crate::adversary::Adversary;
use crate::dice::Dice;
use crate::trace::Trace;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

const STEPS_MAX: usize = 120;
/// A build without optimisation is ten times slower.
pub(crate) const CASES: u64 = if cfg!(debug_assertions) { 64 } else { 256 };

fn traces(adversaries: &'static [Adversary]) -> impl Strategy<Value = Trace> {
    let words = prop::collection::vec(any::<u64>().no_shrink(), 1..STEPS_MAX);
    let seeds = (any::<u64>().no_shrink(), any::<u64>().no_shrink());
    (prop::sample::select(adversaries), seeds, words).prop_map(|(adversary, (seed, drain), words)| Trace {
        adversary,
        seed,
        words,
        drain,
    })
}

/// A number from the environment: how a person repeats or prolongs a run.
#[expect(clippy::disallowed_methods, reason = "a test may be told its seed")]
pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number, not {text:?}"))
}

/// Plays random traces of these adversaries and fails with the smallest one found that breaks the property.
pub(crate) fn all(
    test: &str,
    adversaries: &'static [Adversary],
    property: impl Fn(&Trace) -> Result<(), String>,
) {
    let (seed, cases) = (number("SEED", 1), number("CASES", CASES));
    let mut dice = Dice::new(seed);
    let bytes: Vec<u8> = (0..4).flat_map(|_| dice.word().to_le_bytes()).collect();
    let config = Config {
        cases: cases as u32,
        failure_persistence: None,
        max_shrink_iters: 4_096,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let result = runner.run(&traces(adversaries), |trace| property(&trace).map_err(TestCaseError::fail));
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, trace)) => panic!(
            "{why}\nseed {seed}; repeat with\n  SEED={seed} CASES={cases} cargo test --release -p \
             expresslane-scheduler --test proofs {test} -- --exact\nsmallest trace found: {}",
            trace.told()
        ),
        Err(TestError::Abort(why)) => panic!("no traces: {why}"),
    }
}
