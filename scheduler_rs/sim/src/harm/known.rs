//! Where ordering is known to lose, by how much at most, and why.

use super::{BUSY, QUIET};

/// What a case may be instead of its target: what was seen over several sets of seeds, and a little more.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) workload: &'static str,
    pub(super) load: f64,
    pub(super) chunk: u32,
    pub(super) what: &'static str,
    pub(super) at_most: f64,
    why: &'static str,
}

const CLOSED: &str = "a closed loop has a fixed throughput: what short prompts gain, long ones pay";
const TWO_SIZES: &str =
    "all prompts are of two sizes: what is left to win is little, and the large ones pay it";

pub(super) const KNOWN: [Known; 14] = [
    Known::new("bimodal", BUSY, 512, "p99", 1.1, TWO_SIZES),
    Known::new("bimodal", QUIET, 512, "p50", 1.3, TWO_SIZES),
    Known::new("mixed-closed", BUSY, 0, "p99", 4.6, CLOSED),
    Known::new("mixed-closed", BUSY, 0, "long p99", 5.4, CLOSED),
    Known::new("mixed-closed", BUSY, 512, "p99", 5.7, CLOSED),
    Known::new("mixed-closed", BUSY, 512, "long p99", 5.7, CLOSED),
    Known::new("wide-closed", QUIET, 0, "p99", 2.5, CLOSED),
    Known::new("wide-closed", QUIET, 0, "long p99", 3.0, CLOSED),
    Known::new("wide-closed", BUSY, 0, "p99", 5.6, CLOSED),
    Known::new("wide-closed", BUSY, 0, "long p99", 5.9, CLOSED),
    Known::new("wide-closed", QUIET, 512, "p99", 3.3, CLOSED),
    Known::new("wide-closed", QUIET, 512, "long p99", 3.2, CLOSED),
    Known::new("wide-closed", BUSY, 512, "p99", 6.3, CLOSED),
    Known::new("wide-closed", BUSY, 512, "long p99", 6.4, CLOSED),
];

impl Known {
    const fn new(
        workload: &'static str,
        load: f64,
        chunk: u32,
        what: &'static str,
        at_most: f64,
        why: &'static str,
    ) -> Self {
        Self { workload, load, chunk, what, at_most, why }
    }

    pub(super) fn note(&self) -> String {
        format!("at most {}: {}", self.at_most, self.why)
    }
}

pub(super) fn find(workload: &str, load: f64, chunk: u32, what: &str) -> Option<&'static Known> {
    let is_it = |known: &&Known| {
        (known.workload, known.load, known.chunk, known.what) == (workload, load, chunk, what)
    };
    KNOWN.iter().find(is_it)
}
