//! Limits of tenants: a tenant that is at its limit is out of contention as a whole, until its window opens.

use super::Scheduler;
use super::choose::Candidate;
use crate::timers::Owner;
use crate::{BatchId, Decisions, Error, Fairness, Holder, Limited, Prompt, TenantId};

impl Scheduler {
    /// Limits what is released of a tenant, in all classes together, over any 60 seconds; 0 = no limit.
    ///
    /// Every release counts as a request, a retry too, and as the tokens of its prompt and its expected output until
    /// the real ones are known, cached or not; an attempt that failed before its first token costs no tokens. A new
    /// limit counts at once, with what the old one had charged; what was released without any limit is not known.
    pub fn set_tenant_limits(
        &mut self,
        now_ns: u64,
        tenant: TenantId,
        requests_per_min: u32,
        tokens_per_min: u64,
    ) -> Result<(), Error> {
        self.advance(now_ns);
        if (requests_per_min, tokens_per_min) == (0, 0) {
            self.lift_tenant_limits(tenant);
            return Ok(());
        }
        if self.config.fairness == Fairness::None {
            let rule = "cannot have limits where fairness is `none`: tenants are not told apart there";
            return Err(Error::invalid("tenant", &tenant, rule));
        }
        let limits = &mut self.tenant_limits.insert(tenant)?.limits;
        limits.configure(requests_per_min, tokens_per_min);
        self.flows.reconsider.insert(tenant);
        Ok(())
    }

    fn lift_tenant_limits(&mut self, tenant: TenantId) {
        let Some(limit) = self.tenant_limits.remove(tenant) else { return };
        self.timers.disarm(limit.timer_ns);
        self.tenant_limits.closed.remove(&tenant);
        self.flows.reconsider.remove(&tenant);
        self.open_tenant(tenant);
    }

    /// A prompt above the whole limit of its tenant is refused before it waits.
    pub(super) fn check_tenant_limit(
        &self,
        batch: BatchId,
        tenant: TenantId,
        prompts: &[Prompt],
    ) -> Result<(), Error> {
        if self.tenant_limits.is_empty() {
            return Ok(());
        }
        let known = self.batches.find(batch).map(|slot| self.batches[slot].tenant);
        let tenant = known.unwrap_or(tenant);
        let limit = self.tenant_limits.find(tenant).map_or(0, |limit| limit.limits.tokens.limit());
        match prompts.iter().map(Prompt::limited_tokens).max().filter(|&tokens| limit > 0 && tokens > limit) {
            Some(tokens) => Err(Error::AboveLimit { tokens, limit, tenant: Some(tenant) }),
            None => Ok(()),
        }
    }

    /// Looks again at the closed tenants of which something has changed, or whose time has come.
    pub(super) fn reconsider_tenants(&mut self) {
        for tenant in std::mem::take(&mut self.flows.reconsider) {
            let Some(limit) = self.tenant_limits.find_mut(tenant) else { continue };
            limit.limits.refresh(self.now_ns);
            if limit.limits.closed.is_some() {
                self.close_tenant(tenant);
            } else {
                self.open_tenant(tenant);
            }
        }
    }

    /// Whether its tenant's limits let the head in. If not, the tenant is closed until they do: what it has that is
    /// smaller must not use up what becomes free.
    pub(super) fn tenant_admits(&mut self, head: &Candidate) -> bool {
        if self.tenant_limits.is_empty() {
            return true;
        }
        let slot = head.ticket.slot();
        let (tenant, tokens) = (self.tenant_of(slot), self.tickets[slot].limited_tokens());
        let Some(limit) = self.tenant_limits.find_mut(tenant) else { return true };
        limit.limits.refresh(self.now_ns);
        if limit.limits.closed.is_none() {
            if limit.limits.admits(self.now_ns, tokens) {
                return true;
            }
            limit.limits.close_for(tokens);
        }
        self.close_tenant(tenant);
        false
    }

    /// Counts a release; a tenant that has no request left is closed at once.
    pub(super) fn charge_tenant(&mut self, slot: u32) {
        if self.tenant_limits.is_empty() {
            return;
        }
        let (tenant, tokens) = (self.tenant_of(slot), self.tickets[slot].limited_tokens());
        let Some(limit) = self.tenant_limits.find_mut(tenant) else { return };
        limit.limits.charge(self.now_ns, tokens);
        self.tickets.course_mut(slot).counted_for_tenant_in = limit.limits.tokens.log();
        if limit.limits.closed.is_some() {
            self.close_tenant(tenant);
        }
    }

    /// What an attempt really used takes the place of its estimate.
    pub(super) fn settle_tenant(&mut self, slot: u32, used_tokens: u64) {
        if self.tenant_limits.is_empty() {
            return;
        }
        let tenant = self.tenant_of(slot);
        let (ticket, course) = self.tickets.with_course(slot);
        let (at_ns, charged, log) =
            (course.released_ns, ticket.limited_tokens(), course.counted_for_tenant_in.take());
        let Some(limit) = self.tenant_limits.find_mut(tenant) else { return };
        limit.limits.tokens.settle(log, at_ns, charged, used_tokens);
        if limit.limits.closed.is_some() {
            self.flows.reconsider.insert(tenant);
        }
    }

    fn open_tenant(&mut self, tenant: TenantId) {
        self.flows.open(&mut self.groups, tenant);
        self.close_in_backlogs(tenant, false);
    }

    fn close_tenant(&mut self, tenant: TenantId) {
        self.flows.close(&mut self.groups, tenant);
        self.close_in_backlogs(tenant, true);
        // What it may not release keeps no smaller ones of others back.
        for backend in &mut self.backends {
            backend.reopen(self.now_ns, |closing| closing.tenant == tenant);
        }
        self.tenant_limits.closed.insert(tenant);
    }

    /// Sets timers for what was closed while it waits, and tells what has not been told.
    pub(super) fn report_tenant_limits(&mut self, out: &mut Decisions) {
        for tenant in std::mem::take(&mut self.tenant_limits.closed) {
            let limit = self.tenant_limits.find_mut(tenant);
            let limit = limit.expect("a limit that is lifted closes nobody");
            // Nobody waits for it: the next ticket of the tenant makes it looked at again.
            let Some(closed) = limit.limits.closed.filter(|_| self.flows.is_waiting(tenant)) else {
                continue;
            };
            if let Some((kind, reset_at_ns)) = limit.limits.reported.news(self.now_ns, closed) {
                out.limited.push(Limited { holder: Holder::Tenant(tenant), kind, reset_at_ns });
            }
            let (_, due_ns) = closed;
            self.timers.arm(&mut limit.timer_ns, due_ns, Owner::Tenant(tenant));
        }
    }
}
