//! The waiting tickets of one flow in one group, by bucket: constant-time entry and exit, heads in one small list.

use crate::fifo::Fifo;
use crate::group::Group;
use crate::opening::Span;
use crate::slab::Slab;
use crate::ticket::{Place, TicketId};
use crate::tight;
use std::collections::BTreeSet;

/// What tickets of one bucket have in common, in one number that sorts by prompt tokens first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BucketKey(u32);

impl BucketKey {
    pub(crate) const fn new(tokens: u8, cost: u8, is_dated: bool) -> Self {
        Self((tokens as u32) << 16 | (cost as u32) << 8 | is_dated as u32)
    }

    /// The bucket of its prompt tokens: decides where a ticket fits.
    pub(crate) fn tokens(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// The bucket of what the policy takes for its size.
    pub(crate) fn cost(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Whether it has a deadline that the policy goes by.
    pub(crate) fn is_dated(self) -> bool {
        self.0 & 1 == 1
    }
}

/// One non-empty bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    pub(crate) key: BucketKey,
    /// [`TicketId::NONE`] where it is yet to be read.
    pub(crate) head: TicketId,
    /// What the policy measures the head's wait from: its arrival, or the deadline of a dated one.
    pub(crate) since_ns: u64,
    fifo: Fifo,
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) group: u32,
    /// Descending by key: the smallest mostly go first, and what leaves the end moves nothing.
    buckets: Vec<Bucket>,
    /// Tickets that came out of order: a set, so that a thousand returns cost a thousand logarithms, not walks.
    sorted: BTreeSet<(BucketKey, u64, TicketId)>,
    /// No head's wait began before.
    oldest_ns: u64,
    /// Whether all are measured from their arrival and none costs less than its prompt.
    is_plain: bool,
}

/// The order within a bucket.
fn place_in_bucket(tickets: &Slab, slot: u32) -> (u64, TicketId) {
    let ticket = &tickets[slot];
    (if ticket.key.is_dated() { tickets.course(slot).due_ns } else { 0 }, ticket.id)
}

fn since_ns(tickets: &Slab, slot: u32) -> u64 {
    let ticket = &tickets[slot];
    if ticket.key.is_dated() { tickets.course(slot).due_ns } else { ticket.arrival_ns }
}

impl Queue {
    pub(crate) fn new(group: u32) -> Self {
        Self { group, buckets: Vec::new(), sorted: BTreeSet::new(), oldest_ns: u64::MAX, is_plain: true }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Ascending by key.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.iter().rev()
    }

    pub(crate) fn find(&self, key: BucketKey) -> Option<&Bucket> {
        self.place_of(key).ok().map(|at| &self.buckets[at])
    }

    /// Where the bucket is, or belongs.
    fn place_of(&self, key: BucketKey) -> Result<usize, usize> {
        match self.buckets.last() {
            Some(least) if least.key == key => Ok(self.buckets.len() - 1),
            _ => self.buckets.binary_search_by(|bucket| key.cmp(&bucket.key)),
        }
    }

    /// The queue is not empty.
    pub(crate) fn span(&self) -> Span {
        let (high, low) = (self.buckets[0].key.tokens(), self.buckets[self.buckets.len() - 1].key.tokens());
        Span { low, high }
    }

    pub(crate) fn push(&mut self, tickets: &mut Slab, slot: u32) {
        let (key, place, since_ns) =
            (tickets[slot].key, place_in_bucket(tickets, slot), since_ns(tickets, slot));
        let place_of = self.place_of(key);
        if let Ok(at) = place_of {
            self.read_head_at(tickets, at);
        }
        self.oldest_ns = self.oldest_ns.min(since_ns);
        self.is_plain &= !key.is_dated() && key.cost() >= key.tokens();
        let bucket = match place_of {
            Ok(at) => &mut self.buckets[at],
            Err(at) => {
                let bucket = Bucket { key, head: place.1, since_ns, fifo: Fifo::EMPTY };
                tight::insert(&mut self.buckets, at, bucket);
                &mut self.buckets[at]
            }
        };
        let tail = bucket.fifo.tail();
        if tail.is_none_or(|tail| place_in_bucket(tickets, tail) < place) {
            bucket.fifo.push_back(tickets, slot);
            tickets[slot].place = Place::InFifo;
            if tail.is_some() {
                return;
            }
        } else {
            self.sorted.insert((key, place.0, place.1));
            tickets[slot].place = Place::InOrder;
        }
        if place < place_in_bucket(tickets, bucket.head.slot()) {
            bucket.head = place.1;
            bucket.since_ns = since_ns;
        }
    }

