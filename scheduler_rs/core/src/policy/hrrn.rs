//! `hrrn`: the largest `(wait + s) / s` first (highest response ratio next, Brinch Hansen, 1971), s = predicted isolated
//! service time: prefill and the expected decode time K.
//!
//! With the prefill time alone a backlog that decoding holds up, not prefill, would be ordered as by `sjf`: prefill
//! times differ by hundreds while each prompt keeps its place in the engine for much the same time. K tells how little
//! a prompt's length then matters: the more decoding prevails, the nearer the order is to `fcfs`.
//!
//! Overtaking bound: a prompt of s that has waited w is overtaken by one of r only when that one has itself waited
//! `w * r / s`. So what goes first after a wait of w came at least `w * m / s` earlier, m the shortest service time: what
//! goes first in the last `w * m / s` of the wait was there when that time began. With no more than Q prompts in the flow
//! at once and a release at least every S while the prompt itself could go (its lane has room), those are gone after
//! `Q * S`. Hence w is at most `s / m * Q * S`, and what goes first in that time at most w by the least time between
//! releases. A prompt that comes back for a retry counts once more in Q. The estimates may change: s / m is then the
//! largest it gets, and K makes it smaller: at most `1 + p / K`, p the prefill time of the longer one.

use super::{Line, Size};

pub(super) fn line(size: Size) -> Line {
    Line { slope: size.service_ns.recip(), intercept: 1.0 }
}
