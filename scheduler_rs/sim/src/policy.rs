//! What stands between the callers and the engine: nothing, a cap, or the scheduler with a policy.

use crate::Error;
use expresslane_scheduler::Policy;

/// A contestant of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Contestant {
    /// Everything goes straight to the engine.
    Passthrough,
    /// The scheduler as a plain cap: first come, first served, no lanes.
    CapFcfs,
    /// The scheduler with one of its policies, lanes and all.
    Core(Policy),
}

impl Contestant {
    pub(crate) fn named(name: &str) -> Result<Self, Error> {
        match name {
            "passthrough" => Ok(Self::Passthrough),
            "cap-fcfs" => Ok(Self::CapFcfs),
            _ => name.parse().map(Self::Core).map_err(|_| {
                let known = [&["passthrough", "cap-fcfs"], Policy::NAMES.as_slice()].concat();
                Error::unknown("policy", name, &known)
            }),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Passthrough => "passthrough",
            Self::CapFcfs => "cap-fcfs",
            Self::Core(policy) => policy.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names lead back to themselves; an unknown one is told what there is.
    #[test]
    fn names() {
        for name in ["passthrough", "cap-fcfs", "hrrn", "sjf-aged"] {
            assert_eq!(Contestant::named(name).unwrap().name(), name);
        }
        let error = Contestant::named("lifo").unwrap_err().to_string();
        assert!(error.contains("\"lifo\"") && error.contains("cap-fcfs") && error.contains("hrrn"));
    }
}
