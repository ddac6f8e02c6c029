//! Properties on random values made from a seed: a failure tells the smallest values found, and how to repeat it.

#![allow(dead_code, unused_macros, unused_imports, reason = "each test program uses its part")]

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

/// A number from the environment: how a person repeats or prolongs a run.
#[expect(clippy::disallowed_methods, reason = "a test may be told its seed")]
pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number, not {text:?}"))
}

/// The command that repeats one test of one program, or of the library itself.
pub(crate) fn repeat(program: &str, test: &str, seed: u64, cases: u64) -> String {
    let target =
        if program == "expresslane_scheduler" { "--lib".to_owned() } else { format!("--test {program}") };
    format!(
        "seed {seed}; repeat with\n  SEED={seed} CASES={cases} cargo test --release -p expresslane-scheduler \
         {target} {test} -- --exact"
    )
}

/// Why the property fails and the smallest value found for which it does, a panic included.
pub(crate) fn smallest_failure<S: Strategy>(
    values: &S,
    seed: u64,
    cases: u64,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> Option<(String, S::Value)> {
    let bytes: Vec<u8> = (0..4_u64).flat_map(|word| seed.wrapping_mul(2 * word + 1).to_le_bytes()).collect();
    let config = Config {
        cases: u32::try_from(cases).expect("so many cases last for years"),
        failure_persistence: None,
        max_shrink_iters: 4_096,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    match runner.run(values, property) {
        Ok(()) => None,
        Err(TestError::Fail(why, value)) => Some((why.to_string(), value)),
        Err(TestError::Abort(why)) => panic!("no values: {why}"),
    }
}

/// Fails with the smallest value found for which the property does not hold; `path` is the test's, with its program.
pub(crate) fn all<S: Strategy>(
    path: &str,
    values: &S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    // Also PROPTEST_CASES, for all tests at once.
    some(path, Config::default().cases.into(), values, property);
}

/// Like [`all`], with so many cases unless the environment says otherwise.
pub(crate) fn some<S: Strategy>(
    path: &str,
    cases: u64,
    values: &S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let (seed, cases) = (number("SEED", 1), number("CASES", cases));
    let (program, test) = path.split_once("::").expect("a program and a test");
    if let Some((why, value)) = smallest_failure(values, seed, cases, property) {
        panic!("{why}\n{}\nsmallest values found: {value:#?}", repeat(program, test, seed, cases));
    }
}

/// Tests of properties, written as for `proptest!`.
macro_rules! seeded {
    ($($(#[$meta:meta])* fn $name:ident($($arg:pat in $from:expr),+ $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        fn $name() {
            let path = concat!(module_path!(), "::", stringify!($name));
            $crate::seeded::all(path, &($($from,)+), |($($arg,)+)| {
                $body
                Ok(())
            });
        }
    )*};
}
pub(crate) use seeded;
