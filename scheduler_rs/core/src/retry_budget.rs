//! How many retries a tenant may make, over all classes: a ratio of its first attempts, and a few to begin with.
//!
//! The idea is Finagle's retry budget and the per-client ratio of "Handling Overload" (Site Reliability Engineering,
//! 2016): when everything fails, retries add a fraction to the load instead of multiplying it.

use crate::TenantId;
use std::collections::BTreeMap;

/// Retries that are allowed before any first attempt counts, and the most that can be saved up.
const BURST: f64 = 10.0;
/// Most tenants whose budgets are remembered.
const TENANTS_MAX: usize = 16_384;

#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryBudget {
    credit: f64,
    /// Retries since the tenant is remembered.
    pub(crate) allowed: u64,
    /// Those that it asked for in vain.
    pub(crate) denied: u64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { credit: BURST, allowed: 0, denied: 0 }
    }
}

impl RetryBudget {
    fn first_attempt(&mut self, ratio: f64) {
        self.credit = (self.credit + ratio).min(BURST);
    }

    /// Takes one retry from the budget if there is one.
    fn take(&mut self) -> bool {
        let is_allowed = self.credit >= 1.0;
        if is_allowed {
            self.credit -= 1.0;
            self.allowed += 1;
        } else {
            self.denied += 1;
        }
        is_allowed
    }
}

/// The budgets of all tenants that have made a first attempt.
#[derive(Debug, Default)]
pub(crate) struct RetryBudgets {
    by_tenant: BTreeMap<TenantId, RetryBudget>,
}

impl RetryBudgets {
    pub(crate) fn first_attempt(&mut self, tenant: TenantId, ratio: f64) {
        self.of(tenant).first_attempt(ratio);
    }

    pub(crate) fn take(&mut self, tenant: TenantId) -> bool {
        self.of(tenant).take()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TenantId, &RetryBudget)> {
        self.by_tenant.iter().map(|(&tenant, budget)| (tenant, budget))
    }

    fn of(&mut self, tenant: TenantId) -> &mut RetryBudget {
        if self.by_tenant.len() >= TENANTS_MAX && !self.by_tenant.contains_key(&tenant) {
            self.forget();
        }
        self.by_tenant.entry(tenant).or_default()
    }

    /// Drops the half that is nearest to a full budget, which is what a forgotten tenant begins with again.
    fn forget(&mut self) {
        let mut credits: Vec<f64> = self.by_tenant.values().map(|budget| budget.credit).collect();
        let (_, &mut median, _) = credits.select_nth_unstable_by(TENANTS_MAX / 2, f64::total_cmp);
        self.by_tenant.retain(|_, budget| budget.credit < median);
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
        assert_eq!((budget.allowed, budget.denied), (260, 840));
    }

    /// However many tenants come, the memory is bounded, and those that have used up most are not forgotten.
    #[test]
    fn bounded() {
        let mut budgets = RetryBudgets::default();
        (0..10).for_each(|_| assert!(budgets.take(7)));
        (100..100 + 3 * TENANTS_MAX as u32).for_each(|tenant| budgets.first_attempt(tenant, 0.1));
        assert!(budgets.by_tenant.len() <= TENANTS_MAX);
        assert!(!budgets.take(7));
    }
}
