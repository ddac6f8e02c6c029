//! The choice: which bucket head goes next, among those that some backend can take.

use super::Scheduler;
use crate::CLASSES;
use crate::bucket_set::BucketSet;
use crate::ticket::TicketId;

/// A bucket head with its score at this moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) score: f64,
    pub(super) ticket: TicketId,
    pub(super) class: u8,
    pub(super) group: u32,
    pub(super) bucket: u8,
}

impl Candidate {
    /// Strict class order, then score, then arrival.
    pub(super) fn outranks(&self, other: &Self) -> bool {
        if self.class != other.class {
            return self.class < other.class;
        }
        self.score > other.score || (self.score >= other.score && self.ticket < other.ticket)
    }
}

impl Scheduler {
    /// The best head of the highest class that some backend can take.
    pub(super) fn choose(&self) -> Option<Candidate> {
        (0..CLASSES as u8).find_map(|class| {
            let mut best: Option<Candidate> = None;
            for &slot in self.groups.of_class(class) {
                let candidate = self.best_of(slot, self.open(slot));
                if let Some(candidate) = candidate
                    && best.is_none_or(|best| candidate.outranks(&best))
                {
                    best = Some(candidate);
                }
            }
            best
        })
    }

    /// The waiting buckets that at least one backend can take from this group.
    pub(super) fn open(&self, slot: u32) -> BucketSet {
        let group = &self.groups[slot];
        if group.nonempty().is_empty() {
            return BucketSet::EMPTY;
        }
        let mut open = BucketSet::EMPTY;
        for route in &group.routes {
            let backend = &self.backends[route.backend as usize];
            if backend.has_slot(route.model_slot) {
                open = open.union(backend.open_to(slot, group.key.class));
            }
        }
        group.nonempty().intersection(open)
    }

    /// The waiting buckets that only a short budget (or what it is kept for) keeps back.
    pub(super) fn unfit(&self, slot: u32) -> BucketSet {
        let group = &self.groups[slot];
        let mut budgeted = BucketSet::EMPTY;
        for route in &group.routes {
            let backend = &self.backends[route.backend as usize];
            if backend.has_slot(route.model_slot) {
                budgeted = budgeted.union(backend.lanes.budgeted());
            }
        }
        group.nonempty().intersection(budgeted).difference(self.open(slot))
    }

    /// The best-scored head of the given non-empty buckets.
    pub(super) fn best_of(&self, slot: u32, buckets: BucketSet) -> Option<Candidate> {
        let group = &self.groups[slot];
        let mut best = (f64::NEG_INFINITY, None);
        buckets.for_each(|bucket| {
            let score = group.score(bucket, self.now_ns);
            if score > best.0 {
                best = (score, Some(bucket));
            } else if score >= best.0
                && best.1.is_none_or(|best| self.head_id(slot, bucket) < self.head_id(slot, best))
            {
                best.1 = Some(bucket);
            }
        });
        best.1.map(|bucket| self.candidate(slot, bucket))
    }

    pub(super) fn candidate(&self, slot: u32, bucket: u8) -> Candidate {
        let group = &self.groups[slot];
        Candidate {
            score: group.score(bucket, self.now_ns),
            ticket: self.head_id(slot, bucket),
            class: group.key.class,
            group: slot,
            bucket,
        }
    }

    fn head_id(&self, slot: u32, bucket: u8) -> TicketId {
        self.tickets[self.groups[slot].head(bucket)].id
    }
}
