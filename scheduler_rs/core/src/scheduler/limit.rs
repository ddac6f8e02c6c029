//! Rate limits and pauses of backends: which is closed, until when, and who is told.

use super::Scheduler;
use super::choose::Candidate;
use super::promote::Turn;
use crate::group::Route;
use crate::opening::Opening;
use crate::ticket::NEVER;
use crate::timers::Owner;
use crate::{BackendId, Decisions, Error, Holder, LimitKind, Limited, ModelId, Prompt};

impl Scheduler {
    /// Releases nothing to a backend, or to one model of it, before `until_ns` (what a Retry-After asks for).
    ///
    /// The later of two pauses counts; an earlier time than now lifts it. An unknown backend or model is ignored.
    pub fn pause(&mut self, now_ns: u64, backend: BackendId, model: Option<ModelId>, until_ns: u64) {
        self.advance(now_ns);
        let Some(&slot) = self.backends_by_id.get(&backend) else { return };
        self.has_limits = true;
        self.may_have_room = true; // at a backend that was avoided for this one
        let now_ns = self.now_ns;
        for of_model in &mut self.backends[slot as usize].models {
            if model.is_none_or(|model| of_model.model == model) {
                let is_lifted = until_ns <= now_ns;
                of_model.paused_until_ns = if is_lifted { 0 } else { of_model.paused_until_ns.max(until_ns) };
            }
        }
        self.backends[slot as usize].refresh_pauses(now_ns);
        if let Some((_, until_ns)) = self.backends[slot as usize].closed() {
            self.arm_backend(slot, until_ns);
        }
    }

    /// A prompt that no backend of its model could ever take is refused before it waits.
    pub(super) fn check_limits(&self, prompt: &Prompt) -> Result<(), Error> {
        if !self.limits_tokens {
            return Ok(());
        }
        let serving = self.backends.iter().filter(|backend| backend.serves(prompt.model).is_some());
        let tokens = prompt.limited_tokens();
        let mut largest = None;
        for backend in serving {
            match backend.config.tokens_per_min {
                0 => return Ok(()),
                limit => largest = largest.max(Some(limit)),
            }
        }
        match largest {
            Some(limit) if tokens > limit => Err(Error::AboveLimit { tokens, limit, tenant: None }),
            _ => Ok(()),
        }
    }

    pub(super) fn refresh_limits(&mut self) {
        for backend in &mut self.backends {
            if backend.is_limited() {
                backend.refresh_limits(self.now_ns);
            }
        }
    }

    /// The routes whose token limits let the head in. If none does, those backends are closed until the next
    /// release.
    pub(super) fn within_limits(&mut self, routes: Vec<Route>, head: &Candidate) -> Vec<Route> {
        assert!(!routes.is_empty(), "an open bucket has a backend that takes it");
        let (now_ns, tokens) = (self.now_ns, self.tickets[head.ticket.slot()].limited_tokens());
        let mut admits = |route: &&Route| {
            let backend = &mut self.backends[route.backend as usize];
            backend.limits.admits(now_ns, tokens) && backend.has_left(now_ns, route.model_slot, tokens)
        };
        let open: Vec<Route> = routes.iter().filter(&mut admits).copied().collect();
        if open.is_empty() {
            let tenant = self.tenant_of(head.ticket.slot());
            for route in routes {
                let backend = &mut self.backends[route.backend as usize];
                if backend.limits.admits(now_ns, tokens) {
                    backend.close_told(route.model_slot, tenant);
                    self.drop_spent_reservation(route.backend);
                } else {
                    backend.limits.close_for(tokens);
                    backend.closed_for = (tenant, head.ticket);
                }
            }
        }
        open
    }

