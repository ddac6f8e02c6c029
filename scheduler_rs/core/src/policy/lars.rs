//! `lars`: the least slack relative to length first: the largest `(now - due) / s`, s = predicted isolated service time,
//! that is prefill and the expected decode time, as for `hrrn` (length-aware relative slack, Medha, 2024).
//!
//! A prompt without a deadline is due [`SLACK`] times its s after it came: among such prompts the order is that of
//! `hrrn`, exactly. One with a deadline for its first token is due then.
//!
//! Overtaking bound: a prompt of s that is late by w > 0 is overtaken by one of r only when that one is late by at least
//! `w * r / s`. None is late before it comes, so what goes first in the last `w * m / s` of that lateness was there when it
//! began, m the shortest service time. As for `hrrn` the lateness is at most `s / m * Q * S`, and the wait that much more
//! than the time until the prompt is due. Where none is due sooner than d after it came, one that is late by `w * m / s`
//! came d before that: then the lateness is at most `s / m * (Q * S - d)`, or `s / (s - m) * d` if that is more. Where no
//! prompt has a deadline the wait itself has the bound of `hrrn`.

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
