//! Fitting the prefill curve to the times of prompts that were alone in prefill.
//!
//! Recursive least squares with exponential forgetting, kept as normal equations (Ljung and Soderstrom, Theory and
//! Practice of Recursive Identification, 1983), with three changes:
//!
//! - errors are relative (least squares percentage regression, Tofallis, 2008), because a score is a ratio of times
//!   and short prompts must not drown in the noise of long ones. They are relative to the larger of the measured and
//!   the predicted time, so none is above 1, and a hiccup of a hundred times as long hardly counts (bounded influence,
//!   Huber, Robust Statistics, 1981);
//! - after eight samples in a row that are far from the curve it is the curve that is not believed, and all begins anew
//!   with them;
//! - faint samples at great lengths, never forgotten, stand for "longer prompts go on at the same rate": short prompts
//!   alone cannot tell how the curve goes on, and must not make it flat. They are two, so that also with prompts of one
//!   length there is one best curve, and not a flat one with a steep end that meets all samples as well.

use super::curve::Curve;
use super::solve::Sums;
use super::{MEMORY, SAMPLES_MIN};

/// A time this many times above or below the curve is far from it.
const FAR_FROM: f64 = 4.0;
/// No engine is faster; so no time, and no coefficient sum, is 0.
const SHORTEST_NS: f64 = 1e3;
/// Powers of token counts grow large: the sums count in thousands.
const UNIT_TOKENS: f64 = 1_024.0;
/// Where the faint samples lie, and what each counts.
const FAR_TOKENS: [f64; 2] = [8_192.0, 65_536.0];
const FAR_WEIGHT: f64 = 0.001;

#[derive(Debug, Default)]
pub(crate) struct PrefillFit {
    samples: u64,
    /// The first samples, until there are enough to tell the usual ones; later those in a row that are far off.
    strange: [(f64, f64); SAMPLES_MIN as usize],
    strange_len: usize,
    sums: Sums,
    /// What goes on from the configured rate, scaled by the first samples.
    far: Curve,
    /// As of the last solving.
    curve: Option<Curve>,
}

impl PrefillFit {
    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    /// None while there are too few samples.
    pub(crate) fn curve(&self) -> Option<Curve> {
        self.curve
    }

    /// A prompt of `tokens` took `took_ns`; what was `configured` is asked only for the first few.
    pub(crate) fn add(&mut self, tokens: f64, took_ns: f64, configured: Curve) {
        self.samples += 1;
        let took_ns = took_ns.max(SHORTEST_NS);
        if let Some(curve) = self.curve {
            self.learn(tokens, took_ns, curve);
            let ratio = took_ns / curve.at(tokens);
            if (FAR_FROM.recip()..=FAR_FROM).contains(&ratio) {
                self.strange_len = 0;
                return;
            }
        }
        self.strange[self.strange_len] = (tokens, took_ns);
        self.strange_len += 1;
        if self.strange_len == self.strange.len() {
            self.start(configured);
        }
    }

    /// Begins with these samples alone. The configured curve, scaled by their median, tells which are usual.
    fn start(&mut self, configured: Curve) {
        self.strange_len = 0;
        self.sums = Sums::default();
        let mut ratios = self.strange.map(|(tokens, took_ns)| took_ns / configured.at(tokens));
        ratios.sort_unstable_by(f64::total_cmp);
        self.far = configured.times(ratios[ratios.len() / 2]);
        for (tokens, took_ns) in self.strange {
            self.learn(tokens, took_ns, self.far);
        }
        self.curve = Some(self.far);
        self.solve();
    }

    fn learn(&mut self, tokens: f64, took_ns: f64, expected: Curve) {
        self.sums.scale(1.0 - 1.0 / MEMORY);
        let weight = of_relative_errors(took_ns.max(expected.at(tokens)));
        self.sums.add(tokens / UNIT_TOKENS, took_ns, weight);
    }

    /// Brings the curve up to date.
    pub(crate) fn solve(&mut self) {
        let Some(last) = self.curve else { return };
        let mut sums = self.sums;
        for tokens in FAR_TOKENS {
            let far_ns = self.far.at(tokens);
            let weight = FAR_WEIGHT * of_relative_errors(far_ns.max(last.at(tokens)));
            sums.add(tokens / UNIT_TOKENS, far_ns, weight);
        }
        let [x0, x1, x2] = sums.solve();
        let curve = Curve { c0: x0, c1: x1 / UNIT_TOKENS, c2: x2 / (UNIT_TOKENS * UNIT_TOKENS) };
        // What was learned when the engine was faster weighs no more than what it shows now.
        let level = curve.at(UNIT_TOKENS) / last.at(UNIT_TOKENS);
        self.sums.scale(of_relative_errors(level));
        self.curve = Some(curve);
    }
}

/// The weight that makes squared errors relative to `scale`; by division, which every machine rounds alike.
fn of_relative_errors(scale: f64) -> f64 {
    1.0 / (scale * scale)
}

#[cfg(test)]
mod tests;
