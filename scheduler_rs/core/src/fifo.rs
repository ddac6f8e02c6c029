//! Doubly linked lists through the slots of the slab: constant-time append and removal from anywhere.

use crate::slab::Slab;
use crate::ticket::{Links, NONE};

/// The links of a ticket in its bucket.
pub(crate) const BUCKET: usize = 0;
/// The links of a ticket in its batch.
pub(crate) const BATCH: usize = 1;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Fifo<const CHAIN: usize> {
    head: u32,
    tail: u32,
}

impl<const CHAIN: usize> Fifo<CHAIN> {
    pub(crate) const EMPTY: Self = Self { head: NONE, tail: NONE };

    pub(crate) fn first(self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    pub(crate) fn tail(self) -> Option<u32> {
        (self.tail != NONE).then_some(self.tail)
    }

    pub(crate) fn push_back(&mut self, tickets: &mut Slab, slot: u32) {
        *tickets.links_mut(slot, CHAIN) = Links { prev: self.tail, next: NONE };
        match self.tail {
            NONE => self.head = slot,
            tail => tickets.links_mut(tail, CHAIN).next = slot,
        }
        self.tail = slot;
    }

    pub(crate) fn remove(&mut self, tickets: &mut Slab, slot: u32) {
        let Links { prev, next } = tickets.links(slot, CHAIN);
        match prev {
            NONE => self.head = next,
            prev => tickets.links_mut(prev, CHAIN).next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => tickets.links_mut(next, CHAIN).prev = prev,
        }
        *tickets.links_mut(slot, CHAIN) = Links::NONE;
    }

    /// The slots in order.
    pub(crate) fn iter(self, tickets: &Slab) -> impl Iterator<Item = u32> {
        let some = |slot| (slot != NONE).then_some(slot);
        std::iter::successors(some(self.head), move |&slot| some(tickets.links(slot, CHAIN).next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::Ticket;

    /// Removal from the front, the middle and the back keeps the order of the others.
    #[test]
    fn remove_anywhere() {
        let mut tickets = Slab::default();
        let mut fifo = Fifo::<BUCKET>::EMPTY;
        let slots: Vec<u32> = (0..5).map(|_| tickets.insert(Ticket::FREE)).collect();
        for &slot in &slots {
            fifo.push_back(&mut tickets, slot);
        }
        for gone in [2, 0, 4] {
            fifo.remove(&mut tickets, gone);
        }
        assert!(fifo.iter(&tickets).eq([1, 3]));
        fifo.remove(&mut tickets, 1);
        fifo.remove(&mut tickets, 3);
        assert_eq!(fifo.iter(&tickets).count(), 0);
        fifo.push_back(&mut tickets, 4);
        assert!(fifo.iter(&tickets).eq([4]));
    }
}
