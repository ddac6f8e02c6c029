//! Requests and tokens per minute of a tenant, over all its classes.

use super::place::Obstacle;
use super::{Closed, Counted, End, Host, Item, Law, MINUTE, NEVER, Reference, Seen, Used, WINDOW_SLACK_NS};

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
        if (requests_per_min, tokens_per_min) == (0, 0) {
            if self.allowances.remove(&tenant).is_some() {
                self.lift_closing(tenant);
            }
            return;
        }
        self.outdate_closing(tenant);
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

    /// Whether a tenant's limit of requests is reached, with windows `slack_ns` longer than a minute.
    pub(crate) fn is_out_of_requests(&self, tenant: u32, slack_ns: u64) -> bool {
        self.allowances.get(&tenant).is_some_and(|allowance| {
            let since = |&&at_ns: &&u64| at_ns + MINUTE + slack_ns > self.now_ns;
            let released = allowance.released.iter().filter(since).count();
            allowance.requests_per_min > 0 && released >= allowance.requests_per_min as usize
        })
    }

    fn allowance(&self, item: &Item) -> Option<&Allowance> {
        self.allowances.get(&self.group(item.batch).terms.tenant)
    }

    /// What its tenant's limits keep back now, with windows `slack_ns` longer than a minute.
    pub(crate) fn tenant_obstacles(&self, item: &Item, slack_ns: u64) -> [(Obstacle, bool); 2] {
        let since = |at_ns: u64| at_ns + MINUTE + slack_ns > self.now_ns;
        let has_request = !self.is_out_of_requests(self.group(item.batch).terms.tenant, slack_ns);
        let mut has_tokens = true;
        if let Some(allowance) = self.allowance(item) {
            let recent = allowance.counted.iter().filter(|counted| since(counted.at_ns));
            let used: u64 = recent.map(|counted| counted.tokens).sum();
            let limit = allowance.tokens_per_min;
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
        self.reconsider(tenant);
        let Some(allowance) = self.allowances.get_mut(&tenant) else { return };
        // One attempt after another may be released at the same time: this is the last.
        let its_own = |counted: &&mut Counted| counted.item == item.id && counted.at_ns == flight.released_ns;
        if let Some(counted) = allowance.counted.iter_mut().rfind(its_own) {
            counted.tokens = used;
        }
    }

    /// A tenant that is said to be closed has something that its limits keep back, and opens at a time to come.
    pub(crate) fn check_closed_tenants(&mut self, seen: &Seen) {
        for &(tenant, closed, until_ns) in &seen.closed_tenants {
            let obstacle = match closed {
                Closed::Requests => Obstacle::TenantRequests,
                _ => Obstacle::TenantTokens,
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

    /// Whether what is said to be closed is the whole tenant, for a prompt above the tokens that are left.
    pub(crate) fn is_of_closed_tenant(&self, item: &Item) -> bool {
        self.report.is_out_of_tokens(self.group(item.batch).terms.tenant)
    }

    /// By when the scheduler must be asked again about prompts that only their tenant's limits keep back, and about all
    /// of a tenant that is closed: by tenant for the one that takes longest, since a large prompt may keep smaller ones
    /// back.
    pub(crate) fn tenants_open_by_ns(&self) -> u64 {
        let of_tenant = |(&tenant, allowance): (&u32, &Allowance)| {
            let own = self.waiting().filter(|item| self.group(item.batch).terms.tenant == tenant);
            let waits =
                own.filter(|item| self.is_of_closed_tenant(item) || self.only_tenant_keeps_back(item));
            let opens = waits.map(|item| allowance.opens_by_ns(item.limited_tokens()));
            // What is open but for the slack waits for something else, unless the tenant is said to be closed.
            let is_closed = self.report.is_out_of_tokens(tenant);
            let from_ns = self.now_ns + if is_closed { 0 } else { WINDOW_SLACK_NS };
            opens.filter(|&at_ns| at_ns > from_ns).max().unwrap_or(NEVER)
        };
        self.allowances.iter().map(of_tenant).min().unwrap_or(NEVER)
    }

    fn only_tenant_keeps_back(&self, item: &Item) -> bool {
        // What closes a whole backend has its own time.
        let only_tenant = |host: &Host| {
            let obstacles = self.obstacles(item, host, WINDOW_SLACK_NS);
            !self.report.closed.contains(&host.id)
                && !self.may_be_shut(host, item)
                && obstacles.iter().all(|obstacle| obstacle.is_of_tenant())
        };
        self.is_ready(item) && self.report.kept.is_empty() && self.hosts.iter().any(only_tenant)
    }
}

impl Allowance {
    /// By when both limits let in a prompt of so many tokens, if nothing else is released.
    fn opens_by_ns(&self, tokens: u64) -> u64 {
        let mut ends: Vec<u64> = self.released.iter().map(|at_ns| at_ns + MINUTE).collect();
        ends.sort_unstable();
        let limit = self.requests_per_min as usize;
        let at = ends.len().checked_sub(limit).filter(|_| limit > 0);
        let mut opens_ns = at.map_or(0, |at| ends[at]);
        let mut left: u64 = self.counted.iter().map(|counted| counted.tokens).sum();
        for counted in &self.counted {
            let fits = left == 0 || left + tokens <= self.tokens_per_min;
            if self.tokens_per_min == 0 || fits {
                break;
            }
            left -= counted.tokens;
            opens_ns = opens_ns.max(counted.at_ns + MINUTE);
        }
        opens_ns + WINDOW_SLACK_NS
    }
}
