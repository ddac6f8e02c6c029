//! `sjf`: the shortest prompt first.
//!
//! Overtaking bound: none by itself, so promotion is on by default. Once a prompt of n tokens has waited longer than
//! [`MAX_WAIT_NS`], and those of its flow that came before it are gone, it goes as soon as 9 n tokens of its flow have
//! passed it: promotion gets 10 % of the released tokens.

use super::{Line, Size};

pub(super) const MAX_WAIT_NS: u64 = 60_000_000_000;

pub(super) fn line(size: Size) -> Line {
    Line { slope: 0.0, intercept: -size.prefill_ns }
}
