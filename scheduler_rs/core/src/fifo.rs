//! The tickets of a bucket in order: a doubly linked list through the slab, with constant-time append and removal from
//! anywhere.

use crate::slab::Slab;
use crate::ticket::{Links, NONE};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Fifo {
    head: u32,
    tail: u32,
}

impl Fifo {
    pub(crate) const EMPTY: Self = Self { head: NONE, tail: NONE };

    pub(crate) fn first(self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    pub(crate) fn tail(self) -> Option<u32> {
        (self.tail != NONE).then_some(self.tail)
    }

    pub(crate) fn push_back(&mut self, tickets: &mut Slab, slot: u32) {
        tickets[slot].links = Links { prev: self.tail, next: NONE };
        match self.tail {
            NONE => self.head = slot,
            tail => tickets[tail].links.next = slot,
        }
        self.tail = slot;
    }

    /// The ticket's own links stay what they were.
    pub(crate) fn remove(&mut self, tickets: &mut Slab, slot: u32) {
        let Links { prev, next } = tickets[slot].links;
        match prev {
            NONE => self.head = next,
            prev => tickets[prev].links.next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => tickets[next].links.prev = prev,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::Ticket;

    fn drain(fifo: &mut Fifo, tickets: &mut Slab) -> Vec<u32> {
        let mut order = Vec::new();
        while let Some(slot) = fifo.first() {
            fifo.remove(tickets, slot);
            order.push(slot);
        }
        order
    }

    /// Removal from the front, the middle and the back keeps the order of the others.
    #[test]
    fn remove_anywhere() {
        let mut tickets = Slab::default();
        let mut fifo = Fifo::EMPTY;
        let slots: Vec<u32> = (0..5).map(|_| tickets.insert(Ticket::FREE)).collect();
        for &slot in &slots {
            fifo.push_back(&mut tickets, slot);
        }
        for gone in [2, 0, 4] {
            fifo.remove(&mut tickets, gone);
        }
        assert_eq!((fifo.first(), fifo.tail()), (Some(1), Some(3)));
        assert_eq!(drain(&mut fifo, &mut tickets), [1, 3]);
        assert_eq!(fifo.tail(), None);
        for slot in [4, 2] {
            fifo.push_back(&mut tickets, slot);
        }
        assert_eq!(drain(&mut fifo, &mut tickets), [4, 2]);
    }
}
