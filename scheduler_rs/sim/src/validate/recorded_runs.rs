//! The modelled vLLM engines against the recorded runs: the same requests at the same times.

use super::Check;
use crate::Error;
use crate::engine::catalog;
use crate::engine::spec::EngineSpec;
use crate::gate::Limits;
use crate::policy::Contestant;
use crate::statistics::quantile;
use crate::vllm_run;
use crate::workload::{Request, Workload};
use crate::world;
use std::path::Path;

const RUNS: [(&str, &str); 2] = [
    ("llama3.1-8b-rtx4090", "vllm-run-rtx4090-llama-3.1-8b.jsonl"),
    ("llama3.1-8b-rtxpro6000", "vllm-run-rtxpro6000-llama-3.1-8b.jsonl"),
];
const TOLERANCE: f64 = 0.15;

pub(super) fn checks(profiles: &Path) -> Result<Vec<Check>, Error> {
    let mut checks = Vec::new();
    for (engine, file) in RUNS {
        let path = profiles.join(file);
        if path.exists() {
            checks.extend(check(engine, &path)?);
        } else {
            checks.push(Check::skipped(format!("vLLM run of {engine}: no {}", path.display())));
        }
    }
    Ok(checks)
}

fn check(engine: &str, path: &Path) -> Result<Vec<Check>, Error> {
    let recorded = vllm_run::read(path)?;
    let start = recorded[0].queued_ts;
    // Times are the engine's own, so there is no network between.
    let spec = EngineSpec { rtt_ms: 0.0, ..catalog::engine(engine)? };
    let requests = recorded
        .iter()
        .map(|request| Request::new(request.queued_ts - start, request.input_toks, request.output_toks));
    let workload = Workload::open(requests.collect());
    let run = world::run(&workload, &spec, &Contestant::Passthrough, &Limits::defaults(&spec))?;
    let theirs = |of: fn(&vllm_run::RecordedRequest) -> f64| sorted(recorded.iter().map(of));
    let ours = |of: fn(&world::Record) -> f64| sorted(run.records.iter().map(of));
    let pairs = [
        ("TTFT", theirs(|request| request.first_token_ts - request.queued_ts), ours(world::Record::ttft_s)),
        (
            "end to end",
            theirs(|request| request.last_token_ts - request.queued_ts),
            ours(world::Record::total_s),
        ),
    ];
    let mut checks = Vec::new();
    for (what, theirs, ours) in pairs {
        for (name, share) in [("P50", 0.5), ("P90", 0.9)] {
            let [target, ours] = [&theirs, &ours].map(|samples| quantile(samples, share).unwrap_or(f64::NAN));
            checks.push(Check::new(
                format!("vLLM run of {engine}: {what} {name}, s"),
                target,
                ours,
                TOLERANCE,
            ));
        }
    }
    Ok(checks)
}

fn sorted(samples: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut samples: Vec<f64> = samples.collect();
    samples.sort_by(f64::total_cmp);
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::Verdict;

    /// Without the recorded runs nothing is claimed about them.
    #[test]
    fn skipped() {
        let checks = checks(Path::new("no-such-folder")).unwrap();
        assert!(checks.len() == 2 && checks.iter().all(|check| check.verdict == Verdict::Skipped));
    }
}
