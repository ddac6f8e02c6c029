//! The modelled vLLM engines against the recorded runs: the same requests at the same times.

use super::Check;
use crate::Error;
use crate::engine::catalog;
use crate::engine::spec::EngineSpec;
use crate::gate::Limits;
use crate::policy::Contestant;
use crate::statistics::quantile;
use crate::vllm_run::{self, RecordedRequest};
use crate::workload::{Request, Workload};
use crate::world;
use std::path::Path;

const RUNS: [(&str, &str); 2] = [
    ("llama3.1-8b-rtx4090", "vllm-run-rtx4090-llama-3.1-8b.jsonl"),
    ("llama3.1-8b-rtxpro6000", "vllm-run-rtxpro6000-llama-3.1-8b.jsonl"),
];
const TOLERANCE: f64 = 0.15;

/// What is compared: its name, whether it is the time to first token or to the end, the quantile's name and share.
type Quantity = (&'static str, Until, &'static str, f64);

#[derive(Clone, Copy)]
enum Until {
    FirstToken,
    End,
}

const QUANTITIES: [Quantity; 4] = [
    ("TTFT", Until::FirstToken, "P50", 0.5),
    ("TTFT", Until::FirstToken, "P90", 0.9),
    ("end to end", Until::End, "P50", 0.5),
    ("end to end", Until::End, "P90", 0.9),
];

/// An engine, and its run where there is one.
pub(super) type Run = (&'static str, Option<Vec<RecordedRequest>>);

pub(super) fn read(profiles: Option<&Path>) -> Result<Vec<Run>, Error> {
    let read = |(engine, file)| {
        let run = profiles.map(|folder| vllm_run::read(&folder.join(file))).transpose()?;
        Ok((engine, run))
    };
    RUNS.into_iter().map(read).collect()
}

pub(super) fn checks(runs: &[Run]) -> Result<Vec<Check>, Error> {
    let mut checks = Vec::new();
    for (engine, run) in runs {
        match run {
            Some(recorded) => checks.extend(check(engine, recorded)?),
            None => checks.extend(QUANTITIES.map(|quantity| Check::skipped(name(engine, quantity)))),
        }
    }
    Ok(checks)
}

fn name(engine: &str, (what, _, quantile, _): Quantity) -> String {
    format!("vLLM run of {engine}: {what} {quantile}, s")
}

fn check(engine: &str, recorded: &[RecordedRequest]) -> Result<Vec<Check>, Error> {
    let start = recorded[0].queued_ts;
    // Times are the engine's own, so there is no network between.
    let spec = EngineSpec { rtt_ms: 0.0, ..catalog::engine(engine)? };
    let requests = recorded
        .iter()
        .map(|request| Request::new(request.queued_ts - start, request.input_toks, request.output_toks));
    let workload = Workload::open(requests.collect());
    let run = world::run(&workload, &spec, &Contestant::Passthrough, &Limits::defaults(&spec))?;
    let theirs = |until| {
        sorted(recorded.iter().map(|request| match until {
            Until::FirstToken => request.first_token_ts - request.queued_ts,
            Until::End => request.last_token_ts - request.queued_ts,
        }))
    };
    let ours = |until| {
        sorted(run.records.iter().map(|record| match until {
            Until::FirstToken => record.ttft_s(),
            Until::End => record.total_s(),
        }))
    };
    let checks = QUANTITIES.map(|quantity| {
        let (_, until, _, share) = quantity;
        let [target, ours] =
            [theirs(until), ours(until)].map(|samples| quantile(&samples, share).unwrap_or(f64::NAN));
        Check::new(name(engine, quantity), target, ours, TOLERANCE)
    });
    Ok(checks.to_vec())
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

    /// Without a folder nothing is claimed about them, and each check counts; with one they must be there.
    #[test]
    fn without_runs() {
        let skipped = checks(&read(None).unwrap()).unwrap();
        assert!(skipped.len() == 8 && skipped.iter().all(|check| check.verdict == Verdict::Skipped));
        let missing = read(Some(Path::new("no-such-folder"))).unwrap_err().to_string();
        assert!(missing.contains("no-such-folder") && missing.contains("rtx4090"), "{missing}");
    }
}