    /// After a release another prompt may be the first where one that does not fit has closed a backend. It is looked
    /// at again, so a poll leaves nothing that the next one would find; but not in vain, for that costs a choice each.
    ///
    /// Within a poll nothing gets room but by a reservation that ends, which opens its backend by itself. So who was
    /// first stays first as long as its tenant and flow do, unless least shares, promotion or models in memory have a
    /// say.
    pub(super) fn reopen_for_tokens(&mut self, released: &Candidate, turn: Turn) {
        let is_by_rank = turn == Turn::Ordinary && !self.class_shares.has_any() && !self.limits_models;
        let is_by_rank_first = is_by_rank && self.is_still_first(released);
        let tenant = self.tenant_of(released.ticket.slot());
        for backend in &mut self.backends {
            if backend.is_spent {
                backend.refresh_told(self.now_ns);
            }
            let (closed_for, first) = backend.closed_for;
            let is_first = is_by_rank_first || is_by_rank && closed_for != tenant;
            if !is_first || first == released.ticket {
                backend.reopen_for_tokens(self.now_ns);
            }
        }
    }

    /// Whether no other tenant of its class, nor flow of its tenant, has come before that of a prompt by its release.
    fn is_still_first(&self, released: &Candidate) -> bool {
        let flow = self.flows.flow(released.flow);
        let tenant = self.flows.tenant(flow.tenant);
        let (rank, flow_rank) = (tenant.account.rank, flow.account.rank);
        if (rank, flow_rank) == (released.tenant, released.flow_rank) {
            return true;
        }
        let groups = self.groups.of_class(released.class).iter();
        let mut tenants = groups.filter_map(|&slot| self.groups[slot].tenants.first(Opening::ALL));
        let mut flows = tenant.cells.iter().filter_map(|cell| cell.flows.first(Opening::ALL));
        tenants.all(|(first, _)| rank <= first) && flows.all(|(first, _)| flow_rank <= first)
    }

    /// Sets timers for what is closed while anything waits, and tells what has not been told.
    pub(super) fn report_limits(&mut self, out: &mut Decisions) {
        if self.counters.queued == 0 {
            return;
        }
        for slot in 0..self.backends.len() {
            if self.backends[slot].is_spent {
                self.report_spent(slot as u32, out);
            }
            let closed = self.backends[slot].closed();
            // While probes are out, their end is what is waited for.
            let closed = closed.filter(|&(_, until_ns)| until_ns < NEVER);
            let Some(closed) = closed else { continue };
            let backend = &self.backends[slot];
            let is_told = backend.limits.reported.is_told(self.now_ns, closed.0);
            let is_noted = backend.timer_ns <= closed.1 && is_told;
            if is_noted || !self.waits_for(slot as u32) {
                continue;
            }
            let backend = &mut self.backends[slot];
            if let Some((kind, reset_at_ns)) = backend.limits.reported.news(self.now_ns, closed) {
                out.limited.push(Limited { holder: Holder::Backend(backend.id), kind, reset_at_ns });
            }
            self.arm_backend(slot as u32, closed.1);
        }
    }

    fn waits_for(&self, backend: u32) -> bool {
        let mut groups = self.groups.iter().filter(|(_, group)| group.queued > 0);
        groups.any(|(_, group)| group.routes.iter().any(|route| route.backend == backend))
    }

    pub(super) fn arm_backend(&mut self, slot: u32, due_ns: u64) {
        let backend = &mut self.backends[slot as usize];
        if due_ns > self.now_ns {
            self.timers.arm(&mut backend.timer_ns, due_ns, Owner::Backend(slot));
        }
    }

    /// What the attempt really used takes the place of its estimate in the window.
    pub(super) fn settle_limits(&mut self, slot: u32, used_tokens: u64) {
        let ticket = &self.tickets[slot];
        let tokens = &mut self.backends[ticket.backend as usize].limits.tokens;
        tokens.settle(ticket.counted_in, ticket.released_ns, ticket.limited_tokens(), used_tokens);
        let model = self.groups[ticket.group].key.model;
        let backend = &mut self.backends[ticket.backend as usize];
        backend.settle_told(model, ticket.given, ticket.limited_tokens(), used_tokens);
    }
}

impl LimitKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Requests, Self::Tokens, Self::Pause, Self::Breaker, Self::RequestsLeft, Self::TokensLeft];

    /// The name in metrics and across the language boundary.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_min",
            Self::Tokens => "tokens_per_min",
            Self::Pause => "pause",
            Self::Breaker => "breaker",
            Self::RequestsLeft => "requests_left",
            Self::TokensLeft => "tokens_left",
        }
    }
}
