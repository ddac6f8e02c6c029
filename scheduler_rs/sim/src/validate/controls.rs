//! Negative controls: where ordering must not make a difference, it does not.

use super::Check;
use crate::Error;
use crate::engine::catalog;
use crate::engine::spec::EngineSpec;
use crate::gate::Limits;
use crate::policy::Contestant;
use crate::row::Samples;
use crate::workload::synthetic::Synthetic;
use crate::workload::{Request, Workload};
use crate::world;

const ENGINE: &str = "llama2-70b-a100-tp4";

pub(super) fn checks() -> Result<Vec<Check>, Error> {
    let mut checks = Vec::new();
    for policy in ["hrrn", "sjf-aged"] {
        let name = format!("equal priority and age, {policy}: share of bytes that differ from fcfs");
        checks.push(Check::at_most(name, 0.0, differing_bytes(policy)?));
    }
    checks.push(Check::new(
        "a 65,536-token step: mean TTFT of sjf over fcfs",
        1.0,
        sjf_over_fcfs(65_536)?,
        0.001,
    ));
    // What the one before is a control to: with small steps the order does matter.
    let name = "a 2,048-token step: mean TTFT of sjf over fcfs, at most";
    checks.push(Check::at_most(name, 0.9, sjf_over_fcfs(2_048)?));
    Ok(checks)
}

/// A policy that is told that all prompts are equal has only their age to go by.
fn differing_bytes(policy: &str) -> Result<f64, Error> {
    let engine = catalog::engine(ENGINE)?;
    let limits = Limits { cap: 8, ..Limits::defaults(&engine) };
    let mut workload = Synthetic::named("mixed-bursts", 2_000)?.draw(1, 1);
    for request in &mut workload.requests {
        request.estimate_tokens = 1_000;
    }
    let bytes = |name: &str| {
        let run = world::run(&workload, &engine, &Contestant::named(name)?, &limits)?;
        let samples = Samples::of(&workload, &run, &engine, 4_096);
        let row = serde_json::to_string(&samples.row("")).expect("a row is plain data");
        Ok::<_, Error>(format!("{row} {:?}", run.records).into_bytes())
    };
    let (ours, fcfs) = (bytes(policy)?, bytes("fcfs")?);
    let differing = ours.iter().zip(&fcfs).filter(|(a, b)| a != b).count() + ours.len().abs_diff(fcfs.len());
    Ok(differing as f64 / fcfs.len() as f64)
}

/// 60,000 tokens that come at once, released a step's worth at a time.
fn sjf_over_fcfs(step_tokens: u32) -> Result<f64, Error> {
    let engine = EngineSpec { max_num_batched_tokens: step_tokens, ..catalog::engine(ENGINE)? };
    let limits = Limits {
        long_threshold_tokens: 0,
        // Charged by bucket edge, which is up to 15 % above a prompt's length.
        short_budget_tokens: Some(step_tokens + step_tokens / 5),
        ..Limits::defaults(&engine)
    };
    let sizes = (0..80_u32).map(|at| 100 + at * 53 % 80 * 16);
    let requests = sizes.map(|tokens| Request::new(0.0, tokens, 1)).collect();
    let workload = Workload::open(requests);
    let mean_s = |name: &str| {
        let run = world::run(&workload, &engine, &Contestant::named(name)?, &limits)?;
        Ok::<_, Error>(run.records.iter().map(world::Record::ttft_s).sum::<f64>())
    };
    Ok(mean_s("sjf")? / mean_s("fcfs")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All controls hold.
    #[test]
    fn hold() {
        for check in checks().unwrap() {
            assert!(check.is_sound(), "{check:?}");
        }
    }
}
