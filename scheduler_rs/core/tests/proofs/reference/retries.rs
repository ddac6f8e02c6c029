//! The retry budget: a ratio of the first attempts of a tenant, beside a burst.

use super::deadlines::own_queue_ns;
use super::{Flight, Item, Reference};

/// Retries before any first attempt counts, and the most that can be saved up.
const BURST: f64 = 10.0;

impl Flight {
    /// Whether its retry costs the tenant's budget nothing: it was turned away, or not run and will not be there again.
    pub(crate) fn is_free(&self, exclude_backend: bool) -> bool {
        self.turned_away || self.not_run && exclude_backend
    }
}

impl Reference {
    /// Whether a retry makes sense as far as its batch and the backends go.
    pub(crate) fn makes_sense(
        &self,
        item: &Item,
        not_before_ns: u64,
        exclude_backend: bool,
        asked: bool,
    ) -> bool {
        let Some(flight) = item.flight() else { return false };
        let elsewhere = self.hosts.iter().any(|host| {
            host.id != flight.backend && !item.excludes(host.id) && host.server.serves(item.request.model)
        });
        !item.cancelled
            && not_before_ns.max(self.now_ns) < self.wait_ends_ns(item, flight, asked)
            && (!exclude_backend || elsewhere)
    }

    /// When it would end in the queue for certain. While there are others of its batch the queue timeout may begin anew;
    /// after a wait that is asked for it does.
    fn wait_ends_ns(&self, item: &Item, flight: &Flight, asked: bool) -> u64 {
        let since_ns = if flight.turned_away { flight.waited_since_ns } else { self.now_ns };
        let has_others = self.items.iter().any(|other| other.batch == item.batch && other.id != item.id);
        let queue_ns =
            if has_others || asked { own_queue_ns(item) } else { self.queue_expiry_ns(item, since_ns) };
        queue_ns.min(self.batch_expiry_ns(item))
    }

    /// Whether the tenant's budget allows one retry more.
    pub(crate) fn budget_allows(&self, item: &Item, exclude_backend: bool) -> bool {
        let tenant = self.group(item.batch).terms.tenant;
        let is_free = item.flight().is_some_and(|flight| flight.is_free(exclude_backend));
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
