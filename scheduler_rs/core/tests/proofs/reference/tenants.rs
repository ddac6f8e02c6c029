//! Requests and tokens per minute of a tenant, over all its classes.

use super::place::Obstacle;
use super::{Closed, Counted, End, Item, Law, MINUTE, NEVER, Reference, Seen, Used, WINDOW_SLACK_NS};

/// What was released of a tenant since it has limits; 0 = no limit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowance {
    requests_per_min: u32,
    tokens_per_min: u64,
    released: Vec<u64>,
    counted: Vec<Counted>,
}

impl Reference {
    pub(crate) fn limit_tenant(&mut self, tenant: u32, requests_per_min: u32, tokens_per_min: u64) {
        // Where a tenant stands when it is open again is not in the model.
        self.shares.is_lost = true;
        if (requests_per_min, tokens_per_min) == (0, 0) {
            self.allowances.remove(&tenant);
            return;
        }
        let allowance = self.allowances.entry(tenant).or_default();
        (allowance.requests_per_min, allowance.tokens_per_min) = (requests_per_min, tokens_per_min);
        if requests_per_min == 0 {
            allowance.released.clear();
        }
        if tokens_per_min == 0 {
            allowance.counted.clear();
        }
    }

    /// Most tokens of a prompt of this tenant; 0 = no limit.
    pub(crate) fn tenant_tokens_max(&self, tenant: u32) -> u64 {
        self.allowances.get(&tenant).map_or(0, |allowance| allowance.tokens_per_min)
    }

    fn allowance(&self, item: &Item) -> Option<&Allowance> {
        self.allowances.get(&self.group(item.batch).terms.tenant)
    }

    /// What its tenant's limits keep back now, with windows `slack_ns` longer than a minute.
    pub(crate) fn tenant_obstacles(&self, item: &Item, slack_ns: u64) -> [(Obstacle, bool); 2] {
        let since = |at_ns: u64| at_ns + MINUTE + slack_ns > self.now_ns;
        let (mut has_request, mut has_tokens) = (true, true);
        if let Some(allowance) = self.allowance(item) {
            let released = allowance.released.iter().filter(|&&at_ns| since(at_ns)).count();
            let recent = allowance.counted.iter().filter(|counted| since(counted.at_ns));
            let used: u64 = recent.map(|counted| counted.tokens).sum();
            let limit = allowance.tokens_per_min;
            has_request = allowance.requests_per_min == 0 || released < allowance.requests_per_min as usize;
            // What is above a whole limit goes alone.
            has_tokens = limit == 0 || used == 0 || used + item.limited_tokens() <= limit;
        }
        [(Obstacle::TenantRequests, !has_request), (Obstacle::TenantTokens, !has_tokens)]
    }

    pub(crate) fn charge_tenant(&mut self, item: &Item) {
        let (now_ns, tenant) = (self.now_ns, self.group(item.batch).terms.tenant);
        let Some(allowance) = self.allowances.get_mut(&tenant) else { return };
        if allowance.requests_per_min > 0 {
            allowance.released.push(now_ns);
        }
        if allowance.tokens_per_min > 0 {
            allowance.counted.push(Counted { at_ns: now_ns, tokens: item.limited_tokens(), item: item.id });
        }
    }

    /// The end of an attempt; `end` is none for a retry. What failed before its first token costs no tokens.
    pub(crate) fn settle_tenant(&mut self, item: &Item, end: Option<End>, usage: Option<Used>) {
        let Some(flight) = item.flight().copied() else { return };
        let used = match (usage, end) {
            (Some(used), _) => used.tokens(),
            (None, None | Some(End::Failed)) if flight.in_prefill => 0,
            (None, Some(End::Cancelled | End::Expired)) if flight.in_prefill => {
                u64::from(item.request.tokens)
            }
            (None, _) => item.limited_tokens(),
        };
        let tenant = self.group(item.batch).terms.tenant;
        let Some(allowance) = self.allowances.get_mut(&tenant) else { return };
        let its_own = |counted: &&mut Counted| counted.item == item.id && counted.at_ns == flight.released_ns;
        if let Some(counted) = allowance.counted.iter_mut().find(its_own) {
            counted.tokens = used;
        }
    }

    /// A tenant that is said to be closed has something that its limits keep back, and opens at a time to come.
    pub(crate) fn check_closed_tenants(&mut self, seen: &Seen) {
        for &(tenant, closed, until_ns) in &seen.closed_tenants {
            let obstacle = match closed {
                Closed::Requests => Obstacle::TenantRequests,
                Closed::Tokens | Closed::Pause => Obstacle::TenantTokens,
            };
            let is_kept_back =
                |item: &Item| self.tenant_obstacles(item, WINDOW_SLACK_NS).contains(&(obstacle, true));
            let own = || self.waiting().filter(|item| self.group(item.batch).terms.tenant == tenant);
            let is_needed = own().any(is_kept_back);
            let is_idle = own().next().is_none();
            if until_ns <= self.now_ns || !is_idle && !is_needed {
                let what = format!("tenant {tenant} is closed for {closed:?} until {until_ns} ns");
                self.verdict.breach(Law::LimitsAndOrder, self.now_ns, what);
            }
        }
    }

    /// By when the scheduler must be asked again about prompts that only their tenant's limits keep back: by tenant for
    /// the one that takes longest, since a large prompt may keep smaller ones back.
    pub(crate) fn tenants_open_by_ns(&self) -> u64 {
        let of_tenant = |(&tenant, allowance): (&u32, &Allowance)| {
            let waits = self.waiting().filter(|item| {
                let is_its_own = self.group(item.batch).terms.tenant == tenant;
                is_its_own
                    && self.is_ready(item)
                    && self.report.kept.is_empty()
                    && self.hosts.iter().any(|host| {
                        let obstacles = self.obstacles(item, host, WINDOW_SLACK_NS);
                        obstacles.iter().all(|obstacle| obstacle.is_of_tenant())
                    })
            });
            let opens = waits.map(|item| {
                let mut ends: Vec<u64> = allowance.released.iter().map(|at_ns| at_ns + MINUTE).collect();
                ends.sort_unstable();
                let limit = allowance.requests_per_min as usize;
                let at = ends.len().checked_sub(limit).filter(|_| limit > 0);
                let mut opens_ns = at.map_or(0, |at| ends[at]);
                let mut left: u64 = allowance.counted.iter().map(|counted| counted.tokens).sum();
                for counted in &allowance.counted {
                    let fits = left == 0 || left + item.limited_tokens() <= allowance.tokens_per_min;
                    if allowance.tokens_per_min == 0 || fits {
                        break;
                    }
                    left -= counted.tokens;
                    opens_ns = opens_ns.max(counted.at_ns + MINUTE);
                }
                opens_ns + WINDOW_SLACK_NS
            });
            opens.filter(|&at_ns| at_ns > self.now_ns + WINDOW_SLACK_NS).max().unwrap_or(NEVER)
        };
        self.allowances.iter().map(of_tenant).min().unwrap_or(NEVER)
    }
}
