//! Promotion: an overdue ticket takes the turn of the policy's choice when its class has earned it.

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
        if !self.promotion.is_on() {
            return Some((best, Turn::Ordinary));
        }
        let Some((overdue, open)) = self.oldest_overdue(best.class) else {
            return Some((best, Turn::Ordinary));
        };
        if overdue.ticket == best.ticket {
            return Some((best, Turn::Ordinary));
        }
        if !self.promotion.affords(best.class, edge(overdue.bucket)) {
            return Some((best, Turn::PassesOverdue));
        }
        if open {
            return Some((overdue, Turn::Promoted));
        }
        if self.park_held(overdue.group, overdue.bucket) || self.reserve(overdue.ticket, true) {
            return None;
        }
        Some((best, Turn::PassesOverdue))
    }

    pub(super) fn settle_turn(&mut self, chosen: &Candidate, turn: Turn) {
        let charge = edge(chosen.bucket);
        match turn {
            Turn::Ordinary => {}
            Turn::PassesOverdue => self.promotion.passed_over(chosen.class, charge),
            Turn::Promoted => self.promotion.promoted(chosen.class, charge),
        }
    }

    /// The overdue head of this class that arrived first, if it is open or unfit, and whether it is open.
    fn oldest_overdue(&self, class: u8) -> Option<(Candidate, bool)> {
        let mut oldest: Option<(Candidate, bool)> = None;
        for &slot in self.groups.of_class(class) {
            let (open, unfit) = (self.open(slot), self.unfit(slot));
            open.union(unfit).for_each(|bucket| {
                let wait_ns = self.now_ns - self.groups[slot].head_arrival_ns(bucket);
                if !self.promotion.is_overdue(wait_ns) {
                    return;
                }
                let candidate = self.candidate(slot, bucket);
                if oldest.is_none_or(|(oldest, _)| candidate.ticket < oldest.ticket) {
                    oldest = Some((candidate, open.contains(bucket)));
                }
            });
        }
        oldest
    }
}
