//! How many retries a tenant may make: a ratio of its first attempts, and a few to begin with.

/// Retries that are allowed before any first attempt counts, and the most that can be saved up.
const BURST: f64 = 10.0;

#[derive(Debug)]
pub(crate) struct RetryBudget {
    credit: f64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { credit: BURST }
    }
}

impl RetryBudget {
    pub(crate) fn first_attempt(&mut self, ratio: f64) {
        self.credit = (self.credit + ratio).min(BURST);
    }

    /// Takes one retry from the budget if there is one.
    pub(crate) fn take(&mut self) -> bool {
        let is_allowed = self.credit >= 1.0;
        if is_allowed {
            self.credit -= 1.0;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the long run retries are the ratio of first attempts; the burst is not refilled beyond itself.
    #[test]
    fn ratio() {
        let mut budget = RetryBudget::default();
        (0..1_000).for_each(|_| budget.first_attempt(0.5));
        assert_eq!((0..100).filter(|_| budget.take()).count(), 10);
        let retries = (0..1_000).filter(|_| {
            budget.first_attempt(0.25);
            budget.take()
        });
        assert_eq!(retries.count(), 250);
    }
}
