//! `lars`: the least slack relative to length first: the largest `(now - due) / s`, s = predicted isolated service time,
//! that is prefill and the expected decode time, as for `hrrn` (length-aware relative slack, Medha, 2024).
//!
//! A prompt without a deadline is due [`SLACK`] times its s after it came: among such prompts the order is that of
//! `hrrn`, exactly. One with a deadline for its first token is due then.
//!
//! Overtaking bound: a prompt of s that is late by w is overtaken by one of r only when that one is late by at least
//! `w * r / s`. Lateness grows while a prompt waits and that of a bounded queue's newcomers does not, so in the end every
//! prompt is first: when its lateness is `s / r` times that of the shortest prompts, as with `hrrn`.

use super::{Line, Size};

/// How many times its own service time a prompt without a deadline may take to its first token.
const SLACK: f64 = 10.0;

pub(super) fn line(size: Size) -> Line {
    Line { slope: size.service_ns.recip(), intercept: -SLACK }
}

/// For a wait that is counted from the deadline.
pub(super) fn dated_line(size: Size) -> Line {
    Line { slope: size.service_ns.recip(), intercept: 0.0 }
}
