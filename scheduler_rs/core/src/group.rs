//! Waiting tickets that may go to the same backends: one class, one model, one set of excluded backends.

use crate::bucket_set::BucketSet;
use crate::fifo::{BUCKET, Fifo};
use crate::policy::Line;
use crate::slab::Slab;
use crate::ticket::{NEVER, NONE, Place, TicketId};
use crate::token_buckets::COUNT;
use crate::{BackendId, ModelId};
use std::collections::BTreeSet;

/// A flow (tenant, batch) will be one more field here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    pub(crate) class: u8,
    pub(crate) model: ModelId,
    /// Ascending.
    pub(crate) excluded: Vec<BackendId>,
}

/// A backend that the group's tickets may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Position of the backend.
    pub(crate) backend: u32,
    /// Position of the model within it.
    pub(crate) model_slot: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct HeadScore {
    arrival_ns: u64,
    /// The score as a function of the head's wait.
    line: Line,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) key: GroupKey,
    /// Tickets that name this group, waiting or in flight.
    pub(crate) users: u32,
    pub(crate) queued: u32,
    pub(crate) queued_tokens: u64,
    pub(crate) routes: Vec<Route>,
    /// Since when none of the routes is available.
    pub(crate) down_since_ns: Option<u64>,
    pub(crate) timer_ns: u64,
    nonempty: BucketSet,
    heads: Vec<u32>,
    /// What a scan needs of each bucket, so that it touches no ticket.
    scores: Vec<HeadScore>,
    fresh: Vec<Fifo<BUCKET>>,
    /// Tickets that came back out of order: a set, so that a thousand returns cost a thousand logarithms, not walks.
    returned: BTreeSet<(u8, TicketId)>,
}

impl Group {
    pub(crate) fn new(key: GroupKey) -> Self {
        Self {
            key,
            users: 0,
            queued: 0,
            queued_tokens: 0,
            routes: Vec::new(),
            down_since_ns: None,
            timer_ns: NEVER,
            nonempty: BucketSet::EMPTY,
            heads: vec![NONE; COUNT],
            scores: vec![HeadScore::default(); COUNT],
            fresh: vec![Fifo::EMPTY; COUNT],
            returned: BTreeSet::new(),
        }
    }

    pub(crate) fn nonempty(&self) -> BucketSet {
        self.nonempty
    }

    pub(crate) fn head(&self, bucket: u8) -> u32 {
        self.heads[usize::from(bucket)]
    }

    pub(crate) fn head_arrival_ns(&self, bucket: u8) -> u64 {
        self.scores[usize::from(bucket)].arrival_ns
    }

    pub(crate) fn score(&self, bucket: u8, now_ns: u64) -> f64 {
        let head = &self.scores[usize::from(bucket)];
        head.line.at(now_ns - head.arrival_ns)
    }

    /// New scores for all buckets.
    pub(crate) fn set_lines(&mut self, lines: impl Iterator<Item = Line>) {
        for (score, line) in self.scores.iter_mut().zip(lines) {
            score.line = line;
        }
    }

    /// Appends a ticket that arrived after all that are here.
    pub(crate) fn push_fresh(&mut self, tickets: &mut Slab, slot: u32) {
        let bucket = tickets[slot].bucket;
        tickets[slot].place = Place::Fresh;
        self.fresh[usize::from(bucket)].push_back(tickets, slot);
        if !self.nonempty.contains(bucket) {
            self.set_head(tickets, bucket, slot);
        }
    }

    /// Puts a ticket back where its arrival belongs.
    pub(crate) fn push_returned(&mut self, tickets: &mut Slab, slot: u32) {
        let (bucket, id) = (tickets[slot].bucket, tickets[slot].id);
        tickets[slot].place = Place::Returned;
        self.returned.insert((bucket, id));
        if !self.nonempty.contains(bucket) || id < tickets[self.head(bucket)].id {
            self.set_head(tickets, bucket, slot);
        }
    }

    /// Takes a fresh or returned ticket out of its bucket; the caller says where it is now.
    pub(crate) fn take(&mut self, tickets: &mut Slab, slot: u32) {
        let (bucket, id) = (tickets[slot].bucket, tickets[slot].id);
        match tickets[slot].place {
            Place::Fresh => self.fresh[usize::from(bucket)].remove(tickets, slot),
            place => {
                debug_assert_eq!(place, Place::Returned);
                self.returned.remove(&(bucket, id));
            }
        }
        if self.head(bucket) == slot {
            self.find_head(tickets, bucket);
        }
    }

    fn find_head(&mut self, tickets: &Slab, bucket: u8) {
        let fresh = self.fresh[usize::from(bucket)].head;
        let returned = if self.returned.is_empty() {
            None
        } else {
            self.returned.range((bucket, TicketId(0))..=(bucket, TicketId(u64::MAX))).next()
        };
        match (fresh, returned) {
            (NONE, None) => {
                self.nonempty.remove(bucket);
                self.heads[usize::from(bucket)] = NONE;
            }
            (NONE, Some(&(_, id))) => self.set_head(tickets, bucket, id.slot()),
            (fresh, Some(&(_, id))) if id < tickets[fresh].id => self.set_head(tickets, bucket, id.slot()),
            (fresh, _) => self.set_head(tickets, bucket, fresh),
        }
    }

    fn set_head(&mut self, tickets: &Slab, bucket: u8, slot: u32) {
        self.nonempty.insert(bucket);
        self.heads[usize::from(bucket)] = slot;
        self.scores[usize::from(bucket)].arrival_ns = tickets[slot].arrival_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::Ticket;

    fn group() -> Group {
        Group::new(GroupKey { class: 1, model: 0, excluded: Vec::new() })
    }

    fn drain(group: &mut Group, tickets: &mut Slab, bucket: u8) -> Vec<u32> {
        let mut order = Vec::new();
        while group.nonempty().contains(bucket) {
            let slot = group.head(bucket);
            group.take(tickets, slot);
            order.push(slot);
        }
        order
    }

    /// Tickets that come back in any order leave by arrival, between the fresh ones.
    #[test]
    fn returned_by_arrival() {
        let (mut group, mut tickets) = (group(), Slab::default());
        let slots: Vec<u32> = (0..6).map(|_| tickets.insert(Ticket { bucket: 70, ..Ticket::FREE })).collect();
        for &slot in &slots {
            group.push_fresh(&mut tickets, slot);
        }
        for slot in [4, 1, 5, 0] {
            group.take(&mut tickets, slot);
        }
        for slot in [5, 0, 4, 1] {
            group.push_returned(&mut tickets, slot);
        }
        assert_eq!(group.head(70), 0);
        assert_eq!(drain(&mut group, &mut tickets, 70), [0, 1, 2, 3, 4, 5]);
        assert!(group.nonempty().is_empty());
    }

    /// Buckets do not mix.
    #[test]
    fn buckets_are_apart() {
        let (mut group, mut tickets) = (group(), Slab::default());
        for bucket in [3, 4, 3] {
            let slot = tickets.insert(Ticket { bucket, ..Ticket::FREE });
            group.push_fresh(&mut tickets, slot);
        }
        group.take(&mut tickets, 1);
        group.push_returned(&mut tickets, 1);
        assert_eq!(drain(&mut group, &mut tickets, 3), [0, 2]);
        assert_eq!(drain(&mut group, &mut tickets, 4), [1]);
    }
}
