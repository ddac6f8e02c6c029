//! The limits of tenants, each over all classes.

use crate::limits::Limits;
use crate::ticket::NEVER;
use crate::window::{Window, next_log};
use crate::{Error, TenantId};
use std::collections::{BTreeMap, BTreeSet};

/// Most tenants with limits of their own.
const TENANTS_MAX: usize = 65_536;

#[derive(Debug)]
pub(crate) struct TenantLimit {
    pub(crate) limits: Limits,
    pub(crate) timer_ns: u64,
}

#[derive(Debug, Default)]
pub(crate) struct TenantLimits {
    by_tenant: BTreeMap<TenantId, TenantLimit>,
    /// The first log of a new entry: after all that the same tenant had before, since it goes on with each change.
    log: u8,
    /// Those that were closed since the last report.
    pub(crate) closed: BTreeSet<TenantId>,
}

impl TenantLimits {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_tenant.is_empty()
    }

    pub(crate) fn find(&self, tenant: TenantId) -> Option<&TenantLimit> {
        self.by_tenant.get(&tenant)
    }

    pub(crate) fn find_mut(&mut self, tenant: TenantId) -> Option<&mut TenantLimit> {
        self.by_tenant.get_mut(&tenant)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TenantId, &TenantLimit)> {
        self.by_tenant.iter().map(|(&tenant, limit)| (tenant, limit))
    }

    /// To be called for each change of limits: makes the entry when it is new.
    pub(crate) fn insert(&mut self, tenant: TenantId) -> Result<&mut TenantLimit, Error> {
        if self.by_tenant.len() >= TENANTS_MAX && !self.by_tenant.contains_key(&tenant) {
            let rule = format!("at most {TENANTS_MAX} tenants may have limits");
            return Err(Error::invalid("tenant", &tenant, rule));
        }
        self.log = next_log(self.log);
        let tokens = Window::with_log(self.log);
        let new = || TenantLimit { limits: Limits { tokens, ..Limits::default() }, timer_ns: NEVER };
        Ok(self.by_tenant.entry(tenant).or_insert_with(new))
    }

    pub(crate) fn remove(&mut self, tenant: TenantId) -> Option<TenantLimit> {
        self.by_tenant.remove(&tenant)
    }
}