    /// Takes a ticket out of its bucket; the caller says where it is now.
    ///
    /// After a release the head that follows is read later, by [`Self::read_head`]: it has waited long, so it is far from
    /// the processor, and is on its way meanwhile. Returns whether it is.
    pub(crate) fn take(&mut self, tickets: &mut Slab, slot: u32, is_release: bool) -> bool {
        let key = tickets[slot].key;
        let at = self.place_of(key).expect("a waiting ticket has its bucket");
        self.read_head_at(tickets, at);
        let bucket = &mut self.buckets[at];
        if tickets[slot].place == Place::InFifo {
            bucket.fifo.remove(tickets, slot);
        } else {
            debug_assert_eq!(tickets[slot].place, Place::InOrder);
            let (order, id) = place_in_bucket(tickets, slot);
            self.sorted.remove(&(key, order, id));
        }
        if bucket.head != tickets[slot].id {
            return false;
        }
        bucket.head = TicketId::NONE;
        let is_later = is_release && self.sorted.is_empty() && bucket.fifo.first().is_some();
        if !is_later {
            self.read_head_at(tickets, at);
        }
        is_later
    }

    /// Reads the head of a bucket, if there is one that is yet to be read.
    pub(crate) fn read_head(&mut self, tickets: &Slab, key: BucketKey) {
        if let Ok(at) = self.place_of(key) {
            self.read_head_at(tickets, at);
        }
    }

    #[inline]
    fn read_head_at(&mut self, tickets: &Slab, at: usize) {
        if self.buckets[at].head == TicketId::NONE {
            self.find_head(tickets, at);
        }
    }

    fn find_head(&mut self, tickets: &Slab, at: usize) {
        let bucket = &mut self.buckets[at];
        let (key, old_ns) = (bucket.key, bucket.since_ns);
        let first = bucket.fifo.first();
        let sorted = if self.sorted.is_empty() {
            None
        } else {
            let rest = self.sorted.range((key, 0, TicketId(0))..).next();
            rest.filter(|(of, _, _)| *of == key).map(|(_, _, id)| id.slot())
        };
        let head = [first, sorted].into_iter().flatten().min_by_key(|&slot| place_in_bucket(tickets, slot));
        if let Some(head) = head {
            bucket.head = tickets[head].id;
            bucket.since_ns = since_ns(tickets, head);
        } else {
            self.buckets.remove(at);
        }
        if old_ns == self.oldest_ns && self.buckets.iter().all(|bucket| bucket.since_ns > old_ns) {
            let since_ns = self.buckets.iter().map(|bucket| bucket.since_ns);
            self.oldest_ns = since_ns.min().unwrap_or(u64::MAX);
        }
    }

