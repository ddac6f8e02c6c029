//! What the lanes of a backend get when the caller leaves it open.

use crate::BackendConfig;
use crate::estimates::Curve;

/// No budget is below this: the engine would idle.
const SHORT_BUDGET_MIN: f64 = 65_536.0;
/// For each slot of the cap. A budget that leaves slots empty while a long prompt is in prefill lets the next long one
/// pass the short ones that wait for it, and the engine decodes a batch that is not full: on recorded chat with one
/// document in a hundred prompts a quarter of this made the mean and the 99th percentile of all first tokens 1.4 and 1.6
/// times those without lanes or limits, with 64 slots as with 1,024 a budget of this much did not.
const TOKENS_PER_SLOT: f64 = 1_024.0;
/// Of short prompts in prefill: for each so many tokens there may be one long prompt more. They are what a long one waits
/// for in the engine. With one at a time, the larger budget would make long prompts that are many wait for far more than
/// their share: the 99th percentile of a conversation over code was 3 times that without lanes, and 1.3 times with this.
const SHORT_TOKENS_PER_LONG: u64 = 65_536;
/// No engine needs more to stay busy; a bound for estimates that are wrong.
const SHORT_BUDGET_MAX: f64 = 1_048_576.0;
/// Where nothing is said: a common engine's step. The service refuses a smaller budget, for it knows the engines.
const STEP_TOKENS: u32 = 2_048;

/// How many long prompts may be in prefill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LongLimit {
    /// As many as the caller said; 0 = no limit.
    Fixed(u32),
    /// One always, and a further one for each [`SHORT_TOKENS_PER_LONG`] in prefill.
    ///
    /// An engine without a limit for one prompt fills its step with the first long one: a second would only wait behind
    /// it, in the engine, where nothing can pass it.
    Open,
    /// The same, and a further one while the chunks of all long ones take at most three quarters of the engine's step
    /// and fit into it beside what else is there: the chunks of the short ones in prefill, and a token for each in
    /// decode.
    ///
    /// With chunks of an eighth of a step, one long prompt alone leaves most of it empty; but what fills the rest need not
    /// be long: short prompts and decoding come first, and a quarter is left to those that will come while long ones are
    /// in prefill. Half would serve these better under load, but keeps an engine with little to do from working on long
    /// prompts.
    ByStep { step: u32, chunk: u32 },
}

impl LongLimit {
    pub(crate) fn new(config: &BackendConfig) -> Self {
        match (config.long_slots, config.engine_chunk_tokens) {
            (Some(slots), _) => Self::Fixed(slots),
            (None, 0) => Self::Open,
            (None, chunk) => Self::ByStep { step: config.engine_step_tokens, chunk },
        }
    }

    /// Whether one more is let in beside so many, with so many tokens of short prompts in prefill and so many other
    /// tokens in the engine's next step.
    pub(crate) fn takes_one_more(self, long_in_prefill: u32, short_tokens: u64, other_tokens: u64) -> bool {
        let by_short = u64::from(long_in_prefill) * SHORT_TOKENS_PER_LONG <= short_tokens;
        match self {
            Self::Fixed(slots) => slots == 0 || long_in_prefill < slots,
            Self::Open => by_short,
            Self::ByStep { step, chunk } => {
                let chunks = (u64::from(long_in_prefill) + 1) * u64::from(chunk);
                let step = u64::from(step);
                by_short || 4 * chunks <= 3 * step && chunks + other_tokens <= step
            }
        }
    }

    /// Most of them, when there is nothing else; 0 = no limit.
    pub(crate) fn most(self) -> u32 {
        match self {
            Self::Fixed(slots) => slots,
            Self::Open => 1,
            Self::ByStep { step, chunk } => ((3 * u64::from(step) / 4 / u64::from(chunk)) as u32).max(1),
        }
    }
}

/// Most tokens of short prompts in prefill: twice what the engine gets through while one word of a first token and one
/// new prompt are on their way, so that it never waits for us, and one chunk that is just being worked on; and not less
/// than fills the slots of the cap with prompts of a chat's length.
///
/// `2 rate (round trip + step) + chunk`: the rate is that of prompts of a step's length, and `c0` is round trip and
/// step.
pub(crate) fn short_budget(config: &BackendConfig, prefill: &Curve) -> u32 {
    config.short_budget_tokens.unwrap_or_else(|| {
        let step =
            f64::from(if config.engine_step_tokens > 0 { config.engine_step_tokens } else { STEP_TOKENS });
        let chunk = if config.engine_chunk_tokens > 0 { f64::from(config.engine_chunk_tokens) } else { step };
        let on_the_way = prefill.c0 / prefill.ns_per_token(step);
        let slots = f64::from(config.cap) * TOKENS_PER_SLOT;
        let tokens = (2.0 * on_the_way + chunk).max(slots).clamp(SHORT_BUDGET_MIN, SHORT_BUDGET_MAX);
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

    /// One long prompt where it fills the step alone, three quarters of a step's chunks elsewhere, and what the caller
    /// says counts.
    #[test]
    fn most_long_prompts() {
        let of = |step, chunk| LongLimit::new(&engine(step, chunk)).most();
        assert_eq!([of(0, 0), of(2_048, 0), of(8_192, 0)], [1, 1, 1]);
        assert_eq!([of(2_048, 2_048), of(2_048, 1_024), of(2_048, 512), of(8_192, 512)], [1, 1, 3, 12]);
        let said = |slots| LongLimit::new(&BackendConfig { long_slots: Some(slots), ..engine(2_048, 512) });
        assert_eq!([said(0).most(), said(2).most()], [0, 2]);
        assert!(said(0).takes_one_more(100, 0, 9_999) && said(2).takes_one_more(1, 0, 9_999));
        assert!(!said(2).takes_one_more(2, 1_000_000, 0));
    }

    /// A further long prompt needs room for its chunk beside what is in the step; the first one needs none.
    #[test]
    fn room_in_the_step() {
        let limit = LongLimit::new(&engine(2_048, 512));
        assert!(limit.takes_one_more(0, 0, 1_000_000));
        assert!(limit.takes_one_more(1, 0, 1_024) && !limit.takes_one_more(1, 0, 1_025));
        assert!(limit.takes_one_more(2, 0, 512) && !limit.takes_one_more(3, 0, 0), "a quarter is for others");
    }

    /// The budget grows with rate times round trip, from 65,536 on or 1,024 a slot, and what the caller says counts.
    #[test]
    fn short_prompts() {
        let of = |c0, tokens_per_s| {
            let prefill = Curve { c0, ..Curve::from_rate(tokens_per_s) };
            short_budget(&engine(8_192, 0), &prefill)
        };
        assert_eq!(of(50e6, 5_000.0), 65_536);
        assert_eq!(of(400e6, 100_000.0), 2 * 40_000 + 8_192);
        assert_eq!(of(1e9, 1e9), 1_048_576);
        let with_slots = |cap| {
            short_budget(&BackendConfig { cap, ..BackendConfig::default() }, &Curve::from_rate(5_000.0))
        };
        assert_eq!(
            [64, 65, 256, 1_024, u32::MAX].map(with_slots),
            [65_536, 66_560, 262_144, 1_048_576, 1_048_576]
        );
        let config = BackendConfig { short_budget_tokens: Some(0), ..engine(0, 0) };
        assert_eq!(short_budget(&config, &Curve::from_rate(5_000.0)), 0);
    }
}
