//! What the default settings are held to: no harm against pass-through, and a gain where lengths differ.

mod known;

use crate::Error;
use crate::compare::{Choice, Comparison};
use crate::engine::spec::EngineSpec;
use crate::gate::Told;
use crate::row::Row;
use crate::source::short_name;
use serde::Serialize;

pub(crate) const CONTESTANTS: [&str; 2] = ["passthrough", "hrrn"];
/// All mixes: most also as conversations and in storms, chat with documents in bursts; and closed loops.
pub(crate) const MADE_UP: [&str; 33] = [
    "bimodal",
    "bimodal-storms",
    "bimodal-turns",
    "chat",
    "chat-storms",
    "chat-turns",
    "code",
    "code-storms",
    "code-turns",
    "documents-1",
    "documents-1-bursts",
    "documents-2",
    "documents-2-bursts",
    "documents-half",
    "documents-half-bursts",
    "heavy",
    "heavy-storms",
    "heavy-turns",
    "mixed",
    "mixed-closed",
    "mixed-storms",
    "mixed-turns",
    "papers",
    "rag",
    "rag-storms",
    "rag-turns",
    "two-peaks",
    "two-peaks-storms",
    "two-peaks-turns",
    "wide",
    "wide-closed",
    "wide-storms",
    "wide-turns",
];
/// An engine, and what the scheduler is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Setting {
    /// No chunk threshold, and it is told so.
    Whole,
    /// A chunk threshold, and it is told of it.
    Chunks,
    /// A chunk threshold that nobody tells it of.
    Untold,
}

pub(crate) const SETTINGS: [Setting; 3] = [Setting::Whole, Setting::Chunks, Setting::Untold];
/// Most tokens of one prompt in a step, where there is a threshold.
const CHUNK: u32 = 512;

impl Setting {
    pub(crate) fn chunk(self) -> u32 {
        match self {
            Self::Whole => 0,
            Self::Chunks | Self::Untold => CHUNK,
        }
    }

    pub(crate) fn told(self, engine: &EngineSpec) -> Told {
        match self {
            Self::Whole | Self::Chunks => Told::truth(engine),
            Self::Untold => Told::NOTHING,
        }
    }

    fn of(chunk: u32, told: Told) -> Self {
        match chunk {
            0 => Self::Whole,
            _ if told == Told::NOTHING => Self::Untold,
            _ => Self::Chunks,
        }
    }
}

const QUIET: f64 = 0.3;
const BUSY: f64 = 0.85;

/// Most of mean, median, P99 and makespan: 5 % worse.
const OVERALL_MAX: f64 = 1.05;
/// Most of the P99 of a length class that has enough samples.
const CLASS_MAX: f64 = 1.35;
const CLASS_SAMPLES_MIN: usize = 500;
/// The recorded workload whose lengths differ most.
const WIDE: &str = "mooncake-synthetic";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    /// Above the target, as is known of this case, and no further than is known.
    Known,
    Failed,
}

/// A ratio to pass-through that must not exceed its target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Check {
    pub(crate) workload: String,
    pub(crate) load: f64,
    /// The engine's chunk threshold; 0 = none.
    pub(crate) chunk: u32,
    /// Whether the scheduler knows of it.
    pub(crate) told: bool,
    pub(crate) what: &'static str,
    pub(crate) target: f64,
    pub(crate) ours: f64,
    pub(crate) verdict: Verdict,
    /// Of what is known: how far it may go, and why.
    pub(crate) note: Option<String>,
}

impl Check {
    fn new(case: &Case<'_>, what: &'static str, target: f64, ours: f64) -> Self {
        let known = known::find(case.workload, case.load, case.setting, what);
        let (verdict, note) = match known {
            _ if ours <= target => (Verdict::Ok, None),
            Some((at_most, note)) if ours <= at_most => (Verdict::Known, Some(note)),
            Some((_, note)) => (Verdict::Failed, Some(note)),
            // Also what is no number.
            None => (Verdict::Failed, None),
        };
        let (workload, load) = (case.workload.to_owned(), case.load);
        let (chunk, told) = (case.setting.chunk(), case.setting != Setting::Untold);
        Self { workload, load, chunk, told, what, target, ours, verdict, note }
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.verdict != Verdict::Failed
    }
}

/// One comparison, and what it is about.
struct Case<'a> {
    workload: &'a str,
    load: f64,
    setting: Setting,
    passthrough: &'a Row,
    ours: &'a Row,
    short_samples: usize,
    long_samples: usize,
}

impl<'a> Case<'a> {
    fn of(comparison: &'a Comparison) -> Self {
        let conditions = &comparison.conditions;
        let short = conditions.short_requests;
        let seeds = conditions.seeds as usize;
        Self {
            workload: short_name(&conditions.trace),
            load: conditions.load,
            setting: Setting::of(conditions.engine.long_prefill_token_threshold, conditions.limits.told),
            passthrough: &comparison.rows[0],
            ours: &comparison.rows[1],
            short_samples: short * seeds,
            long_samples: (conditions.requests - short) * seeds,
        }
    }

    /// None where neither has any.
    fn ratio(&self, of: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
        Some(of(self.ours)? / of(self.passthrough)?)
    }

    fn checks(&self) -> Vec<Check> {
        let overall = [
            ("mean", self.ratio(|row| row.ttft_mean_s)),
            ("p50", self.ratio(|row| row.ttft_p50_s)),
            ("p99", self.ratio(|row| row.ttft_p99_s)),
            ("makespan", self.ratio(|row| row.makespan_s)),
        ];
        let short = self.ratio(|row| row.short_ttft_p99_s);
        let long = self.ratio(|row| row.long_ttft_p99_s);
        let classes = [("short p99", short, self.short_samples), ("long p99", long, self.long_samples)];
        let large = classes.into_iter().filter(|(_, _, samples)| *samples >= CLASS_SAMPLES_MIN);
        let rule = overall.into_iter().map(|(what, ratio)| (what, OVERALL_MAX, ratio));
        let rule = rule.chain(large.map(|(what, ratio, _)| (what, CLASS_MAX, ratio)));
        let mut checks: Vec<Check> =
            rule.filter_map(|(what, target, ratio)| Some(Check::new(self, what, target, ratio?))).collect();
        if self.workload == WIDE && self.load == BUSY {
            let (short_max, mean_max) =
                if self.setting == Setting::Whole { (0.5, 0.75) } else { (1.0 / 30.0, 0.6) };
            let gains = [
                ("gain: short p99", short_max, short),
                ("gain: mean", mean_max, self.ratio(|row| row.ttft_mean_s)),
                ("gain: makespan", 1.03, self.ratio(|row| row.makespan_s)),
            ];
            checks.extend(
                gains.map(|(what, target, ratio)| Check::new(self, what, target, ratio.unwrap_or(f64::NAN))),
            );
        }
        checks
    }
}

/// All checks, at both loads.
pub(crate) fn checks(choices: &[Choice]) -> Result<Vec<Check>, Error> {
    let mut checks = Vec::new();
    for choice in choices {
        for load in [QUIET, BUSY] {
            let comparison = Choice { load, ..choice.clone() }.run()?;
            checks.extend(Case::of(&comparison).checks());
        }
    }
    Ok(checks)
}

/// What the checks came to, in one line.
pub(crate) fn summary(checks: &[Check]) -> String {
    let [ok, known, failed] = [Verdict::Ok, Verdict::Known, Verdict::Failed]
        .map(|verdict| checks.iter().filter(|check| check.verdict == verdict).count());
    format!("{} checks: {ok} ok, {known} worse as is known, {failed} failed", checks.len())
}

#[cfg(test)]
mod tests;
