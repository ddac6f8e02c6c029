//! A trace: an adversary's steps by number, played against scheduler and model, cut down and told.

use crate::adversary::Adversary;
use crate::reference::Law;
use crate::world::World;
use std::fmt::Write;

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

    /// Plays it up to the first breach of any law, or to a panic.
    pub(crate) fn survives(&self) -> Result<(), String> {
        let played = std::panic::catch_unwind(|| self.play(None, false).map(|_| ()));
        played.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("a panic: {}", said.unwrap_or("without words")))
        })
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
                if shorter.survives().is_err() { best = shorter } else { from += run }
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
