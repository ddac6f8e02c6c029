//! The tickets, in numbered slots that are used again, each with its course if it has one.

use crate::course::Course;
use crate::slots::Slots;
use crate::ticket::{NONE, Place, SLOTS_MAX, Ticket, TicketId};
use std::ops::{Index, IndexMut};

/// Slots of a chunk.
const CHUNK: usize = 1_024;

#[derive(Debug, Default)]
pub(crate) struct Slab {
    /// They stay where they are, so that no submit waits for a million to be moved.
    chunks: Vec<Box<[Ticket; CHUNK]>>,
    /// Slots that have been used.
    slots: u32,
    free: Vec<u32>,
    courses: Slots<Course>,
    serial: u64,
}

impl Slab {
    pub(crate) fn room(&self) -> usize {
        SLOTS_MAX - self.len()
    }

    fn len(&self) -> usize {
        self.slots as usize - self.free.len()
    }

    /// Stores a ticket under a new id; the caller has checked that there is room.
    pub(crate) fn insert(&mut self, mut ticket: Ticket) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| self.new_slot());
        self.serial += 1;
        ticket.id = TicketId::new(self.serial, slot);
        self[slot] = ticket;
        slot
    }

    fn new_slot(&mut self) -> u32 {
        if self.slots as usize == self.chunks.len() * CHUNK {
            self.chunks.push(Box::new(std::array::from_fn(|_| Ticket::FREE)));
        }
        self.slots += 1;
        self.slots - 1
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        let gone = &mut self[slot];
        (gone.id, gone.place) = (TicketId::NONE, Place::Free);
        let course = gone.course;
        if course != NONE {
            self.courses.remove(course);
        }
        self.free.push(slot);
        if self.len() == 0 {
            self.release_memory();
        }
    }

    /// Memory goes back only when nothing waits or runs: until then slots are numbers that others hold.
    fn release_memory(&mut self) {
        const KEPT: usize = 4;
        if self.chunks.len() > KEPT {
            (self.chunks, self.slots, self.free) = (Vec::new(), 0, Vec::new());
        }
    }

    /// The slot of a ticket that has not ended.
    pub(crate) fn find(&self, id: TicketId) -> Option<u32> {
        let slot = id.slot();
        let ticket = self.chunks.get(slot as usize / CHUNK).map(|chunk| &chunk[slot as usize % CHUNK]);
        ticket.filter(|ticket| ticket.id == id).map(|_| slot)
    }

    /// All tickets that have not ended, by slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Ticket)> {
        let slots = self.chunks.iter().flat_map(|chunk| chunk.iter());
        (0..).zip(slots).filter(|(_, ticket)| ticket.place != Place::Free)
    }

    /// The course of a ticket, as far as it has one.
    pub(crate) fn course(&self, slot: u32) -> &Course {
        self.course_of(&self[slot])
    }

    pub(crate) fn course_of(&self, ticket: &Ticket) -> &Course {
        self.courses.get(ticket.course).unwrap_or(&Course::NONE)
    }

    /// Start of the present wait, or of the one before the attempt.
    pub(crate) fn queued_since_ns(&self, slot: u32) -> u64 {
        self[slot].arrival_ns.max(self.course(slot).queued_since_ns)
    }

    /// From now on the ticket has one.
    pub(crate) fn course_mut(&mut self, slot: u32) -> &mut Course {
        self.with_course(slot).1
    }

    /// A ticket and its course, which it has from now on.
    pub(crate) fn with_course(&mut self, slot: u32) -> (&mut Ticket, &mut Course) {
        let ticket = &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK];
        if self.courses.get(ticket.course).is_none() {
            ticket.course = self.courses.insert(Course::NONE);
        }
        let course = &mut self.courses[ticket.course];
        (ticket, course)
    }

    #[cfg(test)]
    pub(crate) fn courses(&self) -> usize {
        self.courses.len()
    }
}

impl Index<u32> for Slab {
    type Output = Ticket;

    fn index(&self, slot: u32) -> &Ticket {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

impl IndexMut<u32> for Slab {
    fn index_mut(&mut self, slot: u32) -> &mut Ticket {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
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

    /// A large slab gives its memory back when the last ticket has ended; ids go on.
    #[test]
    fn memory_goes_back() {
        let mut slab = Slab::default();
        let slots: Vec<u32> = (0..10_000).map(|_| slab.insert(waiting())).collect();
        let last_id = slab[9_999].id;
        for &slot in &slots {
            slab.remove(slot);
        }
        assert_eq!((slab.chunks.capacity(), slab.free.capacity(), slab.iter().count()), (0, 0, 0));
        let next = slab.insert(waiting());
        assert!(slab[next].id > last_id);
    }

    /// A course ends with its ticket, and what comes into its slot has none.
    #[test]
    fn courses() {
        let mut slab = Slab::default();
        let (plain, special) = (slab.insert(waiting()), slab.insert(waiting()));
        slab.course_mut(special).attempts = 2;
        assert_eq!((slab.course(plain).attempts, slab.course(special).attempts, slab.courses()), (0, 2, 1));
        slab.remove(special);
        assert_eq!(slab.courses(), 0);
        let again = slab.insert(waiting());
        assert_eq!((again, slab.course(again).attempts), (special, 0));
        assert_eq!(slab.course_mut(again).attempts, 0);
    }
}
