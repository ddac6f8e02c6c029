//! Promotion: an overdue ticket takes the turn of the policy's choice when its flow has earned it.

use super::Scheduler;
use super::choose::Candidate;
use crate::token_buckets::edge;

/// What the next release is to the promotion account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Ordinary,
    /// It passes an overdue ticket.
    PassesOverdue,
    Promoted,
}

impl Scheduler {
    /// Who goes instead of `best`; none when room was reserved for an overdue ticket and all must be looked at again.
    pub(super) fn promote(&mut self, best: Candidate) -> Option<(Candidate, Turn)> {
        let Some((overdue, open)) = self.oldest_overdue(best.flow) else {
            return Some((best, Turn::Ordinary));
        };
        if overdue.ticket == best.ticket {
            return Some((best, Turn::Ordinary));
        }
        if !self.flows.flow(best.flow).passed.afford(edge(overdue.bucket())) {
            return Some((best, Turn::PassesOverdue));
        }
        if open {
            return Some((overdue, Turn::Promoted));
        }
        if self.park_held(overdue.flow, overdue.group, overdue.key) {
            return None;
        }
        // Once a release: where backends' models in memory depend on each other, its own may be shut out again at once,
        // and the room be gone, for ever.
        if !self.made_room.contains(&overdue.ticket) && self.reserve(overdue.ticket, true) {
            self.made_room.push(overdue.ticket);
            return None;
        }
        Some((best, Turn::PassesOverdue))
    }

    pub(super) fn settle_turn(&mut self, chosen: &Candidate, turn: Turn) {
        let charge = edge(chosen.bucket());
        let passed = &mut self.flows.flow_mut(chosen.flow).passed;
        match turn {
            Turn::Ordinary => {}
            Turn::PassesOverdue => passed.passed_over(charge),
            Turn::Promoted => passed.promoted(charge),
        }
    }

    /// The wait after which a ticket of this group is overdue; 0 = never.
    pub(super) fn max_wait_ns(&self, group: u32) -> u64 {
        match self.config.max_wait_ns {
            0 => self.groups[group].policy.default_max_wait_ns(),
            max_wait_ns => max_wait_ns,
        }
    }

    /// The overdue head of this flow that arrived first, if it is open or unfit, and whether it is open.
    fn oldest_overdue(&self, flow: u32) -> Option<(Candidate, bool)> {
        let mut oldest: Option<(Candidate, bool)> = None;
        for queue in &self.flows.flow(flow).queues {
            let max_wait_ns = self.max_wait_ns(queue.group);
            if max_wait_ns == 0 {
                continue;
            }
            let budgeted = self.budgeted(queue.group);
            for bucket in queue.buckets() {
                let wait_ns = self.now_ns - self.tickets[bucket.head.slot()].arrival_ns;
                if wait_ns <= max_wait_ns {
                    continue;
                }
                let candidate = self.candidate(flow, queue.group, bucket, 0.0);
                if oldest.is_some_and(|(oldest, _)| oldest.ticket < candidate.ticket) {
                    continue;
                }
                let open = self.is_open(&candidate);
                if open || candidate.bucket() < budgeted {
                    oldest = Some((candidate, open));
                }
            }
        }
        oldest
    }
}
