//! Where a prompt can go now, and what keeps it back if it cannot.

use super::{Host, Item, Law, MINUTE, Reference, Where};

/// What keeps a prompt from a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    NotServed,
    Unavailable,
    Excluded,
    /// It failed the last attempt, and another backend is open.
    Avoided,
    /// It refuses the model, and another backend is up for the prompt.
    Refusing,
    Cap,
    ModelCap,
    /// Its model's soft cap there, after a rate limit.
    Ramp,
    GlobalCap,
    /// It holds as many models as it may, and runs them.
    Memory,
    LongLane,
    ShortLane,
    Paused,
    Breaker,
    RequestsPerMinute,
    TokensPerMinute,
    /// Its provider has none left.
    RequestsLeft,
    /// Its provider has none, or too few, left.
    TokensLeft,
    TenantRequests,
    TenantTokens,
}

impl Obstacle {
    /// The law that a release in spite of it breaks.
    pub(crate) fn law(self) -> Law {
        match self {
            Self::NotServed | Self::Unavailable => Law::OwnConstraints,
            Self::Excluded | Self::Avoided => Law::Retries,
            Self::Cap | Self::ModelCap | Self::Ramp | Self::GlobalCap | Self::Memory => Law::Caps,
            Self::LongLane | Self::ShortLane => Law::Lanes,
            Self::Paused
            | Self::Breaker
            | Self::Refusing
            | Self::RequestsPerMinute
            | Self::TokensPerMinute
            | Self::RequestsLeft
            | Self::TokensLeft
            | Self::TenantRequests
            | Self::TenantTokens => Law::LimitsAndOrder,
        }
    }

    pub(crate) fn is_of_tenant(self) -> bool {
        matches!(self, Self::TenantRequests | Self::TenantTokens)
    }

    /// Whether it keeps back what asks for many tokens, and not what asks for few.
    pub(crate) fn is_of_tokens(self) -> bool {
        matches!(self, Self::TokensPerMinute | Self::TokensLeft)
    }
}

impl Host {
    pub(crate) fn requests_within(&self, now_ns: u64, window_ns: u64) -> usize {
        self.requests.iter().filter(|&&at_ns| at_ns + window_ns > now_ns).count()
    }

    pub(crate) fn tokens_within(&self, now_ns: u64, window_ns: u64) -> u64 {
        let recent = self.tokens.iter().filter(|counted| counted.at_ns + window_ns > now_ns);
        recent.map(|counted| counted.tokens).sum()
    }

    pub(crate) fn avoided_until_ns(&self, model: u32) -> u64 {
        let known = self.pausable.iter().find(|known| known.model == model);
        known.map_or(0, |known| known.avoided_until_ns)
    }

    fn is_avoided(&self, now_ns: u64, model: u32) -> bool {
        self.avoided_until_ns(model) > now_ns
    }

    pub(crate) fn paused_until_ns(&self, model: u32) -> u64 {
        let paused = self.pausable.iter().find(|pausable| pausable.model == model);
        paused.map_or(0, |pausable| pausable.paused_until_ns)
    }
}

