//! `sjf-aged`: the smallest static key `arrival + tokens / rate` first.
//!
//! Overtaking bound: a prompt of n tokens is overtaken only by what arrives within `n / rate` after it.

use super::{Line, Size};

pub(super) fn line(size: Size, tokens_per_s: f64) -> Line {
    Line { slope: 1.0, intercept: -size.tokens * 1e9 / tokens_per_s }
}
