//! `edf`: the earliest deadline for the first token first. One without a deadline is due [`DEFAULT_NS`] after it came.
//!
//! Overtaking bound: a prompt is overtaken only by what is due before it, so by nothing that comes after its deadline.

use super::Line;

const DEFAULT_NS: f64 = 60e9;

pub(super) fn line() -> Line {
    Line { slope: 1.0, intercept: -DEFAULT_NS }
}

/// For a wait that is counted from the deadline.
pub(super) fn dated_line() -> Line {
    Line { slope: 1.0, intercept: 0.0 }
}