impl Reference {
    /// Everything that keeps the prompt from the backend now, with windows `slack_ns` longer than a minute.
    pub(crate) fn obstacles(&self, item: &Item, host: &Host, slack_ns: u64) -> Vec<Obstacle> {
        let (server, request) = (&host.server, &item.request);
        let Some(&(_, model_cap)) = server.models.iter().find(|&&(model, _)| model == request.model) else {
            return vec![Obstacle::NotServed];
        };
        let here = || self.at_host(host.id);
        let of_model = here().filter(|(other, _)| other.request.model == request.model).count();
        let is_long = host.is_long(item);
        let window_ns = MINUTE + slack_ns;
        let (tokens, used) = (item.limited_tokens(), host.tokens_within(self.now_ns, window_ns));
        let is_met = [
            (Obstacle::Unavailable, !server.available),
            (Obstacle::Excluded, item.excludes(host.id)),
            (Obstacle::Avoided, item.avoided == Some(host.id) && self.is_open_elsewhere(item, host)),
            (
                Obstacle::Refusing,
                host.is_avoided(self.now_ns, request.model) && self.is_served_elsewhere(item, host),
            ),
            (Obstacle::Cap, here().count() >= server.cap as usize),
            (Obstacle::ModelCap, model_cap > 0 && of_model >= model_cap as usize),
            (Obstacle::Ramp, of_model >= host.cap_of(request.model)),
            (
                Obstacle::GlobalCap,
                self.rules.in_flight_limit > 0
                    && self.in_flight().count() >= self.rules.in_flight_limit as usize,
            ),
            (Obstacle::Memory, self.has_no_place(host, item)),
            (Obstacle::LongLane, server.lanes && is_long && self.long_lane_is_full(host)),
            (Obstacle::ShortLane, server.lanes && !is_long && self.short_lane_is_full(host, item)),
            (Obstacle::Breaker, host.is_broken()),
            (Obstacle::Paused, host.paused_until_ns(request.model) > self.now_ns),
            (
                Obstacle::RequestsPerMinute,
                server.requests_per_min > 0
                    && host.requests_within(self.now_ns, window_ns) >= server.requests_per_min as usize,
            ),
            // What is above a whole limit goes alone.
            (
                Obstacle::TokensPerMinute,
                server.tokens_per_min > 0 && used > 0 && used + tokens > server.tokens_per_min,
            ),
        ];
        let [no_requests, no_tokens] = host.lacks_until_ns(self.now_ns, request.model, tokens);
        let left =
            [(Obstacle::RequestsLeft, no_requests.is_some()), (Obstacle::TokensLeft, no_tokens.is_some())];
        let is_met = is_met.into_iter().chain(left).chain(self.tenant_obstacles(item, slack_ns));
        is_met.filter(|&(_, is_met)| is_met).map(|(obstacle, _)| obstacle).collect()
    }

    fn is_open_elsewhere(&self, item: &Item, host: &Host) -> bool {
        let mut others = self.up_elsewhere(item, host);
        others.any(|other| !other.is_paused(self.now_ns, item.request.model))
    }

    fn is_served_elsewhere(&self, item: &Item, host: &Host) -> bool {
        self.up_elsewhere(item, host).next().is_some()
    }

    /// The other backends that it may go to, up and not refusing its model.
    fn up_elsewhere(&self, item: &Item, host: &Host) -> impl Iterator<Item = &Host> {
        let (here, model, now_ns) = (host.id, item.request.model, self.now_ns);
        let excludes = |backend| item.excludes(backend);
        self.hosts.iter().filter(move |other| {
            other.id != here
                && other.is_up()
                && other.server.serves(model)
                && !excludes(other.id)
                && !other.is_avoided(now_ns, model)
        })
    }

    pub(crate) fn short_tokens(&self, backend: u32) -> u64 {
        let shorts = self.at_host(backend).filter(|(_, flight)| flight.in_prefill && !flight.is_long);
        shorts.map(|(item, _)| u64::from(item.edge)).sum()
    }

    /// Whether nothing but its backends keeps a waiting prompt back.
    pub(crate) fn is_ready(&self, item: &Item) -> bool {
        self.is_due(item) && !self.is_beyond_horizon(item) && !self.is_barred(item)
    }

    pub(crate) fn is_due(&self, item: &Item) -> bool {
        matches!(item.at, Where::Waiting { not_before_ns, .. } if not_before_ns <= self.now_ns)
    }

    pub(crate) fn is_beyond_horizon(&self, item: &Item) -> bool {
        item.request.index >= self.group(item.batch).horizon
    }

    /// Whether an earlier prompt of its batch must end first. Those submitted later have larger numbers.
    pub(crate) fn is_barred(&self, item: &Item) -> bool {
        self.items.iter().any(|other| {
            other.batch == item.batch
                && other.id < item.id
                && (item.request.sequential || other.request.sequential)
        })
    }

