//! The tickets, in numbered slots that are used again.

use crate::ticket::{Links, Place, SLOTS_MAX, Ticket, TicketId};
use crate::tight;
use std::ops::{Index, IndexMut};

#[derive(Debug, Default)]
pub(crate) struct Slab {
    slots: Vec<Ticket>,
    /// Of each ticket in its bucket and in its batch: apart, so that a change at one ticket finds those of its
    /// neighbours in little memory.
    links: Vec<[Links; 2]>,
    free: Vec<u32>,
    serial: u64,
}

impl Slab {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn room(&self) -> usize {
        SLOTS_MAX - self.len()
    }

    /// Stores a ticket under a new id; the caller has checked that there is room.
    pub(crate) fn insert(&mut self, mut ticket: Ticket) -> u32 {
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        self.serial += 1;
        ticket.id = TicketId::new(self.serial, slot);
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = ticket;
        } else {
            tight::push(&mut self.slots, ticket);
            tight::push(&mut self.links, [Links::NONE; 2]);
        }
        slot
    }

    pub(crate) fn links(&self, slot: u32, list: usize) -> Links {
        self.links[slot as usize][list]
    }

    pub(crate) fn links_mut(&mut self, slot: u32, list: usize) -> &mut Links {
        &mut self.links[slot as usize][list]
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        // All else is written when the slot is used again.
        let gone = &mut self.slots[slot as usize];
        (gone.id, gone.place) = (TicketId::NONE, Place::Free);
        self.free.push(slot);
        if self.len() == 0 {
            self.release_memory();
        }
    }

    /// The slot of a ticket that has not ended.
    pub(crate) fn find(&self, id: TicketId) -> Option<u32> {
        let slot = id.slot();
        self.slots.get(slot as usize).filter(|ticket| ticket.id == id).map(|_| slot)
    }

    /// All tickets that have not ended, by slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Ticket)> {
        (0..).zip(&self.slots).filter(|(_, ticket)| ticket.place != Place::Free)
    }

    /// Memory goes back only when nothing waits or runs: until then slots are numbers that others hold.
    fn release_memory(&mut self) {
        const KEPT: usize = 4_096;
        if self.slots.len() > KEPT {
            self.slots = Vec::new();
            self.links = Vec::new();
            self.free = Vec::new();
        }
    }
}

impl Index<u32> for Slab {
    type Output = Ticket;

    fn index(&self, slot: u32) -> &Ticket {
        &self.slots[slot as usize]
    }
}

impl IndexMut<u32> for Slab {
    fn index_mut(&mut self, slot: u32) -> &mut Ticket {
        &mut self.slots[slot as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting() -> Ticket {
        Ticket { place: Place::InFifo, ..Ticket::FREE }
    }

    /// A slot that is used again has a new id, and the old id finds nothing.
    #[test]
    fn ids_are_never_used_twice() {
        let mut slab = Slab::default();
        let first = slab.insert(waiting());
        let other = slab.insert(waiting());
        let first_id = slab[first].id;
        slab.remove(first);
        let again = slab.insert(waiting());
        assert_eq!(again, first);
        assert_eq!(slab.find(first_id), None);
        assert!(slab[again].id > slab[other].id);
    }

    /// A large slab gives its memory back when the last ticket has ended.
    #[test]
    fn memory_goes_back() {
        let mut slab = Slab::default();
        let slots: Vec<u32> = (0..10_000).map(|_| slab.insert(waiting())).collect();
        let last_id = slab[9_999].id;
        for &slot in &slots {
            slab.remove(slot);
        }
        assert_eq!(slab.slots.capacity(), 0);
        let next = slab.insert(waiting());
        assert!(slab[next].id > last_id);
    }
}
