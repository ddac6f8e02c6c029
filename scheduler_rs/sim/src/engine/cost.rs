//! What one step of an engine costs.
//!
//! A step is one forward pass over all its tokens. The fits know two kinds: a prefill alone costs `a + b n + c n^2`
//! for a prompt of n tokens, a decode of a batch costs `d + e batch`. Both `a` and `d` are mostly the reading of the
//! weights, which a pass does once, so a step that does both pays the larger of the two and then each part's own
//! work: `max(a, d) + sum(b (n1 - n0) + c (n1^2 - n0^2)) + e batch`. A chunk from n0 to n1 thus costs the difference
//! of the quadratic, which holds its attention to what was prefilled before. Paying both parts whole is the cautious
//! choice: where an engine overlaps compute-bound prefill with memory-bound decode, real steps are shorter.

use crate::error::listed;
use serde::Serialize;

/// Milliseconds, as the fits have them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct StepCost {
    /// `a`: a pass with prefill.
    pub(crate) prefill_base_ms: f64,
    /// `b`: per prompt token.
    pub(crate) prefill_token_ms: f64,
    /// `c`: per squared prompt token.
    pub(crate) prefill_square_ms: f64,
    /// `d`: a pass with decode.
    pub(crate) decode_base_ms: f64,
    /// `e`: per sequence in decode.
    pub(crate) decode_sequence_ms: f64,
}

impl TryFrom<&[f64]> for StepCost {
    type Error = crate::Error;

    /// From a, b, c, d, e, each from 0 to an hour.
    fn try_from(costs: &[f64]) -> Result<Self, Self::Error> {
        match *costs {
            [prefill_base_ms, prefill_token_ms, prefill_square_ms, decode_base_ms, decode_sequence_ms] => {
                Ok(Self {
                    prefill_base_ms,
                    prefill_token_ms,
                    prefill_square_ms,
                    decode_base_ms,
                    decode_sequence_ms,
                })
            }
            _ => Err(crate::Error::value("--costs-ms", &listed(costs), "must be five numbers A,B,C,D,E")),
        }
    }
}

/// What a step does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct StepWork {
    /// Prompt tokens.
    pub(crate) tokens: f64,
    /// Sum of `n1^2 - n0^2` over the chunks.
    pub(crate) squares: f64,
    /// Sequences that get one more token.
    pub(crate) decodes: usize,
}

impl StepWork {
    /// Adds the prefill of a prompt from its token n0 to n1.
    pub(crate) fn add_chunk(&mut self, n0: u32, n1: u32) {
        let (n0, n1) = (f64::from(n0), f64::from(n1));
        self.tokens += n1 - n0;
        self.squares += (n1 - n0) * (n1 + n0);
    }
}

impl StepCost {
    /// As `--costs-ms` has them.
    pub(crate) fn listed(&self) -> String {
        listed(&[
            self.prefill_base_ms,
            self.prefill_token_ms,
            self.prefill_square_ms,
            self.decode_base_ms,
            self.decode_sequence_ms,
        ])
    }

    pub(crate) fn step_ms(&self, work: &StepWork) -> f64 {
        let prefill = if work.tokens > 0.0 { self.prefill_base_ms } else { 0.0 };
        let decode = if work.decodes > 0 { self.decode_base_ms } else { 0.0 };
        prefill.max(decode)
            + self.prefill_token_ms * work.tokens
            + self.prefill_square_ms * work.squares
            + self.decode_sequence_ms * work.decodes as f64
    }

    /// The prefill of a prompt alone, in chunks.
    pub(crate) fn isolated_prefill_ms(&self, tokens: u32, chunk: u32) -> f64 {
        let n = f64::from(tokens.max(1));
        let steps = f64::from(tokens.max(1).div_ceil(chunk));
        steps * self.prefill_base_ms + self.prefill_token_ms * n + self.prefill_square_ms * n * n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: StepCost = StepCost {
        prefill_base_ms: 43.0,
        prefill_token_ms: 0.156,
        prefill_square_ms: 1.5e-5,
        decode_base_ms: 44.0,
        decode_sequence_ms: 0.38,
    };

    fn work(chunks: &[(u32, u32)], decodes: usize) -> StepWork {
        let mut work = StepWork { decodes, ..StepWork::default() };
        for &(n0, n1) in chunks {
            work.add_chunk(n0, n1);
        }
        work
    }

    /// Alone, both kinds of step are what the fits say.
    #[test]
    fn fits() {
        let prefill = COST.step_ms(&work(&[(0, 1_000)], 0));
        assert!((prefill - (43.0 + 156.0 + 15.0)).abs() < 1e-9);
        assert!((COST.step_ms(&work(&[], 100)) - (44.0 + 38.0)).abs() < 1e-9);
    }

    /// A mixed step pays for reading the weights once.
    #[test]
    fn one_base() {
        let mixed = COST.step_ms(&work(&[(0, 1_000)], 100));
        assert!((mixed - (44.0 + 156.0 + 15.0 + 38.0)).abs() < 1e-9);
    }

    /// Chunks of one prompt cost the whole prompt and one base each.
    #[test]
    fn chunks_add_up() {
        let chunks = [(0, 512), (512, 1_024), (1_024, 1_500)];
        let sum: f64 = chunks.iter().map(|&chunk| COST.step_ms(&work(&[chunk], 0))).sum();
        assert!((sum - COST.isolated_prefill_ms(1_500, 512)).abs() < 1e-9);
        assert!((sum - 2.0 * 43.0 - COST.step_ms(&work(&[(0, 1_500)], 0))).abs() < 1e-9);
    }
}
