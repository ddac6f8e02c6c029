//! `lars`: the least slack relative to length first: the largest `(now - due) / p`, p = predicted isolated prefill time
//! (length-aware relative slack, Medha, 2024).
//!
//! A prompt without a deadline is due [`SLACK`] times its p after it came: among such prompts the order is that of
//! `hrrn`, exactly. One with a deadline for its first token is due then.
//!
//! Overtaking bound: a prompt of p that is late by w is overtaken by one of q only when that one is late by at least
//! `w * q / p`. Lateness grows while a prompt waits and that of a bounded queue's newcomers does not, so in the end every
//! prompt is first: when its lateness is `p / q` times that of the shortest prompts, as with `hrrn`.

use super::{Line, Size};

/// How many times its own prefill time a prompt without a deadline may take to its first token.
const SLACK: f64 = 10.0;

pub(super) fn line(size: Size) -> Line {
    Line { slope: size.prefill_ns.recip(), intercept: -SLACK }
}

/// For a wait that is counted from the deadline.
pub(super) fn dated_line(size: Size) -> Line {
    Line { slope: size.prefill_ns.recip(), intercept: 0.0 }
}
