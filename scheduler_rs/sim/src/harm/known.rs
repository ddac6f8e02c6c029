//! Where ordering is known to lose, by how much at most, and why.

use super::Setting::{self, Chunks, Untold, Whole};
use super::{BUSY, QUIET};

/// Of one case: what some of its figures may be instead of their targets.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) workload: &'static str,
    pub(super) setting: Setting,
    pub(super) load: f64,
    why: &'static str,
    pub(super) at_most: &'static [(&'static str, f64)],
}

const CLOSED: &str = "a closed loop has a fixed throughput: what short prompts gain, long ones pay";
const TWO_SIZES: &str =
    "all prompts are of two sizes: what is left to win is little, and the large ones pay it";

pub(super) const KNOWN: &[Known] = &[
    of("bimodal", Chunks, BUSY, TWO_SIZES, &[("p99", 1.1)]),
    of("bimodal", Chunks, QUIET, TWO_SIZES, &[("p50", 1.3)]),
    of("mixed-closed", Whole, BUSY, CLOSED, &[("p99", 4.6), ("long p99", 5.4)]),
];

const fn of(
    workload: &'static str,
    setting: Setting,
    load: f64,
    why: &'static str,
    at_most: &'static [(&'static str, f64)],
) -> Known {
    Known { workload, setting, load, why, at_most }
}

/// How far it may go, and a word on why.
pub(super) fn find(workload: &str, load: f64, setting: Setting, what: &str) -> Option<(f64, String)> {
    let case = KNOWN
        .iter()
        .find(|known| (known.workload, known.load, known.setting) == (workload, load, setting))?;
    let &(_, at_most) = case.at_most.iter().find(|(of, _)| *of == what)?;
    Some((at_most, format!("at most {at_most}: {}", case.why)))
}