    /// Whether some backend could take it now for certain, as far as the model can tell: none whose short lane may be
    /// kept for another, none that may be closed for a larger prompt before it. `keepers` are prompts for which a lane
    /// may have been kept for a moment, `too_large` those of [`Reference::too_large_for_now`].
    pub(crate) fn certain_host(
        &self,
        item: &Item,
        keepers: &[&Item],
        too_large: &[(u32, &Item)],
    ) -> Option<&Host> {
        let may_be_closed = |host: &Host| {
            too_large.iter().any(|(backend, large)| {
                *backend == host.id
                    && self.may_be_before(large, item)
                    && (large.request.model == item.request.model || host.server.tokens_per_min > 0)
            })
        };
        self.hosts.iter().find(|host| {
            !self.is_of_closed_tenant(item)
                && !self.may_be_kept(host, item, keepers)
                && !self.may_be_shut(host, item)
                && self.obstacles(item, host, super::WINDOW_SLACK_NS).is_empty()
                && !may_be_closed(host)
        })
    }

    /// The prompts that tokens alone, those of a minute or those that a provider has left, or their tenant's limits too,
    /// keep from a backend, with it: a poll may have closed it for them since the last release, for a moment too.
    pub(crate) fn too_large_for_now(&self) -> Vec<(u32, &Item)> {
        let is_too_large = |host: &Host, item: &Item| {
            let only_that = |obstacle: &Obstacle| obstacle.is_of_tokens() || obstacle.is_of_tenant();
            self.obstacles(item, host, 0).iter().all(only_that)
                && self.obstacles(item, host, super::WINDOW_SLACK_NS).into_iter().any(Obstacle::is_of_tokens)
        };
        let ready: Vec<&Item> = self.waiting().filter(|item| self.is_ready(item)).collect();
        let of = |host: &Host| -> Vec<(u32, &Item)> {
            ready.iter().filter(|item| is_too_large(host, item)).map(|&item| (host.id, item)).collect()
        };
        self.hosts.iter().flat_map(of).collect()
    }

    /// Whether a prompt may have been met before another one that could go.
    pub(crate) fn may_be_before(&self, item: &Item, other: &Item) -> bool {
        let (class, of_other) = (item.request.class, other.request.class);
        if class != of_other {
            return class < of_other || self.rules.class_min_shares[class as usize] > 0.0;
        }
        if self.is_same_flow(item, other) {
            let is_behind = self.order_of(item) == self.order_of(other) && self.is_before(other, item);
            return !is_behind || self.is_overdue(item);
        }
        self.shares.is_lost || self.share_rank(item) < self.share_rank(other)
    }

    /// Prompts for which this release may end what was kept for them in the same poll: it leaves nothing of what the
    /// backend's provider had left of their model.
    pub(crate) fn kept_till_now(&self, chosen: &Item, backend: u32) -> Vec<&Item> {
        let model = chosen.request.model;
        let spends = |host: &&Host| host.is_spent_by(self.now_ns, model, chosen.limited_tokens());
        let Some(host) = self.host(backend).filter(spends) else { return Vec::new() };
        let of_model = self.waiting().filter(|item| item.id != chosen.id && item.request.model == model);
        of_model.filter(|item| self.is_ready(item) && self.has_earned_room(item, host)).collect()
    }

    /// Whether a lane may be kept for it.
    pub(crate) fn has_earned_room(&self, item: &Item, host: &Host) -> bool {
        item.passed_tokens >= u64::from(host.short_budget()) / 16 || self.is_overdue(item)
    }

    fn may_be_kept(&self, host: &Host, item: &Item, keepers: &[&Item]) -> bool {
        let server = &host.server;
        if !server.lanes || host.short_budget() == 0 || host.is_long(item) {
            return false;
        }
        let is_before = |keeper: &Item| keeper.request.class <= item.request.class;
        let kept = self.report.kept.iter().filter(|&&(backend, _)| backend == host.id);
        let reported = kept.filter_map(|&(_, id)| self.item(id)).any(is_before);
        reported
            || keepers.iter().any(|keeper| {
                is_before(keeper)
                    && keeper.id != item.id
                    && server.serves(keeper.request.model)
                    && self.obstacles(keeper, host, 0).contains(&Obstacle::ShortLane)
            })
    }
}
