//! Any bytes as a sequence of calls: nothing panics, every ticket ends once, and after the last call all can end.
//!
//! `make fuzz` looks for such bytes with coverage (`scheduler_rs/fuzz`); here are random ones, and its seeds.

mod bytes;
mod events;
#[path = "../seeded/mod.rs"]
mod seeded;

use proptest::prelude::*;
use seeded::seeded;

seeded! {
    /// No sequence of calls makes the scheduler panic or lose a ticket.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..1_500)) {
        events::play(&bytes);
    }
}

/// What the fuzzer begins with, and every input that once failed.
#[test]
fn seeds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/events");
    let seeds: Vec<_> = std::fs::read_dir(folder).expect("the folder of seeds").collect();
    assert!(!seeds.is_empty(), "no seeds in {folder}");
    for seed in seeds {
        let path = seed.expect("a seed").path();
        println!("{}", path.display());
        events::play(&std::fs::read(&path).expect("a seed"));
    }
}
