//! A short prompt behind a prefill of 60,000 tokens, with and without a chunk threshold in the engine.
//!
//! Reported for 2x RTX 3090 at 3,333 tokens/s and 4,096 tokens a step, with vLLM's long-prefill-token-threshold at
//! 2,048. The short prompt's length and when it came within a step were not reported: here it has 256 tokens and
//! comes evenly over the first step.
//!
//! What chunks cost the long prompt is **not modelled**. 6 % were reported; here the rate stands for all costs, so twice
//! as many steps cost nothing, and the long prompt only lends the short one's tokens: 18.1 s would be within 10 % of the
//! reported 19.16 s with no chunks at all. A time per step of some 70 ms would explain it, but no other figure of that
//! machine is known by which to tell it from attention that grows with the prompt. The engines of [`catalog`] have both.

use super::Check;
use crate::Error;
use crate::engine::catalog;
use crate::engine::cost::StepCost;
use crate::engine::spec::EngineSpec;
use crate::gate::Limits;
use crate::policy::Contestant;
use crate::workload::{Request, Workload};
use crate::world;

const LONG_TOKENS: u32 = 60_000;
const SHORT_TOKENS: u32 = 256;
const STEP_TOKENS: u32 = 4_096;
const TOKENS_PER_S: f64 = 3_333.0;
const PHASES: u32 = 64;
const TOLERANCE: f64 = 0.1;
const LONG_OVER_ALONE: f64 = 19.16 / 18.0;

pub(super) fn checks() -> Result<Vec<Check>, Error> {
    let (short_behind_s, long_alone_s) = ttfts(0)?;
    let (short_fair_s, long_fair_s) = ttfts(2_048)?;
    Ok(vec![
        Check::new("short behind 60,000 tokens: its TTFT, s", 18.0, short_behind_s, TOLERANCE),
        Check::new("... with chunks of 2,048: its TTFT, s", 1.09, short_fair_s, TOLERANCE),
        Check::new("... with chunks of 2,048: the long one's TTFT, s", 19.16, long_fair_s, TOLERANCE),
        Check::not_modelled(
            "... the long one's TTFT, with chunks over without",
            LONG_OVER_ALONE,
            long_fair_s / long_alone_s,
        ),
    ])
}

/// Mean times to first token of the short and the long prompt.
fn ttfts(threshold: u32) -> Result<(f64, f64), Error> {
    let cost = StepCost {
        prefill_base_ms: 0.0,
        prefill_token_ms: 1e3 / TOKENS_PER_S,
        prefill_square_ms: 0.0,
        decode_base_ms: 0.0,
        decode_sequence_ms: 0.0,
    };
    let engine = EngineSpec {
        cost,
        max_num_batched_tokens: STEP_TOKENS,
        long_prefill_token_threshold: threshold,
        rtt_ms: 0.0,
        ..catalog::engine("llama2-70b-a100-tp4")?
    };
    let first_step_s = f64::from(engine.chunk()) / TOKENS_PER_S;
    let (mut short_s, mut long_s) = (0.0, 0.0);
    for phase in 0..PHASES {
        let at_s = (f64::from(phase) + 0.5) / f64::from(PHASES) * first_step_s;
        let requests = vec![Request::new(0.0, LONG_TOKENS, 1), Request::new(at_s, SHORT_TOKENS, 1)];
        let limits = Limits::defaults(&engine);
        let run = world::run(&Workload::open(requests), &engine, &Contestant::Passthrough, &limits)?;
        long_s += run.records[0].ttft_s() / f64::from(PHASES);
        short_s += run.records[1].ttft_s() / f64::from(PHASES);
    }
    Ok((short_s, long_s))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    /// The times are near what was reported; that the long prompt pays for chunks is not in the model, and is said.
    #[test]
    fn reported() {
        let checks = checks().unwrap();
        let verdicts: Vec<Verdict> = checks.iter().map(|check| check.verdict).collect();
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Ok, Verdict::Ok, Verdict::NotModelled], "{checks:?}");
        let ratio = checks[3].ours.unwrap();
        assert!((1.0..1.01).contains(&ratio), "{ratio}: what chunks cost is modelled now: make it a check");
    }
}
