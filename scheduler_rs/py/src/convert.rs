//! The core's closed sets as strings.

use expresslane_scheduler::{AttemptDeadline, ExpiryReason, Outcome, OverdueReason};
use pyo3::PyResult;

use crate::errors::InvalidConfigError;

pub(crate) fn expiry_reason(reason: ExpiryReason) -> &'static str {
    match reason {
        ExpiryReason::Queue => "queue",
        ExpiryReason::Batch => "batch",
        ExpiryReason::NoBackend => "no_backend",
    }
}

pub(crate) fn overdue_reason(reason: OverdueReason) -> &'static str {
    match reason {
        OverdueReason::FirstToken => "first_token",
        OverdueReason::Idle => "idle",
        OverdueReason::Attempt => "attempt",
        OverdueReason::Batch => "batch",
    }
}

pub(crate) fn outcome(name: &str) -> PyResult<Outcome> {
    Outcome::ALL.into_iter().find(|outcome| outcome.name() == name).ok_or_else(|| {
        let names = Outcome::ALL.map(Outcome::name);
        InvalidConfigError::new_err(format!("outcome = {name:?}: must be one of {names:?}"))
    })
}

pub(crate) fn attempt_deadline(reason: &str) -> PyResult<AttemptDeadline> {
    match reason {
        "first_token" => Ok(AttemptDeadline::FirstToken),
        "idle" => Ok(AttemptDeadline::Idle),
        "attempt" => Ok(AttemptDeadline::Attempt),
        _ => {
            let rule = "must be one of [\"first_token\", \"idle\", \"attempt\"]";
            Err(InvalidConfigError::new_err(format!("reason = {reason:?}: {rule}")))
        }
    }
}
