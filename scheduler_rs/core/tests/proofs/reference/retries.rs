//! The retry budget: a ratio of the first attempts of a tenant, beside a burst.

use super::{Item, Reference};

/// Retries before any first attempt counts, and the most that can be saved up.
const BURST: f64 = 10.0;

impl Reference {
    /// Whether a retry makes sense as far as its batch and the backends go.
    pub(crate) fn makes_sense(&self, item: &Item, not_before_ns: u64, exclude_backend: bool) -> bool {
        let Some(flight) = item.flight() else { return false };
        let deadline_ns = self.group(item.batch).terms.deadline_ns;
        let elsewhere = self.hosts.iter().any(|host| {
            host.id != flight.backend
                && !item.excluded.contains(&host.id)
                && host.server.serves(item.request.model)
        });
        !item.cancelled
            && (deadline_ns == 0 || not_before_ns.max(self.now_ns) < deadline_ns)
            && (!exclude_backend || elsewhere)
    }

    /// Whether the tenant's budget allows one retry more; what was turned away costs it nothing.
    pub(crate) fn budget_allows(&self, item: &Item) -> bool {
        let tenant = self.group(item.batch).terms.tenant;
        let is_free = item.flight().is_some_and(|flight| flight.turned_away);
        self.rules.retry_ratio <= 0.0 || is_free || self.credits.get(&tenant).copied().unwrap_or(BURST) >= 1.0
    }

    pub(crate) fn take_credit(&mut self, tenant: u32) {
        *self.credits.entry(tenant).or_insert(BURST) -= 1.0;
    }

    pub(crate) fn add_credit(&mut self, tenant: u32) {
        let credit = self.credits.entry(tenant).or_insert(BURST);
        *credit = (*credit + self.rules.retry_ratio).min(BURST);
    }
}
