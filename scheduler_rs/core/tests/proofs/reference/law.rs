//! The twelve laws, and what was found against them.

use std::fmt;

/// What must hold, numbered as in the scheduler's design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Law {
    Caps = 1,
    Lanes,
    WorkConservation,
    NoStarvation,
    FairnessGap,
    Conservation,
    ClassOrder,
    NoHeadOfLineBlocking,
    Determinism,
    Retries,
    Drain,
    LimitsAndOrder,
    /// Not numbered there: horizons, barriers, deadlines and where a prompt may go at all.
    OwnConstraints,
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "law {} ({self:?})", *self as u8)
    }
}

/// One breach of a law.
#[derive(Clone, Debug)]
pub(crate) struct Breach {
    pub(crate) law: Law,
    pub(crate) at_ns: u64,
    pub(crate) what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} s: {}", self.law, self.at_ns as f64 / 1e9, self.what)
    }
}

/// All that was found; the model goes on with what the scheduler did.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) breaches: Vec<Breach>,
    /// The two no longer speak of the same prompts, so nothing after it means anything.
    pub(crate) is_lost: bool,
}

impl Verdict {
    pub(crate) fn breach(&mut self, law: Law, at_ns: u64, what: String) {
        self.breaches.push(Breach { law, at_ns, what });
    }

    pub(crate) fn lost(&mut self, law: Law, at_ns: u64, what: String) {
        self.breach(law, at_ns, what);
        self.is_lost = true;
    }

    pub(crate) fn against(&self, law: Law) -> Option<&Breach> {
        self.breaches.iter().find(|breach| breach.law == law)
    }
}
