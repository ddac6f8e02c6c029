//! What the lanes of a backend get when the caller leaves it open.

use crate::BackendConfig;
use crate::estimates::Curve;

/// A budget below this was found to cost more in the engine's idle steps than it gains: on recorded chat it made the
/// 99th percentile of all first tokens worse, also where one step is a quarter of it.
const SHORT_BUDGET_MIN: f64 = 32_768.0;
/// No engine needs more to stay busy; a bound for estimates that are wrong.
const SHORT_BUDGET_MAX: f64 = 1_048_576.0;
/// Where nothing is said: a common engine's step.
const STEP_TOKENS: u32 = 2_048;
const LONG_SLOTS_MAX: u32 = 8;

/// Most long prompts in prefill: as many as fill three quarters of an engine's step.
///
/// An engine without a limit for one prompt (`engine_chunk_tokens`) fills its step with the first long one: a second
/// would only wait behind it, in the engine, where nothing can pass it. With chunks of a quarter of a step, one long
/// prompt leaves three quarters empty. The last quarter is for short prompts and decoding.
pub(crate) fn long_slots(config: &BackendConfig) -> u32 {
    config.long_slots.unwrap_or_else(|| match config.engine_chunk_tokens {
        0 => 1,
        chunk => (3 * u64::from(config.engine_step_tokens))
            .div_ceil(4 * u64::from(chunk))
            .min(u64::from(LONG_SLOTS_MAX)) as u32,
    })
}

/// Most tokens of short prompts in prefill: twice what the engine gets through while one word of a first token and one
/// new prompt are on their way, so that it never waits for us, and one chunk that is just being worked on.
///
/// `2 rate (round trip + step) + chunk`: the rate is that of prompts of a step's length, and `c0` is round trip and
/// step.
pub(crate) fn short_budget(config: &BackendConfig, prefill: &Curve) -> u32 {
    config.short_budget_tokens.unwrap_or_else(|| {
        let step =
            f64::from(if config.engine_step_tokens > 0 { config.engine_step_tokens } else { STEP_TOKENS });
        let chunk = if config.engine_chunk_tokens > 0 { f64::from(config.engine_chunk_tokens) } else { step };
        let on_the_way = prefill.c0 / prefill.ns_per_token(step);
        let tokens = (2.0 * on_the_way + chunk).clamp(SHORT_BUDGET_MIN, SHORT_BUDGET_MAX);
        #[expect(clippy::cast_sign_loss, reason = "it is at least the minimum")]
        let tokens = tokens as u32;
        tokens
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(step: u32, chunk: u32) -> BackendConfig {
        BackendConfig { engine_step_tokens: step, engine_chunk_tokens: chunk, ..BackendConfig::default() }
    }

    /// One long prompt where it fills the step alone, three quarters of a step's chunks elsewhere, at most eight.
    #[test]
    fn long_prompts() {
        let of = |step, chunk| long_slots(&engine(step, chunk));
        assert_eq!([of(0, 0), of(2_048, 0), of(8_192, 0)], [1, 1, 1]);
        assert_eq!([of(2_048, 2_048), of(2_048, 1_024), of(2_048, 512)], [1, 2, 3]);
        assert_eq!([of(8_192, 1_024), of(8_192, 512), of(1 << 31, 1)], [6, 8, 8]);
        assert_eq!(long_slots(&BackendConfig { long_slots: Some(0), ..engine(2_048, 512) }), 0);
    }

    /// The budget grows with rate times round trip, from 32,768 on, and what the caller says counts.
    #[test]
    fn short_prompts() {
        let of = |c0, tokens_per_s| {
            let prefill = Curve { c0, ..Curve::from_rate(tokens_per_s) };
            short_budget(&engine(8_192, 0), &prefill)
        };
        assert_eq!(of(50e6, 5_000.0), 32_768);
        assert_eq!(of(200e6, 100_000.0), 2 * 20_000 + 8_192);
        assert_eq!(of(1e9, 1e9), 1_048_576);
        let config = BackendConfig { short_budget_tokens: Some(0), ..engine(0, 0) };
        assert_eq!(short_budget(&config, &Curve::from_rate(5_000.0)), 0);
    }
}
