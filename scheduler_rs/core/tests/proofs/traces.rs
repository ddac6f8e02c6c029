//! Random traces: made from a seed, cut down when one fails, told with the command that repeats it.

use crate::adversary::Adversary;
use crate::dice::Dice;
use crate::reference::Law;
use crate::world::World;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use std::fmt::Write;

const STEPS_MAX: usize = 120;
/// A build without optimisation is ten times slower.
pub(crate) const CASES: u64 = if cfg!(debug_assertions) { 64 } else { 256 };

/// A trace by numbers: each word becomes one step, so any part of it is a trace.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) adversary: Adversary,
    pub(crate) seed: u64,
    pub(crate) words: Vec<u64>,
    /// How it all comes to an end.
    pub(crate) drain: u64,
}

impl Trace {
    /// Plays it up to the first breach of the law, or of any without one.
    pub(crate) fn play(&self, law: Option<Law>, keeps_log: bool) -> Result<World, String> {
        let mut world = World::of(self.adversary, self.seed);
        world.keeps_log = keeps_log;
        for &word in &self.words {
            world.step(&self.adversary.step(word));
            verdict(&world, law)?;
            if world.model.verdict.is_lost {
                return Ok(world);
            }
        }
        world.drain(self.drain);
        verdict(&world, law)?;
        Ok(world)
    }

    /// The same failure with as few steps as can be found by leaving out runs of them.
    pub(crate) fn cut_down(&self) -> Self {
        let mut best = self.clone();
        let mut run = best.words.len() / 2;
        while run > 0 {
            let mut from = 0;
            while from < best.words.len() {
                let to = (from + run).min(best.words.len());
                let mut shorter = best.clone();
                shorter.words.drain(from..to);
                let still_fails = std::panic::catch_unwind(|| shorter.play(None, false).is_err());
                if still_fails.unwrap_or(true) { best = shorter } else { from += run }
            }
            run /= 2;
        }
        best
    }

    pub(crate) fn told(&self) -> String {
        let mut told =
            format!("adversary {:?}, world {}, drain {}:\n", self.adversary, self.seed, self.drain % 3);
        for &word in &self.words {
            writeln!(told, "  {:?}", self.adversary.step(word)).expect("a string takes all");
        }
        told
    }
}

fn verdict(world: &World, law: Option<Law>) -> Result<(), String> {
    let verdict = &world.model.verdict;
    let found = match law {
        Some(law) => verdict.against(law),
        None => verdict.breaches.first(),
    };
    found.map_or(Ok(()), |breach| Err(breach.to_string()))
}

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