    /// The best score among the heads of the token buckets that fit; ties go to the lower ticket.
    ///
    /// The buckets come by size. Where scores fall with it, the scan ends as soon as no larger bucket could win even
    /// if its head were the oldest of all: in a batch, whose prompts came together, at once.
    #[inline]
    pub(crate) fn best(
        &self,
        group: &Group,
        now_ns: u64,
        fits: impl Fn(u8) -> bool,
    ) -> Option<(f64, &Bucket)> {
        let mut best: Option<&Bucket> = None;
        let mut best_score = f64::NEG_INFINITY;
        let can_end = self.is_plain && group.scores_fall();
        let longest_ns = now_ns.saturating_sub(self.oldest_ns);
        for bucket in self.buckets() {
            debug_assert_ne!(bucket.head, TicketId::NONE, "heads are read before a choice");
            if !fits(bucket.key.tokens()) {
                continue;
            }
            if can_end && group.plain_line(bucket.key.tokens()).at(longest_ns) < best_score {
                break;
            }
            let score = group.score(bucket, now_ns);
            if score > best_score {
                (best_score, best) = (score, Some(bucket));
            } else if score >= best_score && best.is_none_or(|best| bucket.head < best.head) {
                best = Some(bucket);
            }
        }
        best.map(|bucket| (best_score, bucket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::Ticket;

    fn waiting(tickets: &mut Slab, tokens: u8, due_ns: Option<u64>) -> u32 {
        let key = BucketKey::new(tokens, tokens, due_ns.is_some());
        let slot = tickets.insert(Ticket { key, ..Ticket::FREE });
        if let Some(due_ns) = due_ns {
            tickets.course_mut(slot).due_ns = due_ns;
        }
        slot
    }

    fn drain(queue: &mut Queue, tickets: &mut Slab, key: BucketKey) -> Vec<u32> {
        let mut order = Vec::new();
        while let Some(bucket) = queue.find(key) {
            let slot = bucket.head.slot();
            queue.take(tickets, slot, false);
            order.push(slot);
        }
        order
    }

    /// Tickets that come back in any order leave by arrival, between those that never left.
    #[test]
    fn returned_by_arrival() {
        let (mut queue, mut tickets) = (Queue::new(0), Slab::default());
        let slots: Vec<u32> = (0..6).map(|_| waiting(&mut tickets, 70, None)).collect();
        for &slot in &slots {
            queue.push(&mut tickets, slot);
        }
        for slot in [4, 1, 5, 0] {
            queue.take(&mut tickets, slot, false);
        }
        for slot in [5, 0, 4, 1] {
            queue.push(&mut tickets, slot);
        }
        let key = tickets[0].key;
        assert_eq!(queue.find(key).unwrap().head.slot(), 0);
        assert_eq!(drain(&mut queue, &mut tickets, key), [0, 1, 2, 3, 4, 5]);
        assert!(queue.is_empty());
    }

    /// A ticket that comes back before the head after it was read is the oldest again.
    #[test]
    fn returned_before_the_next_was_read() {
        let (mut queue, mut tickets) = (Queue::new(0), Slab::default());
        let slots = [0, 1, 2].map(|arrival_ns| {
            let slot = waiting(&mut tickets, 70, None);
            tickets[slot].arrival_ns = arrival_ns;
            queue.push(&mut tickets, slot);
            slot
        });
        assert!(queue.take(&mut tickets, slots[0], true));
        queue.push(&mut tickets, slots[0]);
        assert_eq!(queue.oldest_ns, 0);
        let key = tickets[0].key;
        assert_eq!(queue.find(key).map(|bucket| (bucket.head.slot(), bucket.since_ns)), Some((slots[0], 0)));
        assert!(queue.take(&mut tickets, slots[0], true));
        queue.read_head(&tickets, key);
        assert_eq!((queue.oldest_ns, drain(&mut queue, &mut tickets, key)), (1, vec![1, 2]));
    }

    /// Dated tickets leave by deadline, in whatever order they came.
    #[test]
    fn dated_by_deadline() {
        let (mut queue, mut tickets) = (Queue::new(0), Slab::default());
        for due_ns in [30, 10, 40, 20, 10] {
            let slot = waiting(&mut tickets, 70, Some(due_ns));
            queue.push(&mut tickets, slot);
        }
        let key = tickets[0].key;
        assert_eq!(drain(&mut queue, &mut tickets, key), [1, 4, 3, 0, 2]);
    }

    /// Buckets do not mix, and the span is that of what waits.
    #[test]
    fn buckets_are_apart() {
        let (mut queue, mut tickets) = (Queue::new(0), Slab::default());
        for bucket in [3, 4, 3] {
            let slot = waiting(&mut tickets, bucket, None);
            queue.push(&mut tickets, slot);
        }
        assert_eq!(queue.span(), Span { low: 3, high: 4 });
        queue.take(&mut tickets, 1, false);
        queue.push(&mut tickets, 1);
        let keys = [tickets[0].key, tickets[1].key];
        assert_eq!(drain(&mut queue, &mut tickets, keys[0]), [0, 2]);
        assert_eq!(queue.span(), Span { low: 4, high: 4 });
        assert_eq!(drain(&mut queue, &mut tickets, keys[1]), [1]);
    }
}
