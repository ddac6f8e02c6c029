//! Fitting the prefill curve to the times of prompts that were alone in prefill.
//!
//! Recursive least squares with exponential forgetting, kept as normal equations (Ljung and Soderstrom, Theory and
//! Practice of Recursive Identification, 1983), with three changes:
//!
//! - errors are relative (least squares percentage regression, Tofallis, 2008), because a score is a ratio of times
//!   and short prompts must not drown in the noise of long ones;
//! - a sample far from the curve counts as one at the edge of what is believed (winsorizing, Huber, Robust Statistics,
//!   1981), so a hiccup moves little; after eight of them in a row it is the curve that is not believed, and all begins
//!   anew with them;
//! - a faint sample at a great length, never forgotten, stands for "longer prompts go on at the same rate": short
//!   prompts alone cannot tell how the curve goes on, and must not make it flat.

use super::curve::Curve;
use super::solve::Sums;
use super::{MEMORY, SAMPLES_MIN};

/// A time this many times above or below the curve is taken for one at that edge.
const BELIEVED: f64 = 4.0;
/// No engine is faster; so no time, and no coefficient sum, is 0.
const SHORTEST_NS: f64 = 1e3;
/// Powers of token counts grow large: the sums count in thousands.
const UNIT_TOKENS: f64 = 1_024.0;
/// Where the faint sample lies, and what it counts.
const FAR_TOKENS: f64 = 65_536.0;
const FAR_WEIGHT: f64 = 0.001;

#[derive(Debug, Default)]
pub(crate) struct PrefillFit {
    samples: u64,
    /// The first samples, until there are enough to tell the usual ones; later those in a row that are not believed.
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
        let mut is_believed = false;
        if let Some(curve) = self.curve {
            let ratio = took_ns / curve.at(tokens);
            is_believed = (BELIEVED.recip()..=BELIEVED).contains(&ratio);
            self.learn(tokens, took_ns, curve);
        }
        if is_believed {
            self.strange_len = 0;
            return;
        }
        self.strange[self.strange_len] = (tokens, took_ns);
        self.strange_len += 1;
        if self.strange_len == self.strange.len() {
            self.start(configured);
        }
    }

    /// Begins with these samples alone. The configured curve, scaled by their median, tells which are to be believed.
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
        let expected_ns = expected.at(tokens);
        let took_ns = took_ns.clamp(expected_ns / BELIEVED, expected_ns * BELIEVED);
        self.sums.scale(1.0 - 1.0 / MEMORY);
        // Relative to the larger of the two: else a sample far below the curve would outweigh all others.
        self.sums.add(tokens / UNIT_TOKENS, took_ns, took_ns.max(expected_ns).powi(-2));
    }

    /// Brings the curve up to date.
    pub(crate) fn solve(&mut self) {
        let Some(last) = self.curve else { return };
        let mut sums = self.sums;
        let far_ns = self.far.at(FAR_TOKENS);
        let weight = FAR_WEIGHT * far_ns.max(last.at(FAR_TOKENS)).powi(-2);
        sums.add(FAR_TOKENS / UNIT_TOKENS, far_ns, weight);
        let [x0, x1, x2] = sums.solve();
        let curve = Curve { c0: x0, c1: x1 / UNIT_TOKENS, c2: x2 / (UNIT_TOKENS * UNIT_TOKENS) };
        // What was learned when the engine was faster weighs no more than what it shows now.
        let level = curve.at(UNIT_TOKENS) / last.at(UNIT_TOKENS);
        self.sums.scale(level.powi(-2));
        self.curve = Some(curve);
    }
}

#[cfg(test)]
mod tests;
