//! What asks for more tokens than are left, and what is closed for it so that it keeps its turn.

use super::Scheduler;
use super::choose::Candidate;
use crate::backend::Closing;
use crate::group::Route;

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
        let tokens = self.tickets[head.ticket.slot()].limited_tokens();
        let tenant = self.flows.tenant_of(head.flow).id;
        let backend = &mut self.backends[route.backend as usize];
        if !backend.limits.admits(self.now_ns, tokens) {
            return backend.close_for(tokens, Closing { tenant, model_slot: None });
        }
        backend.close_for(tokens, Closing { tenant, model_slot: Some(route.model_slot) });
    }

    /// After a release another prompt may be the first where one that does not fit has closed a backend or a model. It is
    /// looked at again, so a poll leaves nothing that the next one would find; but not in vain, for that costs a choice
    /// each.
    ///
    /// A release puts its own tenant behind others, and changes whose turn it is within it. Nothing gets room by it, but
    /// the long lane there by tokens of short prompts. So what is closed for another tenant stays closed, unless the
    /// released prompt's has come before that: a greater weight counts from the next release on. Nor does it stay closed
    /// where the release fills a lane, which may keep out who was first; where it uses up a backend, so that those that
    /// were to go there may go elsewhere; or where least shares or models in memory have a say.
    pub(super) fn reopen_after(&mut self, released: &Candidate, route: Route) {
        let tenant = self.flows.tenant_of(released.flow);
        let (tenant, has_moved_up) = (tenant.id, tenant.account.rank < released.tenant);
        let is_used_up = self.backends[route.backend as usize].models[route.model_slot as usize].is_paused();
        let concerns_all = has_moved_up || is_used_up || self.class_shares.has_any() || self.limits_models;
        for (at, backend) in (0..).zip(&mut self.backends) {
            let fills_lane = at == route.backend && backend.config.lanes;
            backend.reopen(self.now_ns, |closing| concerns_all || fills_lane || closing.tenant == tenant);
        }
    }
}
