//! The tickets of a batch, in the order in which they came: what ends stays on the roll until somebody looks, so that an
//! end costs nothing.

use crate::slab::Slab;
use crate::ticket::TicketId;
use std::collections::VecDeque;

/// A ticket in one of its waits; it may have come again since.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: TicketId,
    wait: u32,
}

impl Entry {
    /// The slot of a ticket that has neither ended nor come again.
    fn slot(self, tickets: &Slab) -> Option<u32> {
        tickets.find(self.id).filter(|&slot| tickets.course(slot).wait == self.wait)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Roll {
    entries: VecDeque<Entry>,
}

impl Roll {
    /// Room for the first ones, of which so many come together.
    pub(crate) fn reserve(&mut self, count: usize) {
        if self.entries.is_empty() {
            self.entries.reserve_exact(count);
        }
    }

    /// Puts a ticket last; `unfinished` are in its batch.
    pub(crate) fn push(&mut self, tickets: &Slab, slot: u32, unfinished: u32) {
        const SMALL: usize = 64;
        if self.entries.len() >= SMALL + 2 * unfinished as usize {
            self.drop_ended(tickets);
        }
        self.entries.push_back(Entry { id: tickets[slot].id, wait: tickets.course(slot).wait });
    }

    /// Those that have not ended, in order; what has ended is passed for the last time.
    pub(crate) fn unfinished(&mut self, tickets: &Slab) -> impl Iterator<Item = u32> {
        self.drop_ended(tickets);
        self.iter(tickets)
    }

    fn drop_ended(&mut self, tickets: &Slab) {
        self.entries.retain(|entry| entry.slot(tickets).is_some());
    }

    /// Those that have not ended, in order.
    pub(crate) fn iter(&self, tickets: &Slab) -> impl Iterator<Item = u32> {
        self.entries.iter().filter_map(|entry| entry.slot(tickets))
    }

    /// The first that waits. What ended before it goes, so that nothing is passed again and again but what is in flight.
    pub(crate) fn first_queued(&mut self, tickets: &Slab) -> Option<u32> {
        let (mut first, mut passed) = (None, Vec::new());
        while let Some(&entry) = self.entries.front() {
            let slot = entry.slot(tickets);
            first = slot.filter(|&slot| tickets[slot].is_queued());
            if first.is_some() {
                break;
            }
            passed.extend(slot.map(|_| entry));
            self.entries.pop_front();
        }
        passed.into_iter().rev().for_each(|entry| self.entries.push_front(entry));
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::{Place, Ticket};

    fn roll_of(tickets: &mut Slab, count: u32) -> (Roll, Vec<u32>) {
        let mut roll = Roll::default();
        let slots: Vec<u32> = (0..count).map(|_| tickets.insert(Ticket::FREE)).collect();
        for (unfinished, &slot) in (1..).zip(&slots) {
            roll.push(tickets, slot, unfinished);
        }
        (roll, slots)
    }

    /// What ends or comes again anywhere keeps the order of the others.
    #[test]
    fn in_order() {
        let mut tickets = Slab::default();
        let (mut roll, slots) = roll_of(&mut tickets, 6);
        for gone in [2, 0, 4] {
            tickets.remove(slots[gone]);
        }
        assert!(roll.iter(&tickets).eq([1, 3, 5]));
        assert_eq!(roll.entries.len(), 6);
        assert!(roll.unfinished(&tickets).eq([1, 3, 5]));
        assert_eq!(roll.entries.len(), 3);
        tickets.course_mut(1).wait += 1;
        roll.push(&tickets, 1, 3);
        assert!(roll.iter(&tickets).eq([3, 5, 1]));
    }

    /// What is in flight keeps its place before the first that waits, and what ended before that goes.
    #[test]
    fn the_first_that_waits() {
        let mut tickets = Slab::default();
        let (mut roll, slots) = roll_of(&mut tickets, 6);
        (tickets[slots[1]].place, tickets[slots[4]].place) = (Place::InFlight, Place::InFifo);
        (tickets[slots[3]].place, tickets[slots[5]].place) = (Place::InFlight, Place::InFifo);
        for gone in [0, 2] {
            tickets.remove(slots[gone]);
        }
        assert_eq!((roll.first_queued(&tickets), roll.entries.len()), (Some(4), 4));
        assert!(roll.iter(&tickets).eq([1, 3, 4, 5]));
        for gone in [4, 5] {
            tickets.remove(slots[gone]);
        }
        assert_eq!((roll.first_queued(&tickets), roll.entries.len()), (None, 2));
        assert!(roll.iter(&tickets).eq([1, 3]));
    }

    /// Another ticket in the slot of one that has ended is not taken for it.
    #[test]
    fn slots_used_again() {
        let mut tickets = Slab::default();
        let (mut roll, slots) = roll_of(&mut tickets, 2);
        tickets.remove(slots[0]);
        let again = tickets.insert(Ticket::FREE);
        assert_eq!(again, slots[0]);
        assert!(roll.iter(&tickets).eq([1]));
        roll.push(&tickets, again, 2);
        assert!(roll.iter(&tickets).eq([1, 0]));
    }

    /// A batch that is submitted to for ever takes no more room than what is in it.
    #[test]
    fn what_ended_goes() {
        let mut tickets = Slab::default();
        let mut roll = Roll::default();
        for _ in 0..10_000 {
            let slot = tickets.insert(Ticket::FREE);
            roll.push(&tickets, slot, 1);
            assert!(roll.entries.len() <= 66);
            tickets.remove(slot);
        }
        assert_eq!(roll.iter(&tickets).count(), 0);
    }
}
