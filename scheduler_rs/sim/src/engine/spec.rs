//! One engine's description: its step costs and its limits.

use super::cost::StepCost;
use crate::Error;
use serde::Serialize;

/// The least rate that the scheduler takes.
const PREFILL_TOKENS_PER_S_MIN: f64 = 1e-3;
/// Far above any engine, far below what nanoseconds can tell apart.
const PREFILL_TOKENS_PER_S_MAX: f64 = 1e9;
/// An hour, which no step of an engine takes, nor the way there and back.
pub(crate) const MS_MAX: f64 = 3_600_000.0;

/// Facts by name in [`super::catalog`], each of which a flag can replace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct EngineSpec {
    pub(crate) name: String,
    pub(crate) cost: StepCost,
    /// Most sequences running at once.
    pub(crate) max_num_seqs: usize,
    /// Most tokens in a step: one for each decode, the rest prompt tokens.
    pub(crate) max_num_batched_tokens: u32,
    /// Most tokens of one prompt in a step; 0 = no limit of its own.
    pub(crate) long_prefill_token_threshold: u32,
    /// Tokens that the key-value cache holds.
    pub(crate) kv_tokens: u64,
    /// Network time from the gateway to the engine and back.
    pub(crate) rtt_ms: f64,
}

impl EngineSpec {
    /// What single numbers cannot say: whether they go together.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let per_s = self.prefill_tokens_per_s();
        if !(PREFILL_TOKENS_PER_S_MIN..=PREFILL_TOKENS_PER_S_MAX).contains(&per_s) {
            let rule = format!(
                "prefill must take time, at least one of a, b, c above 0, and not for ever: a step of {} tokens at \
                 {PREFILL_TOKENS_PER_S_MIN} to {PREFILL_TOKENS_PER_S_MAX} tokens/s",
                self.max_num_batched_tokens
            );
            return Err(Error::value("--costs-ms", &self.cost.listed(), rule));
        }
        if (self.max_num_batched_tokens as usize) < self.max_num_seqs {
            let rule =
                format!("must be at least --max-num-seqs ({}): each decode takes one", self.max_num_seqs);
            return Err(Error::value("--max-num-batched-tokens", &self.max_num_batched_tokens, rule));
        }
        if self.long_prefill_token_threshold > self.max_num_batched_tokens {
            let step = self.max_num_batched_tokens;
            let rule =
                format!("is more than --max-num-batched-tokens ({step}): a prompt gets no more than a step");
            return Err(Error::value("--threshold", &self.long_prefill_token_threshold, rule));
        }
        Ok(())
    }

    /// Most tokens of one prompt in a step.
    pub(crate) fn chunk(&self) -> u32 {
        match self.long_prefill_token_threshold {
            0 => self.max_num_batched_tokens,
            threshold => threshold.min(self.max_num_batched_tokens),
        }
    }

    /// Time to first token of a prompt that has the engine for itself.
    pub(crate) fn isolated_ttft_s(&self, tokens: u32) -> f64 {
        (self.cost.isolated_prefill_ms(tokens, self.chunk()) + self.rtt_ms) / 1e3
    }

    /// The one rate that stands for the prefill curve in the scheduler: a full step of the first tokens.
    pub(crate) fn prefill_tokens_per_s(&self) -> f64 {
        let tokens = self.max_num_batched_tokens;
        f64::from(tokens) * 1e3 / self.cost.isolated_prefill_ms(tokens, tokens)
    }

    pub(crate) fn half_rtt_ns(&self) -> u64 {
        (self.rtt_ms * 0.5e6).round() as u64
    }
}
