//! `hrrn`: the largest `(wait + s) / s` first (highest response ratio next, Brinch Hansen, 1971), s = predicted isolated
//! service time: prefill and the expected decode time K.
//!
//! With the prefill time alone a backlog that decoding holds up, not prefill, would be ordered as by `sjf`: prefill
//! times differ by hundreds while each prompt keeps its place in the engine for much the same time. K tells how little
//! a prompt's length then matters: the more decoding prevails, the nearer the order is to `fcfs`.
//!
//! Overtaking bound: a prompt of s that has waited w is overtaken by one of r only when that one has itself waited
//! `w * r / s`. No wait in a bounded queue of L tickets exceeds L service times while w grows, so in the end every
//! prompt is first: at the latest when w is `s / r` times the longest wait of the shortest prompts. K makes the ratio
//! smaller: it is at most `1 + p / K`, p the prefill time of the longer one.

use super::{Line, Size};

pub(super) fn line(size: Size) -> Line {
    Line { slope: size.service_ns.recip(), intercept: 1.0 }
}
