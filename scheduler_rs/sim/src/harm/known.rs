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
const HEAVY: &str =
    "the short lane is too small for what comes beside long prompts; --budget 131072 mends it";
const RAG: &str =
    "all prompts are of about the same length, around the long lane's threshold by their estimates";
const EXCERPTS: &str = "middling prompts among shorter ones";
const TWO_SIZES: &str =
    "the median of all lies in the gap between the two sizes, where few samples move it far";

pub(super) const KNOWN: [Known; 22] = [
    Known::new("heavy", BUSY, 0, "mean", 1.55, HEAVY),
    Known::new("heavy", BUSY, 0, "p50", 1.45, HEAVY),
    Known::new("heavy", BUSY, 0, "p99", 2.2, HEAVY),
    Known::new("heavy", BUSY, 0, "short p99", 2.2, HEAVY),
    Known::new("heavy", BUSY, 0, "long p99", 2.15, HEAVY),
    Known::new("rag", BUSY, 0, "p99", 1.1, RAG),
    Known::new("rag", BUSY, 512, "p99", 1.25, RAG),
    Known::new("two-peaks", BUSY, 512, "p99", 1.1, EXCERPTS),
    Known::new("bimodal", QUIET, 512, "p50", 1.3, TWO_SIZES),
    Known::new("mixed-closed", BUSY, 0, "p99", 3.4, CLOSED),
    Known::new("mixed-closed", BUSY, 0, "long p99", 4.2, CLOSED),
    Known::new("mixed-closed", BUSY, 512, "p99", 5.3, CLOSED),
    Known::new("mixed-closed", BUSY, 512, "long p99", 5.8, CLOSED),
    Known::new("wide-closed", QUIET, 0, "p99", 1.65, CLOSED),
    Known::new("wide-closed", QUIET, 0, "long p99", 2.1, CLOSED),
    Known::new("wide-closed", BUSY, 0, "p50", 1.15, CLOSED),
    Known::new("wide-closed", BUSY, 0, "p99", 1.85, CLOSED),
    Known::new("wide-closed", BUSY, 0, "long p99", 2.2, CLOSED),
    Known::new("wide-closed", QUIET, 512, "p99", 3.3, CLOSED),
    Known::new("wide-closed", QUIET, 512, "long p99", 3.2, CLOSED),
    Known::new("wide-closed", BUSY, 512, "p99", 5.9, CLOSED),
    Known::new("wide-closed", BUSY, 512, "long p99", 6.1, CLOSED),
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
