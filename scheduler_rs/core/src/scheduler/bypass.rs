//! Unfit heads: what only a short budget keeps back may be passed by a sixteenth of it, then room is kept for it.

use super::Scheduler;
use super::choose::Candidate;
use crate::TicketId;
use crate::group::Route;
use crate::opening::Opening;
use crate::reservation::Reservation;
use crate::ticket::Lane;
use crate::token_buckets::edge;

impl Scheduler {
    /// Charges a release into a short lane to the unfit heads that it passes; returns these in the order in which room
    /// is kept for them, when several have been passed by enough: that of their flows, and in one flow who came first.
    pub(super) fn count_bypass(&mut self, chosen: &Candidate, backend: u32) -> Vec<TicketId> {
        let lanes = &self.backends[backend as usize].lanes;
        if lanes.budgeted() == 0 || lanes.lane_of(chosen.bucket()) == Lane::Long {
            return Vec::new();
        }
        let mut passed = Vec::new();
        for class in 0..=chosen.class {
            for at in 0..self.groups.of_class(class).len() {
                let group = self.groups.of_class(class)[at];
                // Most of the time all short buckets are open.
                if self.groups[group].opening.below >= self.budgeted_max {
                    continue;
                }
                if let Some(head) = self.passed_head(group, chosen, backend) {
                    let course = self.tickets.course_mut(head.ticket.slot());
                    course.bypassed = course.bypassed.saturating_add(edge(chosen.bucket()));
                    passed.push(head);
                }
            }
        }
        passed.sort_unstable_by_key(|head| (head.flow_place(), head.ticket));
        passed.into_iter().map(|head| head.ticket).collect()
    }

    /// The group's best unfit head, if `chosen` passes it on its way to `backend`.
    fn passed_head(&mut self, group: u32, chosen: &Candidate, backend: u32) -> Option<Candidate> {
        let here = &self.groups[group];
        let may_go = |&route: &Route| route.backend == backend && self.may_go(here, route);
        if here.tenants.is_empty() || !here.routes.iter().any(may_go) {
            return None;
        }
        loop {
            let head = self.unfit_head(group, chosen).filter(|head| head.outranks(chosen))?;
            if !self.park_held(head.flow, head.group, head.key) {
                return Some(head);
            }
        }
    }

    /// The best unfit head of the flow that has had least, or of the chosen flow itself.
    ///
    /// A flow before the chosen one has no head that could go, so all that it has in short buckets is unfit.
    fn unfit_head(&self, group: u32, chosen: &Candidate) -> Option<Candidate> {
        let budgeted = self.budgeted(group);
        if self.unfit(group, budgeted).is_empty() {
            return None;
        }
        let short = Opening::first(budgeted);
        let (_, tenant) = self.groups[group].tenants.first(short)?;
        let (_, flow) = self.flows.tenant(tenant).cell(group)?.flows.first(short)?;
        let class = self.groups[group].key.class;
        let ranks = (class, self.flows.tenant(tenant).account.rank, self.flows.flow(flow).account.rank);
        if ranks < (chosen.class, chosen.tenant, chosen.flow_rank) {
            self.best_unfit(flow, group, budgeted)
        } else {
            self.best_unfit(chosen.flow, group, budgeted)
        }
    }

    /// Keeps the short lane of one backend for a ticket that was passed by a sixteenth of that lane's budget, or, with
    /// `promoted`, for one that promotion has made due. Returns whether a new reservation was made.
    pub(super) fn reserve(&mut self, id: TicketId, promoted: bool) -> bool {
        let ticket = &self.tickets[id.slot()];
        if ticket.reserved || self.flows.tenant_of(ticket.flow).is_closed {
            return false;
        }
        let (group, flow, class) = (ticket.group, ticket.flow, ticket.class);
        let (bucket, bypassed) = (ticket.bucket(), self.tickets.course_of(ticket).bypassed);
        let of_group = &self.groups[group];
        let candidates = of_group.routes.iter().filter(|&&route| {
            let backend = &self.backends[route.backend as usize];
            self.may_go(of_group, route)
                && backend.has_slot(route.model_slot)
                && bucket < backend.lanes.budgeted()
                && (promoted || bypassed >= backend.lanes.bypass_limit())
                && backend.reservation.is_none_or(|kept| class < kept.class)
        });
        let least = candidates.min_by_key(|route| self.backends[route.backend as usize].lanes.short_tokens());
        let Some(backend) = least.map(|route| route.backend) else { return false };
        self.clear_reservation(backend);
        let kept = Reservation { ticket: id, class, group, flow, bucket };
        let backend = &mut self.backends[backend as usize];
        backend.reservation = Some(kept);
        backend.reopen_all(self.now_ns);
        self.tickets[id.slot()].reserved = true;
        self.may_keep_room = true;
        true
    }

    /// The ticket no longer waits in its bucket, so nothing is kept for it.
    pub(super) fn drop_reservation_of(&mut self, slot: u32) {
        if !self.tickets[slot].reserved {
            return;
        }
        let id = self.tickets[slot].id;
        self.tickets[slot].reserved = false;
        for backend in &mut self.backends {
            if backend.reservation.take_if(|kept| kept.ticket == id).is_some() {
                backend.reopen_all(self.now_ns);
            }
        }
    }

    /// The ticket waits in another flow now; what is kept for it stays kept.
    pub(super) fn move_reservation_of(&mut self, slot: u32, flow: u32) {
        if !self.tickets[slot].reserved {
            return;
        }
        let id = self.tickets[slot].id;
        let kept = self.backends.iter_mut().filter_map(|backend| backend.reservation.as_mut());
        for kept in kept.filter(|kept| kept.ticket == id) {
            kept.flow = flow;
        }
    }

    /// Before each choice: room kept for a prompt that cannot come would keep back the others in vain. Returns whether
    /// there was any; where all is full, nobody looks.
    pub(super) fn drop_vain_reservations(&mut self) -> bool {
        let mut any = false;
        if !self.may_have_room || !self.may_keep_room {
            return any;
        }
        self.may_keep_room = false;
        for at in 0..self.backends.len() as u32 {
            let Some(kept) = self.backends[at as usize].reservation else { continue };
            if self.may_come(at, &kept) {
                self.may_keep_room = true;
            } else {
                self.clear_reservation(at);
                any = true;
            }
        }
        any
    }

    /// Whether nothing keeps a prompt from the backend that keeps room for it while others may go there. So full caps and
    /// what closes the whole backend do not count: room given up for them would go to a smaller prompt each time.
    fn may_come(&self, at: u32, kept: &Reservation) -> bool {
        let ticket = &self.tickets[kept.ticket.slot()];
        let group = &self.groups[kept.group];
        let backend = &self.backends[at as usize];
        let mut routes = group.routes.iter().filter(|route| route.backend == at);
        !self.flows.tenant_of(kept.flow).is_closed
            && ticket.index < self.batches[ticket.batch].horizon
            && routes.any(|&route| {
                self.may_go(group, route) && backend.models[route.model_slot as usize].is_open()
            })
    }

    pub(super) fn clear_reservation(&mut self, backend: u32) {
        let backend = &mut self.backends[backend as usize];
        if let Some(kept) = backend.reservation.take() {
            backend.reopen_all(self.now_ns);
            self.tickets[kept.ticket.slot()].reserved = false;
        }
    }
}
