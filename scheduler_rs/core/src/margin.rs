//! By how much waits exceed what was foreseen: mean and mean deviation, as a retransmission timer keeps them (RFC 6298).

/// Three mean deviations above the mean are about the 99th percentile of what is normally distributed.
const DEVIATIONS: f64 = 3.0;
/// Before anything is known a wait is taken to be up to 1.3 times what was foreseen.
const DEVIATION_AT_FIRST: f64 = 0.1;
/// What is assumed at first weighs as much as so many waits.
const SAMPLES_AT_FIRST: f64 = 8.0;
/// About how many waits are remembered.
const MEMORY: f64 = 512.0;
/// A single wait counts at most as so many times what was foreseen.
const RATIO_MAX: f64 = 4.0;

#[derive(Debug)]
pub(crate) struct Margin {
    samples: f64,
    mean: f64,
    deviation: f64,
}

impl Margin {
    /// A wait, as a multiple of what was foreseen.
    pub(crate) fn add(&mut self, ratio: f64) {
        let ratio = ratio.min(RATIO_MAX);
        self.samples = (self.samples + 1.0).min(MEMORY);
        self.deviation += ((ratio - self.mean).abs() - self.deviation) / self.samples;
        self.mean += (ratio - self.mean) / self.samples;
    }

    /// What a foreseen wait is multiplied by to be rarely exceeded; at least 1.
    pub(crate) fn get(&self) -> f64 {
        (self.mean + DEVIATIONS * self.deviation).max(1.0)
    }
}

impl Default for Margin {
    fn default() -> Self {
        Self { samples: SAMPLES_AT_FIRST, mean: 1.0, deviation: DEVIATION_AT_FIRST }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where waits are as foreseen next to nothing is left free, where they scatter as much as they scatter.
    #[test]
    fn follows_the_waits() {
        let mut margin = Margin::default();
        assert!((margin.get() - 1.3).abs() < 1e-9);
        (0..2_000).for_each(|_| margin.add(1.0));
        assert!(margin.get() < 1.02, "{margin:?}");
        (0..4_000).for_each(|wait| margin.add(if wait % 2 == 0 { 1.4 } else { 0.6 }));
        assert!((margin.get() - 2.2).abs() < 0.1, "{margin:?}");
        (0..4_000).for_each(|_| margin.add(0.5));
        assert!((margin.get() - 1.0).abs() < 1e-9, "never below what was foreseen: {margin:?}");
    }

    /// One wait beyond all measure does not shut the queue.
    #[test]
    fn one_wait_alone() {
        let mut margin = Margin::default();
        (0..1_000).for_each(|_| margin.add(1.0));
        margin.add(1e6);
        assert!(margin.get() < 1.1, "{margin:?}");
    }
}
