//! By how much waits exceed what was foreseen: mean and standard deviation, exponentially weighted.
//!
//! In time and not as a ratio, as a retransmission timer keeps it (RFC 6298): with little ahead of a prompt everything is
//! large as a ratio, and a queue that is kept short for it would never be found to wait less.

/// Four standard deviations above the mean are exceeded by no wait in a hundred even where the policy lets most pass at
/// once and one in ten wait for all of them.
const DEVIATIONS: f64 = 4.0;
/// Parts of the bound that are left free, before anything is known, at least and at most.
const AT_FIRST: f64 = 0.3;
const LEAST: f64 = 0.05;
const MOST: f64 = 0.9;
/// What is remembered fades to 1/e in so many bounds. A wait counts for the time since the one that counted before: waits
/// that end together are alike and are one.
const MEMORY_LIMITS: f64 = 4.0;
const WEIGHTS: (f64, f64) = (1.0 / 256.0, 1.0 / 16.0);

#[derive(Debug)]
pub(crate) struct Margin {
    /// As parts of the bound.
    mean: f64,
    variance: f64,
    /// When one counted last.
    at_ns: u64,
}

impl Margin {
    /// A wait is over that was foreseen; `limit_ns`: the bound, and the most that one can be off.
    pub(crate) fn add(&mut self, now_ns: u64, foreseen_ns: f64, waited_ns: f64, limit_ns: u64) {
        let limit = limit_ns as f64;
        let (least, most) = WEIGHTS;
        let weight = (now_ns - self.at_ns) as f64 / limit / MEMORY_LIMITS;
        if weight < least {
            return;
        }
        self.at_ns = now_ns;
        let weight = weight.min(most);
        let off = ((waited_ns - foreseen_ns) / limit).clamp(-1.0, 1.0) - self.mean;
        self.mean += weight * off;
        self.variance += weight * ((1.0 - weight) * off * off - self.variance);
    }

    /// What must be added to a foreseen wait to be rarely exceeded.
    pub(crate) fn get_ns(&self, limit_ns: u64) -> f64 {
        let part = self.mean + DEVIATIONS * self.variance.sqrt();
        limit_ns as f64 * part.clamp(LEAST, MOST)
    }
}

impl Default for Margin {
    fn default() -> Self {
        Self { mean: 0.0, variance: (AT_FIRST / DEVIATIONS).powi(2), at_ns: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 10_000_000_000;

    /// Waits of so many seconds that were foreseen to be 5 and end a second apart.
    fn add(margin: &mut Margin, waits_s: impl Iterator<Item = f64>) {
        for wait_s in waits_s {
            margin.add(margin.at_ns + 1_000_000_000, 5e9, wait_s * 1e9, LIMIT);
        }
    }

    fn left_free_s(margin: &Margin) -> f64 {
        margin.get_ns(LIMIT) / 1e9
    }

    /// Where waits are as foreseen next to nothing is left free, where they scatter as much as they scatter.
    #[test]
    fn follows_the_waits() {
        let mut margin = Margin::default();
        assert!((left_free_s(&margin) - 3.0).abs() < 1e-9);
        add(&mut margin, (0..4_000).map(|_| 6.0));
        assert!((left_free_s(&margin) - 1.0).abs() < 0.1, "{margin:?}");
        add(&mut margin, (0..4_000).map(|wait| if wait % 2 == 0 { 6.0 } else { 4.0 }));
        assert!((left_free_s(&margin) - 4.0).abs() < 0.3, "{margin:?}");
        add(&mut margin, (0..4_000).map(|_| 2.0));
        assert!((left_free_s(&margin) - 0.5).abs() < 1e-9, "never nothing: {margin:?}");
    }

    /// A thousand waits at once are one, and one beyond all measure does not shut the queue.
    #[test]
    fn one_wait_alone() {
        let mut margin = Margin::default();
        add(&mut margin, (0..4_000).map(|_| 5.0));
        let now_ns = margin.at_ns + 1_000_000_000;
        (0..1_000).for_each(|_| margin.add(now_ns, 5e9, 1e15, LIMIT));
        assert!(left_free_s(&margin) < 7.0, "{margin:?}");
        add(&mut margin, (0..200).map(|_| 5.0));
        assert!(left_free_s(&margin) < 1.0, "{margin:?}");
    }
}
