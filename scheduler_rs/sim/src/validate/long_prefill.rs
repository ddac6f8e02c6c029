//! A short prompt behind a prefill of 60,000 tokens, with and without a chunk threshold in the engine.
//!
//! Source: github.com/noonghunna/club-3090, pull request 712 (2026-07-14): gemma-4-26b-a4b on 2x RTX 3090 with vLLM,
//! 4,096 tokens a step, long-prefill-token-threshold unset and 2,048. Of its five figures two give the engine its costs:
//! a short prompt alone has its first token after 0.05 s, which is the fixed part of a step, and the long one alone
//! after "~18 s", which leaves the cost of a token. The other three are predicted: the short prompt's time behind the
//! long one without chunks (18.00 s) and with them (1.09 s), and the long one's time alone with them (19.16 s), where
//! twice as many steps pay the fixed part twice as often.
//!
//! Not reported: the short prompt's length, here of a few words, whose own tokens are within the rounding of 0.05 s; and
//! when it came within a step. Here it comes evenly over the first, and its time with chunks is held to half a step, which
//! is what that is worth. "~18 s" is read as 18.0 +- 0.5 s, so what chunks cost is known to 3 %: 1.064 is from 1.036 to
//! 1.095.

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
const SHORT_TOKENS: u32 = 16;
const STEP_TOKENS: u32 = 4_096;
const THRESHOLD: u32 = 2_048;
const PHASES: u32 = 64;

const SHORT_ALONE_S: f64 = 0.05;
const SHORT_WHOLE_S: f64 = 18.0;
const SHORT_CHUNKED_S: f64 = 1.09;
const LONG_ALONE_S: f64 = 18.0;
const LONG_ALONE_CHUNKED_S: f64 = 19.16;

const TOLERANCE: f64 = 0.1;
/// How well the ratio is known: "~18 s" is 18.0 +- 0.5 s.
const ROUNDING: f64 = 0.03;

pub(super) fn checks() -> Result<Vec<Check>, Error> {
    let whole = engine(0, SHORT_ALONE_S)?;
    let chunked = engine(THRESHOLD, SHORT_ALONE_S)?;
    let chunked_s = long_alone_s(&chunked)?;
    let half_a_step = first_step_s(&chunked) / 2.0 / SHORT_CHUNKED_S;
    Ok(vec![
        Check::new(
            "short behind 60,000 tokens: its TTFT, s",
            SHORT_WHOLE_S,
            short_behind_s(&whole)?,
            TOLERANCE,
        ),
        Check::new(
            "... with chunks of 2,048: its TTFT, s, within half a step",
            SHORT_CHUNKED_S,
            short_behind_s(&chunked)?,
            half_a_step,
        ),
        Check::new(
            "60,000 tokens alone, with chunks of 2,048: TTFT, s",
            LONG_ALONE_CHUNKED_S,
            chunked_s,
            TOLERANCE,
        ),
        Check::new(
            "... over that without chunks",
            LONG_ALONE_CHUNKED_S / LONG_ALONE_S,
            chunked_s / long_alone_s(&whole)?,
            ROUNDING,
        ),
    ])
}

/// The engine whose steps have this fixed part, and that takes the reported time for the long prompt without chunks.
fn engine(threshold: u32, step_base_s: f64) -> Result<EngineSpec, Error> {
    let bases_s = f64::from(LONG_TOKENS.div_ceil(STEP_TOKENS)) * step_base_s;
    let cost = StepCost {
        prefill_base_ms: step_base_s * 1e3,
        prefill_token_ms: (LONG_ALONE_S - bases_s) * 1e3 / f64::from(LONG_TOKENS),
        prefill_square_ms: 0.0,
        decode_base_ms: 0.0,
        decode_sequence_ms: 0.0,
    };
    Ok(EngineSpec {
        cost,
        max_num_batched_tokens: STEP_TOKENS,
        long_prefill_token_threshold: threshold,
        rtt_ms: 0.0,
        ..catalog::engine("llama2-70b-a100-tp4")?
    })
}

fn long_alone_s(engine: &EngineSpec) -> Result<f64, Error> {
    last_ttft_s(engine, vec![Request::new(0.0, LONG_TOKENS, 1)])
}

fn first_step_s(engine: &EngineSpec) -> f64 {
    (engine.cost.prefill_base_ms + f64::from(engine.chunk()) * engine.cost.prefill_token_ms) / 1e3
}

/// Mean over the moments within the long prompt's first step at which the short one comes.
fn short_behind_s(engine: &EngineSpec) -> Result<f64, Error> {
    let step_s = first_step_s(engine);
    let mut total_s = 0.0;
    for phase in 0..PHASES {
        let at_s = (f64::from(phase) + 0.5) / f64::from(PHASES) * step_s;
        let requests = vec![Request::new(0.0, LONG_TOKENS, 1), Request::new(at_s, SHORT_TOKENS, 1)];
        total_s += last_ttft_s(engine, requests)?;
    }
    Ok(total_s / f64::from(PHASES))
}

/// Time to first token of the request that comes last.
fn last_ttft_s(engine: &EngineSpec, requests: Vec<Request>) -> Result<f64, Error> {
    let last = requests.len() - 1;
    let limits = Limits::defaults(engine);
    let run = world::run(&Workload::open(requests), engine, &Contestant::Passthrough, &limits)?;
    Ok(run.records[last].ttft_s())
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    /// The figures that gave the costs come back, and those that did not are near what was reported.
    #[test]
    fn reported() {
        let engine = engine(0, SHORT_ALONE_S).unwrap();
        let long_s = long_alone_s(&engine).unwrap();
        assert!((long_s - LONG_ALONE_S).abs() < 1e-6, "{long_s}");
        let short_s = last_ttft_s(&engine, vec![Request::new(0.0, SHORT_TOKENS, 1)]).unwrap();
        assert!((0.045..0.055).contains(&short_s), "{short_s} is not 0.05 when rounded");
        let checks = checks().unwrap();
        assert!(checks.iter().all(|check| check.verdict == Verdict::Ok), "{checks:?}");
    }

    /// The last check is one that can fail: where steps have no fixed part, chunks cost nothing.
    #[test]
    fn without_a_fixed_part_chunks_are_free() {
        let [whole_s, chunked_s] =
            [0, THRESHOLD].map(|threshold| long_alone_s(&engine(threshold, 0.0).unwrap()).unwrap());
        assert!((chunked_s / whole_s - 1.0).abs() < 1e-9, "{whole_s} {chunked_s}");
        let check = Check::new("", LONG_ALONE_CHUNKED_S / LONG_ALONE_S, chunked_s / whole_s, ROUNDING);
        assert_eq!(check.verdict, Verdict::Failed);
    }
}
