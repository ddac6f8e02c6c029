//! Records in numbered slots that are used again, in chunks that stay where they are: growing moves no million of them.

use crate::tight;
use std::ops::{Index, IndexMut};

/// Records of a chunk.
const CHUNK: usize = 4_096;

#[derive(Debug)]
pub(crate) struct Slots<T> {
    /// All full but the last.
    chunks: Vec<Vec<T>>,
    /// Slots in all chunks.
    count: u32,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(crate) const EMPTY: Self = Self { chunks: Vec::new(), count: 0, free: Vec::new() };

    /// How many are in use.
    pub(crate) fn len(&self) -> usize {
        self.count as usize - self.free.len()
    }

    /// Where the next record goes.
    pub(crate) fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.count)
    }

    pub(crate) fn insert(&mut self, record: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self[slot] = record;
            return slot;
        }
        let slot = self.count;
        self.count += 1;
        match self.chunks.last_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => tight::push(chunk, record),
            None => self.add_chunk(record),
        }
        slot
    }

    /// The first takes little while there is little in it.
    fn add_chunk(&mut self, record: T) {
        let mut chunk = if self.chunks.is_empty() { Vec::new() } else { Vec::with_capacity(CHUNK) };
        tight::push(&mut chunk, record);
        self.chunks.push(chunk);
    }

    /// The record stays what it is until the slot is used again. What a burst took goes back when the last has left:
    /// until then slots are numbers that others hold.
    pub(crate) fn remove(&mut self, slot: u32) {
        self.free.push(slot);
        if self.len() == 0 && self.chunks.len() > 1 {
            *self = Self::EMPTY;
        }
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)
    }

    /// All slots in order, the free ones too.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.chunks.iter().flatten())
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
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

impl<T> IndexMut<u32> for Slots<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
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
        assert_eq!((slots.next(), slots.insert('c')), (first, first));
        assert_eq!((slots[first], slots[second], slots.len()), ('c', 'b', 2));
        assert_eq!((slots.next(), slots.iter().count()), (2, 2));
    }

    /// What thousands at once took goes back when the last has left.
    #[test]
    fn memory_goes_back() {
        let mut slots = Slots::EMPTY;
        for record in 0..10_000 {
            assert_eq!(slots.insert(record), record);
        }
        assert!(slots.iter().all(|(slot, &record)| slot == record) && slots[9_999] == 9_999);
        (0..10_000).for_each(|slot| slots.remove(slot));
        assert_eq!((slots.chunks.capacity(), slots.free.capacity()), (0, 0));
        assert_eq!((slots.insert(0), slots.len()), (0, 1));
    }
}
