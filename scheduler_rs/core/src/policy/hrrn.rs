//! `hrrn`: the largest `(wait + p) / p` first, p = predicted isolated prefill time.
//!
//! Overtaking bound: a prompt of p that has waited w is overtaken by one of q only when that one has itself waited
//! `w * q / p`. No wait in a bounded queue of L tickets exceeds L service times while w grows, so in the end every
//! prompt is first: at the latest when w is `p / q` times the longest wait of the shortest prompts.

use super::{Line, Size};

pub(super) fn line(size: Size) -> Line {
    Line { slope: size.prefill_ns.recip(), intercept: 1.0 }
}
