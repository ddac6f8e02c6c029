//! What an engine can do with a workload at most: its rate when there is always more to do.

use crate::Error;
use crate::engine::spec::EngineSpec;
use crate::gate::Limits;
use crate::policy::Contestant;
use crate::workload::{Request, Workload};
use crate::world::{self, Run};
use serde::Serialize;

/// So many requests lie before the copy that is measured.
const REQUESTS_BEFORE: usize = 2_000;
/// Share of the requests that may be too large for the engine; without more of them it is another workload.
const LEFT_OUT_MOST: f64 = 0.02;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Saturation {
    pub(crate) requests_per_s: f64,
    pub(crate) prompt_tokens_per_s: f64,
    pub(crate) output_tokens_per_s: f64,
    /// For each request.
    pub(crate) preemptions: f64,
}

impl Saturation {
    /// The time that one more copy of the whole workload adds to a backlog, which leaves start and end out.
    pub(crate) fn measure(workload: &Workload, engine: &EngineSpec) -> Result<Self, Error> {
        let copies = REQUESTS_BEFORE.div_ceil(workload.requests.len());
        let before = backlog(workload, engine, copies)?;
        let after = backlog(workload, engine, copies + 1)?;
        let took_s = end_s(&after) - end_s(&before);
        let first_copy = workload.requests.iter().zip(&after.records);
        let completed: Vec<&Request> =
            first_copy.filter(|(_, record)| !record.rejected).map(|(request, _)| request).collect();
        if completed.is_empty() {
            let rule = "holds none of the workload's requests";
            return Err(Error::value("--kv-tokens", &engine.kv_tokens, rule));
        }
        let left_out = workload.requests.len() - completed.len();
        if left_out as f64 > LEFT_OUT_MOST * workload.requests.len() as f64 {
            let rule = format!(
                "is too little for {left_out} of the workload's {} requests",
                workload.requests.len()
            );
            return Err(Error::value("--kv-tokens", &engine.kv_tokens, rule));
        }
        if took_s <= 0.0 {
            let rule =
                "one more copy of so small a workload takes no time with these costs, so it has no rate";
            return Err(Error::value("--costs-ms", &engine.cost.listed(), rule));
        }
        let per_s = |of: fn(&Request) -> u32| {
            completed.iter().map(|request| f64::from(of(request))).sum::<f64>() / took_s
        };
        Ok(Self {
            requests_per_s: workload.requests.len() as f64 / took_s,
            prompt_tokens_per_s: per_s(|request| request.prompt_tokens),
            output_tokens_per_s: per_s(|request| request.output_tokens),
            preemptions: after.preemptions as f64 / after.records.len() as f64,
        })
    }
}

/// So many copies, all there from the start.
fn backlog(workload: &Workload, engine: &EngineSpec, copies: usize) -> Result<Run, Error> {
    let mut requests = workload.requests.repeat(copies);
    for request in &mut requests {
        request.arrival_s = 0.0;
    }
    world::run(&Workload::open(requests), engine, &Contestant::Passthrough, &Limits::defaults(engine))
}

fn end_s(run: &Run) -> f64 {
    run.records.iter().map(|record| record.done_ns).max().unwrap_or(0) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::catalog::engine;

    /// Prompts of one step each, without decode: one full step after the other.
    #[test]
    fn prefill_bound() {
        let spec = engine("llama2-70b-a100-tp4").unwrap();
        let workload = Workload::open(vec![Request::new(0.0, spec.max_num_batched_tokens, 1); 100]);
        let ours = Saturation::measure(&workload, &spec).unwrap();
        let step_s = spec.cost.isolated_prefill_ms(spec.max_num_batched_tokens, u32::MAX) / 1e3;
        assert!((ours.requests_per_s * step_s - 1.0).abs() < 1e-3);
        assert!((ours.prompt_tokens_per_s / spec.prefill_tokens_per_s() - 1.0).abs() < 1e-3);
    }

    /// Single-token prompts with long answers: a full batch of decodes.
    #[test]
    fn decode_bound() {
        let spec = engine("llama2-70b-a100-tp4").unwrap();
        let workload = Workload::open(vec![Request::new(0.0, 1, 1_001); 256]);
        let ours = Saturation::measure(&workload, &spec).unwrap();
        let step_s = (spec.cost.decode_base_ms + 256.0 * spec.cost.decode_sequence_ms) / 1e3;
        assert!((ours.output_tokens_per_s * step_s / 256.0 - 1.0).abs() < 0.01);
    }
}
