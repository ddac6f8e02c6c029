//! Moves that several calls share: into the queue, out of it, and the end of a ticket.

use super::Scheduler;
use crate::estimates::ServiceTime;
use crate::group::{Group, GroupKey};
use crate::groups::{lines, routes};
use crate::ticket::{NONE, Place};
use crate::{HistogramName, ModelId, Outcome};

/// The length by which the fastest backend is found.
const TYPICAL_TOKENS: f64 = 2_048.0;

impl Scheduler {
    /// The group with this key, made when it is new.
    pub(super) fn group_for(&mut self, key: GroupKey) -> u32 {
        if let Some(slot) = self.groups.find(&key) {
            return slot;
        }
        let slot = self.groups.insert(key);
        self.route(slot);
        slot
    }

    /// Works out where a group's tickets may go, how they score, and whether that is down.
    pub(super) fn route(&mut self, slot: u32) {
        let routes = routes(&self.groups[slot].key, &self.backends, &self.backends_by_id);
        let (class, model) = (self.groups[slot].key.class, self.groups[slot].key.model);
        let policy = self.ordering.find(class, model).unwrap_or(self.config.policy);
        let fastest = self.fastest(model);
        let group: &mut Group = &mut self.groups[slot];
        group.routes = routes;
        group.set_lines(policy, lines(policy, fastest.as_ref()));
        self.note_if_down(slot);
    }

    /// Notes since when nothing that the group's tickets may go to is up.
    pub(super) fn note_if_down(&mut self, slot: u32) {
        let group = &mut self.groups[slot];
        if group.routes.iter().any(|route| self.backends[route.backend as usize].is_up()) {
            group.down_since_ns = None;
        } else if group.down_since_ns.is_none() {
            group.down_since_ns = Some(self.now_ns);
            self.arm_group(slot);
        }
    }

    /// The service time at the model's fastest backend, available or not: one curve, so that all its scores compare.
    pub(super) fn fastest(&self, model: ModelId) -> Option<ServiceTime> {
        let serving = self.backends.iter().filter(|backend| backend.serves(model).is_some());
        let times = serving.map(|backend| backend.estimates.scored());
        times.min_by(|a, b| a.at(TYPICAL_TOKENS).total_cmp(&b.at(TYPICAL_TOKENS))).copied()
    }

    /// Counts a ticket that waits from now on.
    pub(super) fn count_queued(&mut self, slot: u32) {
        let ticket = &self.tickets[slot];
        let (batch, tokens) = (ticket.batch, u64::from(ticket.tokens));
        let group = &mut self.groups[ticket.group];
        group.queued += 1;
        group.queued_tokens += tokens;
        self.batches[batch].queued += 1;
        self.counters.queued += 1;
    }

    /// Takes a waiting ticket from wherever it waits: to be released, or for another reason.
    pub(super) fn take_queued(&mut self, slot: u32, is_release: bool) {
        let ticket = &self.tickets[slot];
        let (group, batch) = (ticket.group, ticket.batch);
        self.groups[group].queued -= 1;
        self.groups[group].queued_tokens -= u64::from(ticket.tokens);
        self.batches[batch].queued -= 1;
        self.counters.queued -= 1;
        match ticket.place {
            Place::InFifo | Place::InOrder => {
                self.leave_backlog(slot, is_release);
                self.flows.take(&mut self.groups, &mut self.tickets, slot, is_release);
            }
            Place::Barred => _ = self.batches[batch].barred.remove(&ticket.id),
            Place::Held => {
                self.batches[batch].held.remove(&(ticket.index, slot));
                self.counters.held -= 1;
            }
            Place::RetryWait => self.counters.retry_waiting -= 1,
            Place::Free | Place::InFlight => unreachable!("the ticket does not wait"),
        }
        self.drop_reservation_of(slot);
    }

    /// Puts a ticket that is neither waiting in a bucket nor in flight back into its bucket.
    pub(super) fn return_to_bucket(&mut self, slot: u32) {
        self.tickets[slot].key = self.key_of(slot);
        self.flows.push(&mut self.groups, &mut self.tickets, slot);
        self.enter_backlog(slot);
    }

    /// Ends a waiting ticket.
    pub(super) fn end_queued(&mut self, slot: u32, outcome: Outcome) {
        self.take_queued(slot, false);
        self.end(slot, outcome);
    }

    /// The one end of a ticket that is out of the queue and holds no slot.
    pub(super) fn end(&mut self, slot: u32, outcome: Outcome) {
        let ticket = &self.tickets[slot];
        let (batch, group, class) = (ticket.batch, ticket.group, ticket.class);
        let total_ns = self.now_ns - ticket.arrival_ns;
        let course = self.tickets.course(slot);
        let histograms = match course.backend {
            NONE => &mut self.counters.unreleased,
            backend => &mut self.backends[backend as usize].counters.histograms,
        };
        histograms.record(HistogramName::Total, class, total_ns);
        self.counters.outcomes[outcome as usize] += 1;
        self.drain_rate.record(self.now_ns, 1);
        if matches!(outcome, Outcome::Success | Outcome::Failed) {
            self.finish_rate.record(self.now_ns, 1);
        }
        self.timers.disarm(course.timer_ns);
        self.groups[group].users -= 1;
        self.leave_flow(slot);
        self.tickets.remove(slot);
        self.leave_batch(batch);
    }

    fn leave_batch(&mut self, slot: u32) {
        let batch = &mut self.batches[slot];
        batch.len -= 1;
        if batch.len > 0 {
            self.lift_barrier(slot);
            return;
        }
        self.timers.disarm(batch.timer_ns);
        self.drop_flows(slot);
        self.batches.remove(slot);
    }
}
