//! Predicted time of a prefill that has the backend for itself: `c0 + c1 n + c2 n^2`.

/// Until it is learned, `c0` is about one engine step, so that tiny prompts do not take nothing.
const STEP_NS: f64 = 5e6;

/// Coefficients in nanoseconds, none below 0; `n` is uncached tokens. `c0` is the way there and back and one engine
/// step, `c1` the work for each token, `c2` attention.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Curve {
    pub(crate) c0: f64,
    pub(crate) c1: f64,
    pub(crate) c2: f64,
}

impl Curve {
    pub(crate) fn from_rate(tokens_per_s: f64) -> Self {
        Self { c0: STEP_NS, c1: 1e9 / tokens_per_s, c2: 0.0 }
    }

    /// Above 0 for every length.
    pub(crate) fn at(&self, tokens: f64) -> f64 {
        self.of_sums(tokens, tokens * tokens)
    }

    /// For several prompts, by the sums of their tokens and of the squares: engines run their first steps together.
    pub(crate) fn of_sums(&self, tokens: f64, squares: f64) -> f64 {
        self.c0 + self.c1 * tokens + self.c2 * squares
    }

    pub(crate) fn times(&self, factor: f64) -> Self {
        Self { c0: self.c0 * factor, c1: self.c1 * factor, c2: self.c2 * factor }
    }

    /// What each further token of a prompt of so many costs on average, the fixed part left out.
    pub(crate) fn ns_per_token(&self, tokens: f64) -> f64 {
        self.c1 + self.c2 * tokens
    }
}
