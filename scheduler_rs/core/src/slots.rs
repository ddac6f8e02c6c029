//! Records in numbered slots that are used again.

use crate::tight;
use std::ops::{Index, IndexMut};

#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<T>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(crate) const EMPTY: Self = Self { slots: Vec::new(), free: Vec::new() };

    /// How many are in use.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, record: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self[slot] = record;
            return slot;
        }
        tight::push(&mut self.slots, record);
        self.slots.len() as u32 - 1
    }

    /// The record stays what it is until the slot is used again. What a burst took goes back when the last has left:
    /// until then slots are numbers that others hold.
    pub(crate) fn remove(&mut self, slot: u32) {
        const KEPT: usize = 4_096;
        self.free.push(slot);
        if self.free.len() == self.slots.len() && self.slots.len() > KEPT {
            *self = Self::EMPTY;
        }
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<T> Index<u32> for Slots<T> {
    type Output = T;

    fn index(&self, slot: u32) -> &T {
        &self.slots[slot as usize]
    }
}

impl<T> IndexMut<u32> for Slots<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        &mut self.slots[slot as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There are as many slots as were in use at once.
    #[test]
    fn slots_are_used_again() {
        let mut slots = Slots::EMPTY;
        let (first, second) = (slots.insert('a'), slots.insert('b'));
        slots.remove(first);
        assert_eq!(slots.insert('c'), first);
        assert_eq!((slots[first], slots[second], slots.slots.len()), ('c', 'b', 2));
    }

    /// What thousands at once took goes back when the last has left.
    #[test]
    fn memory_goes_back() {
        let mut slots = Slots::EMPTY;
        for record in 0..10_000 {
            slots.insert(record);
        }
        (0..10_000).for_each(|slot| slots.remove(slot));
        assert_eq!((slots.slots.capacity(), slots.free.capacity()), (0, 0));
        assert_eq!((slots.insert(0), slots.len()), (0, 1));
    }
}
