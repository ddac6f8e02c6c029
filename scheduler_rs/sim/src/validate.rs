//! Checks of the simulator itself, against theory and against what was measured elsewhere.

mod controls;
mod long_prefill;
mod queueing;
mod recorded_runs;
pub(crate) mod tenants;

use crate::Error;
use crate::table::cell;
use serde::Serialize;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    Failed,
    Skipped,
}

/// What ours has to be near, or, as `<= bound`, what it must not exceed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Target {
    Near(f64),
    AtMost(String),
}

/// One check; a skipped one has no numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Check {
    pub(crate) check: String,
    pub(crate) target: Option<Target>,
    pub(crate) ours: Option<f64>,
    /// Ours over the target, less 1; none against a bound, like the tolerance.
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
            target: Some(Target::Near(target)),
            ours: Some(ours),
            error: Some(error),
            tolerance: Some(tolerance),
            verdict,
        }
    }

    /// Sound when ours does not exceed the bound.
    fn at_most(check: impl Into<String>, bound: f64, ours: f64) -> Self {
        Self {
            check: check.into(),
            target: Some(Target::AtMost(format!("<= {}", cell(&bound.into())))),
            ours: Some(ours),
            error: None,
            tolerance: None,
            verdict: if ours <= bound { Verdict::Ok } else { Verdict::Failed },
        }
    }

    fn skipped(check: impl Into<String>) -> Self {
        let verdict = Verdict::Skipped;
        Self { check: check.into(), target: None, ours: None, error: None, tolerance: None, verdict }
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.verdict != Verdict::Failed
    }
}

type Part<'a> = &'a dyn Fn() -> Result<Vec<Check>, Error>;

/// What the checks came to, in one line; some are only skipped for want of the recorded runs.
pub(crate) fn summary(checks: &[Check]) -> String {
    let [ok, failed, skipped] = [Verdict::Ok, Verdict::Failed, Verdict::Skipped]
        .map(|verdict| checks.iter().filter(|check| check.verdict == verdict).count());
    let why = match skipped {
        0 => "",
        _ => ": they need the folder of the recorded vLLM runs, --profiles DIR",
    };
    format!("{} checks: {ok} ok, {failed} failed, {skipped} skipped{why}", checks.len())
}

/// All checks; those against recorded runs are skipped without the folder that holds them.
///
/// What the user gave is read first, so that nobody waits for a refusal.
pub(crate) fn checks(profiles: Option<&Path>) -> Result<Vec<Check>, Error> {
    let runs = recorded_runs::read(profiles)?;
    let parts: [(&str, Part<'_>); 6] = [
        ("waiting times, first come, first served", &|| queueing::pollaczek_khinchine(&queueing::FULL)),
        ("waiting times by class", &|| queueing::cobham(&queueing::FULL)),
        ("recorded vLLM runs", &|| recorded_runs::checks(&runs)),
        ("a short prompt behind a long one", &long_prefill::checks),
        ("two tenants", &tenants::checks),
        ("controls", &controls::checks),
    ];
    let mut checks = Vec::new();
    for ((what, part), number) in parts.iter().zip(1..) {
        eprintln!("validate: {number} of {}, {what}", parts.len());
        checks.extend(part()?);
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bound is shown as one and leaves error and tolerance empty; the summary counts, and says why not all ran.
    #[test]
    fn bounds_and_summary() {
        let checks = [Check::at_most("a", 2.0, 1.0), Check::at_most("b", 2.0, 2.1), Check::skipped("c")];
        let lines = crate::table::render(&checks);
        let words: Vec<&str> = lines.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["a", "<=", "2.000", "1.000", "-", "-", "ok"]);
        assert!(checks[0].is_sound() && !checks[1].is_sound());
        let line = summary(&checks);
        assert!(
            line.starts_with("3 checks: 1 ok, 1 failed, 1 skipped: ") && line.contains("--profiles"),
            "{line}"
        );
        assert_eq!(summary(&checks[..1]), "1 checks: 1 ok, 0 failed, 0 skipped");
    }
}
