//! Checks of the simulator itself, against theory and against what was measured elsewhere.

mod controls;
mod long_prefill;
mod queueing;
mod recorded_runs;
pub(crate) mod tenants;

use crate::Error;
use serde::Serialize;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    Failed,
    Skipped,
}

/// One check; a skipped one has no numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Check {
    pub(crate) check: String,
    pub(crate) target: Option<f64>,
    pub(crate) ours: Option<f64>,
    /// Ours over the target, less 1.
    pub(crate) error: Option<f64>,
    pub(crate) tolerance: Option<f64>,
    pub(crate) verdict: Verdict,
}

impl Check {
    fn new(check: impl Into<String>, target: f64, ours: f64, tolerance: f64) -> Self {
        let error = ours / target - 1.0;
        let verdict = if error.abs() <= tolerance { Verdict::Ok } else { Verdict::Failed };
        Self {
            check: check.into(),
            target: Some(target),
            ours: Some(ours),
            error: Some(error),
            tolerance: Some(tolerance),
            verdict,
        }
    }

    /// Sound when ours does not exceed the target.
    fn at_most(check: impl Into<String>, target: f64, ours: f64) -> Self {
        let verdict = if ours <= target { Verdict::Ok } else { Verdict::Failed };
        Self { verdict, ..Self::new(check, target, ours, 0.0) }
    }

    fn skipped(check: impl Into<String>) -> Self {
        let verdict = Verdict::Skipped;
        Self { check: check.into(), target: None, ours: None, error: None, tolerance: None, verdict }
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.verdict != Verdict::Failed
    }
}

/// All checks; those against recorded runs need the folder that holds them.
pub(crate) fn checks(profiles: &Path) -> Result<Vec<Check>, Error> {
    let mut checks = queueing::pollaczek_khinchine(&queueing::FULL)?;
    checks.extend(queueing::cobham(&queueing::FULL)?);
    checks.extend(recorded_runs::checks(profiles)?);
    checks.extend(long_prefill::checks()?);
    checks.extend(tenants::checks()?);
    checks.extend(controls::checks()?);
    Ok(checks)
}
