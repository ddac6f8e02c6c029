//! `ljf`: the longest prompt first, for batches whose long answers are wanted before their short ones.
//!
//! Overtaking bound: a prompt of p is overtaken by a longer one of q only when that one arrives within
//! `(q - p) / AGEING` after it.

use super::{Line, Size};

/// Predicted prefill time that a unit of waiting makes up for: little, so that length decides within a run.
const AGEING: f64 = 0.01;

pub(super) fn line(size: Size) -> Line {
    Line { slope: AGEING, intercept: size.prefill_ns }
}
