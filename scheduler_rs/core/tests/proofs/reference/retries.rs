//! The retry budget: a ratio of the first attempts of a tenant in a class, beside a burst.

use super::{Item, Reference};

/// Retries before any first attempt counts, and the most that can be saved up.
const BURST: f64 = 10.0;

/// What a tenant may still use: the burst is whole again once it has no prompts, but need not be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credit {
    least: f64,
    most: f64,
}

impl Default for Credit {
    fn default() -> Self {
        Self { least: BURST, most: BURST }
    }
}

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

    /// Whether the tenant's budget may allow one retry more, and whether it must.
    pub(crate) fn budget_allows(&self, item: &Item) -> (bool, bool) {
        if self.rules.retry_ratio <= 0.0 {
            return (true, true);
        }
        let credit = self.credits.get(&(item.request.class, self.tenant_of(item))).copied();
        let credit = credit.unwrap_or_default();
        (credit.most >= 1.0, credit.least >= 1.0)
    }

    pub(crate) fn take_credit(&mut self, class: u32, tenant: u32) {
        let credit = self.credits.entry((class, tenant)).or_default();
        *credit = Credit { least: (credit.least - 1.0).max(0.0), most: credit.most - 1.0 };
    }

    pub(crate) fn add_credit(&mut self, class: u32, tenant: u32) {
        let ratio = self.rules.retry_ratio;
        let credit = self.credits.entry((class, tenant)).or_default();
        let add = |had: f64| (had + ratio).min(BURST);
        *credit = Credit { least: add(credit.least), most: add(credit.most) };
    }

    /// A prompt has ended: a tenant without any may be forgotten, and with it what it used of the burst.
    pub(crate) fn note_idle(&mut self, class: u32, tenant: u32) {
        let is_idle =
            !self.items.iter().any(|item| item.request.class == class && self.tenant_of(item) == tenant);
        if let Some(credit) = self.credits.get_mut(&(class, tenant)).filter(|_| is_idle) {
            credit.most = BURST;
        }
    }
}
