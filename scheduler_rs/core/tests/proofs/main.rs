//! The scheduler's twelve laws as properties, in virtual time, against a naive model of its documented rules.
//!
//! Every random test prints its seed and the command that repeats it; `SEED` and `CASES` may be set. `make soak` runs
//! the same traces without end.

mod adversary;
mod bridge;
mod dice;
mod gap;
mod laws;
mod mixed_policies;
mod newcomers;
mod overtaking;
mod provider;
mod races;
mod reference;
mod regressions;
mod scenario;
#[path = "../seeded/mod.rs"]
mod seeded;
mod soak;
mod starvation;
mod trace;
mod traces;
mod world;
