//! What asks for more tokens than are left, and what is closed for it so that it keeps its turn.

use super::Scheduler;
use super::choose::Candidate;
use super::promote::Turn;
use crate::TicketId;
use crate::backend::Closing;
use crate::group::Route;
use crate::opening::Opening;

impl Scheduler {
    /// The routes whose token limits let the head in. If none does, those backends or its model there are closed until
    /// another may be the first.
    pub(super) fn within_limits(&mut self, routes: Vec<Route>, head: &Candidate) -> Vec<Route> {
        assert!(!routes.is_empty(), "an open bucket has a backend that takes it");
        let open: Vec<Route> = routes.iter().filter(|&&route| self.admits(route, head)).copied().collect();
        if open.is_empty() {
            for route in routes {
                self.close_for(route, head);
            }
        }
        open
    }

    fn admits(&self, route: Route, head: &Candidate) -> bool {
        let tokens = self.tickets[head.ticket.slot()].limited_tokens();
        self.backends[route.backend as usize].admits(self.now_ns, route.model_slot, tokens)
    }

    fn close_for(&mut self, route: Route, head: &Candidate) {
        let (ticket, tenant) = (&self.tickets[head.ticket.slot()], self.flows.flow(head.flow).tenant);
        let backend = &mut self.backends[route.backend as usize];
        if !backend.limits.admits(self.now_ns, ticket.limited_tokens()) {
            return backend.close_for(ticket, tenant, None);
        }
        let model = self.groups[head.group].key.model;
        self.drop_reservation_where(route.backend, |slot| slot.model == model);
        let ticket = &self.tickets[head.ticket.slot()];
        self.backends[route.backend as usize].close_for(ticket, tenant, Some(route.model_slot));
    }

    /// At the start of a poll: opens what is closed by limits, but for models that who is first there would only close
    /// again, which would cost a choice each.
    pub(super) fn refresh_limits(&mut self) {
        let mut closed = Vec::new();
        for (at, backend) in (0..).zip(&mut self.backends).filter(|(_, backend)| backend.is_limited()) {
            let of_models = backend.closings.drain(..).filter_map(|closing| {
                Some((Route { backend: at, model_slot: closing.model_slot? }, closing.ticket))
            });
            closed.extend(of_models);
            backend.refresh_limits(self.now_ns);
        }
        for (route, ticket) in closed {
            if let Some(head) = self.first_of_model(ticket)
                && self.takes(route, &head)
                && !self.admits(route, &head)
            {
                self.close_for(route, &head);
            }
        }
    }

    /// The ticket as a head, if it comes before all that waits for its model for certain.
    fn first_of_model(&self, ticket: TicketId) -> Option<Candidate> {
        let ticket = &self.tickets[self.tickets.find(ticket)?];
        let (slot, group) = (ticket.group, &self.groups[ticket.group]);
        let mut groups = (0..=ticket.class).flat_map(|class| self.groups.of_model(class, group.key.model));
        let is_by_rank = !self.class_shares.has_any()
            && !self.limits_models
            && self.tenant_limits.is_empty()
            && self.max_wait_ns(slot) == 0;
        if !is_by_rank || groups.any(|other| other.key != group.key && !other.tenants.is_empty()) {
            return None;
        }
        let (_, tenant) = group.tenants.first(Opening::ALL)?;
        let (_, flow) = self.flows.tenant(tenant).cell(slot)?.flows.first(Opening::ALL)?;
        let (score, bucket) = self.flows.flow(flow).queue(slot)?.best(group, self.now_ns, |_| true)?;
        let head = self.candidate(flow, slot, bucket, score);
        (head.ticket == ticket.id && !self.is_beyond_horizon(&head)).then_some(head)
    }

    /// After a release another prompt may be the first where one that does not fit has closed a backend or a model. It is
    /// looked at again, so a poll leaves nothing that the next one would find; but not in vain, for that costs a choice
    /// each.
    ///
    /// Within a poll nothing gets room but by a reservation that ends, or where nothing is left of the backend that it
    /// was to go to instead. So who was first stays first as long as its tenant and flow do and a lane lets it in, unless
    /// least shares, promotion, models in memory, limits of its tenant or two policies in its flow have a say.
    pub(super) fn reopen_after(&mut self, released: &Candidate, turn: Turn, route: Route) {
        if self.backends.iter().all(|backend| backend.closings.is_empty()) {
            return;
        }
        let is_used_up = self.backends[route.backend as usize].models[route.model_slot as usize].is_paused();
        let is_limited = self.tenant_limits.find(self.tenant_of(released.ticket.slot())).is_some();
        let is_by_rank = turn == Turn::Ordinary
            && !self.class_shares.has_any()
            && !self.limits_models
            && !is_used_up
            && !is_limited;
        let tenant = self.flows.flow(released.flow).tenant;
        let (is_tenant_first, is_flow_first) = self.are_still_first(released);
        let is_first = |closing: &Closing| {
            closing.ticket != released.ticket
                && (closing.tenant != tenant
                    || is_tenant_first && (closing.flow != released.flow || is_flow_first))
        };
        for backend in &mut self.backends {
            backend.reopen(self.now_ns, |closing| !is_by_rank || !is_first(closing));
        }
    }

    /// Whether no other tenant of its class has come before that of a prompt by its release, nor another flow of its
    /// tenant before its own, nor within that a prompt of another policy.
    fn are_still_first(&self, released: &Candidate) -> (bool, bool) {
        let flow = self.flows.flow(released.flow);
        let tenant = self.flows.tenant(flow.tenant);
        let (rank, flow_rank) = (tenant.account.rank, flow.account.rank);
        let groups = self.groups.of_class(released.class).iter();
        let mut tenants = groups.filter_map(|&slot| self.groups[slot].tenants.first(Opening::ALL));
        let mut policies = flow.queues.iter().map(|queue| self.groups[queue.group].policy);
        let mut flows = tenant.cells.iter().filter_map(|cell| cell.flows.first(Opening::ALL));
        (
            rank == released.tenant || tenants.all(|(first, _)| rank <= first),
            (flow_rank == released.flow_rank || flows.all(|(first, _)| flow_rank <= first))
                && policies.all(|policy| policy == released.policy),
        )
    }
}
