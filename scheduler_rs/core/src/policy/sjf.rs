//! `sjf`: the shortest prompt first.
//!
//! Overtaking bound: none by itself, so promotion is on by default: a prompt that has waited longer than
//! [`MAX_WAIT_NS`] gets its turn among 10 % of the released tokens.

use super::{Line, Size};

pub(super) const MAX_WAIT_NS: u64 = 60_000_000_000;

pub(super) fn line(size: Size) -> Line {
    Line { slope: 0.0, intercept: -size.prefill_ns }
}
