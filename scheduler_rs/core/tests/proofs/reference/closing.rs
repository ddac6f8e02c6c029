//! Tenants that their limits keep out of contention as a whole, and when they are back: then they begin to wait anew.
//!
//! A closed tenant is looked at again in the next poll after something of it came, went, ended or was set, and at the
//! time for which it was closed. It is back unless it is out of requests; a prompt above the tokens that are left
//! closes it again once it is met. That it was met is what the scheduler reports: it depends on what the backends could
//! take.

use super::{Closed, NEVER, Reference, WINDOW_SLACK_NS};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Closing {
    by: Closed,
    until_ns: u64,
    /// Whether the limits have been set since.
    is_outdated: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Closings {
    /// By tenant.
    closed: BTreeMap<u32, Closing>,
    reconsider: BTreeSet<u32>,
    /// When a tenant that waits is looked at again.
    timers: BTreeMap<u32, u64>,
}

impl Reference {
    /// Something of a tenant has changed.
    pub(super) fn reconsider(&mut self, tenant: u32) {
        let closings = &mut self.shares.closings;
        if closings.closed.contains_key(&tenant) {
            closings.reconsider.insert(tenant);
        }
    }

    /// Its limits have been set, but not lifted.
    pub(super) fn outdate_closing(&mut self, tenant: u32) {
        if let Some(closing) = self.shares.closings.closed.get_mut(&tenant) {
            closing.is_outdated = true;
        }
        self.reconsider(tenant);
    }

    /// Its limits are lifted: it is back at once.
    pub(super) fn lift_closing(&mut self, tenant: u32) {
        let closings = &mut self.shares.closings;
        closings.reconsider.remove(&tenant);
        closings.timers.remove(&tenant);
        if closings.closed.remove(&tenant).is_some() {
            self.wake_tenant(tenant);
        }
    }

    /// The start of a poll, once what is due has expired.
    pub(super) fn reopen_tenants(&mut self) {
        let now_ns = self.now_ns;
        let closings = &mut self.shares.closings;
        let mut again = std::mem::take(&mut closings.reconsider);
        again.extend(closings.timers.iter().filter(|(_, at_ns)| **at_ns <= now_ns).map(|(tenant, _)| tenant));
        closings.timers.retain(|_, at_ns| *at_ns > now_ns);
        for tenant in again {
            let Some(&closing) = self.shares.closings.closed.get(&tenant) else { continue };
            if self.is_out_of_requests(tenant, 0) {
                continue;
            }
            // The windows are right to a tenth of a second: within it, what was told of its end counts.
            if self.is_out_of_requests(tenant, WINDOW_SLACK_NS) {
                let is_told = closing.by == Closed::Requests && !closing.is_outdated;
                self.shares.is_lost |= !is_told;
                if closing.until_ns > now_ns {
                    continue;
                }
            }
            self.shares.closings.closed.remove(&tenant);
            self.wake_tenant(tenant);
        }
    }

    /// The end of a poll.
    pub(super) fn note_closed_tenants(&mut self) {
        for (tenant, by, until_ns) in self.report.stopped_tenants.clone() {
            let waits = self.is_tenant_waiting(tenant);
            let closings = &mut self.shares.closings;
            closings.closed.insert(tenant, Closing { by, until_ns, is_outdated: false });
            if waits {
                let at_ns = closings.timers.entry(tenant).or_insert(NEVER);
                *at_ns = until_ns.min(*at_ns);
            }
        }
    }
}
