//! Prompts as work: how many there are and what their sizes come to, so that a curve turns many into time at once.

use crate::estimates::ServiceTime;
use std::ops::{AddAssign, SubAssign};

/// Exact, so that what is added and taken away again leaves nothing behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) prompts: u64,
    tokens: u64,
    /// The sum of the squares of the prompts' tokens.
    squares: u128,
}

impl Work {
    /// One prompt of so many tokens.
    pub(crate) fn of(tokens: u32) -> Self {
        Self { prompts: 1, tokens: u64::from(tokens), squares: u128::from(tokens).pow(2) }
    }

    /// How long a backend is busy with it that runs one prompt after the other, in nanoseconds.
    pub(crate) fn time_ns(&self, service: &ServiceTime) -> f64 {
        self.sums().time_ns(service)
    }

    pub(crate) fn sums(&self) -> Sums {
        Sums { prompts: self.prompts as f64, tokens: self.tokens as f64, squares: self.squares as f64 }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.prompts += other.prompts;
        self.tokens += other.tokens;
        self.squares += other.squares;
    }
}

impl SubAssign for Work {
    fn sub_assign(&mut self, other: Self) {
        self.prompts -= other.prompts;
        self.tokens -= other.tokens;
        self.squares -= other.squares;
    }
}

/// The same where it fades.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) prompts: f64,
    tokens: f64,
    squares: f64,
}

impl Sums {
    pub(crate) fn time_ns(&self, service: &ServiceTime) -> f64 {
        let curve = &service.prefill;
        let fixed_ns = self.prompts * (curve.c0 + service.decode_ns);
        fixed_ns + curve.c1 * self.tokens + curve.c2 * self.squares
    }

    pub(crate) fn times(&self, factor: f64) -> Self {
        Self { prompts: self.prompts * factor, tokens: self.tokens * factor, squares: self.squares * factor }
    }
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.prompts += other.prompts;
        self.tokens += other.tokens;
        self.squares += other.squares;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimates::Curve;

    /// Many prompts take as long as each of them takes, and what is taken away leaves nothing.
    #[test]
    fn sums_are_exact() {
        let service = ServiceTime { prefill: Curve { c0: 5.0, c1: 2.0, c2: 0.5 }, decode_ns: 7.0 };
        let sizes = [1, 40, 1 << 31, 3_000];
        let mut work = Work::default();
        for tokens in sizes {
            work += Work::of(tokens);
        }
        let alone: f64 = sizes.iter().map(|&tokens| service.at(f64::from(tokens))).sum();
        assert!((work.time_ns(&service) / alone - 1.0).abs() < 1e-12);
        for tokens in sizes {
            work -= Work::of(tokens);
        }
        assert_eq!(work, Work::default());
    }
}
