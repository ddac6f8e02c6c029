//! One thing that happens, in words that make sense whatever happened before: numbers pick among what is there.
//!
//! So any part of a trace is a trace, and a failing one can be cut down freely.

use crate::reference::{BatchTerms, End, Late, Order, Request, Said, Server, Used};

#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// `deadline_in_ns` of 0 = none.
    Submit {
        batch: u64,
        requests: Vec<Request>,
        terms: BatchTerms,
        deadline_in_ns: u64,
    },
    FirstToken(u64),
    Finish {
        pick: u64,
        end: End,
        usage: Option<Used>,
    },
    Retry {
        pick: u64,
        delay_ns: u64,
        exclude_backend: bool,
        not_run: bool,
        moves: bool,
        asked: bool,
    },
    /// Its backend is to blame for what has just happened to it.
    Blame(u64),
    /// By a rate limit; if `pause_ns` is not 0, its model is paused there for so long and it waits as long.
    TurnedAway {
        pick: u64,
        pause_ns: u64,
        asked: bool,
    },
    /// Its answer says what is left; each with its reset as the time until it.
    Said {
        pick: u64,
        requests: Option<Said>,
        tokens: Option<Said>,
    },
    Cancel(u64),
    CancelBatch(u64),
    Hold {
        batch: u64,
        horizon: u32,
    },
    Lift(u64),
    Update {
        backend: u32,
        server: Server,
    },
    Pause {
        backend: u32,
        model: Option<u32>,
        for_ns: u64,
    },
    /// It refuses the model.
    Avoid {
        backend: u32,
        model: u32,
        for_ns: u64,
    },
    LimitTenant {
        tenant: u32,
        requests_per_min: u32,
        tokens_per_min: u64,
    },
    SetOrder {
        class: Option<u32>,
        model: Option<u32>,
        order: Option<Order>,
    },
    Rearm {
        pick: u64,
        deadline: Late,
        in_ns: u64,
    },
    Advance(u64),
    /// To the next deadline, if there is one.
    ToDeadline,
    /// A call that comes too late, about a prompt that has ended or waits.
    TooLate(u64),
    Nothing,
}

/// An event, and whether the scheduler is polled before the next one.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) event: Event,
    pub(crate) polls: bool,
}
