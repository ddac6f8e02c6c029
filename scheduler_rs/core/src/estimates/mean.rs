//! A mean that forgets: of all samples at first, then exponentially weighted.

use super::{MEMORY, SAMPLES_MIN};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean {
    samples: u64,
    mean: f64,
}

impl Mean {
    pub(crate) fn add(&mut self, value: f64) {
        self.samples += 1;
        self.mean += (value - self.mean) / (self.samples as f64).min(MEMORY);
    }

    /// None while there are too few samples.
    pub(crate) fn get(&self) -> Option<f64> {
        (self.samples >= SAMPLES_MIN).then_some(self.mean)
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At first it is the plain mean; in the end the old is forgotten.
    #[test]
    fn plain_then_forgetting() {
        let mut mean = Mean::default();
        (0..100).for_each(|at| mean.add(f64::from(at)));
        assert!((mean.get().unwrap() - 49.5).abs() < 1e-9);
        (0..2_000).for_each(|_| mean.add(7.0));
        assert!((mean.get().unwrap() - 7.0).abs() < 0.1);
        assert_eq!(mean.samples(), 2_100);
    }
}
