//! What a ticket has only while it is in flight: kept apart from it, so that what waits takes little memory.

use crate::ticket::{Lane, NEVER};
use crate::told::Given;
use std::num::NonZeroU8;
use std::ops::{Index, IndexMut};

#[derive(Debug)]
pub(crate) struct Attempt {
    /// [`NEVER`] before it has come.
    pub(crate) first_token_ns: u64,
    pub(crate) first_token_due_ns: u64,
    pub(crate) idle_due_ns: u64,
    /// When all of it has taken too long.
    pub(crate) due_ns: u64,
    /// All that its backend had been given of its model by its release, itself included.
    pub(crate) given: Given,
    /// Which log of its backend's token limit counts its release.
    pub(crate) counted_in: Option<NonZeroU8>,
    /// The lane it holds until its first token.
    pub(crate) lane: Option<Lane>,
    /// Whether no other prompt was in prefill at its backend from its release to its first token.
    pub(crate) was_alone: bool,
    /// Whether it has told its backend's breaker what it had to tell.
    pub(crate) judged: bool,
    /// Whether its backend's rate limit turned it away.
    pub(crate) turned_away: bool,
    /// Whether its backend ran nothing of it, whatever the prompt.
    pub(crate) not_run: bool,
    /// The next one is to go elsewhere.
    pub(crate) moves: bool,
}

impl Attempt {
    pub(crate) const NEW: Self = Self {
        first_token_ns: NEVER,
        first_token_due_ns: NEVER,
        idle_due_ns: NEVER,
        due_ns: NEVER,
        given: Given::ZERO,
        counted_in: None,
        lane: None,
        was_alone: false,
        judged: false,
        turned_away: false,
        not_run: false,
        moves: false,
    };

    /// The first of its deadlines.
    pub(crate) fn first_due_ns(&self) -> u64 {
        self.first_token_due_ns.min(self.idle_due_ns).min(self.due_ns)
    }
}

/// The attempts of the tickets in flight, in slots that are used again.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    slots: Vec<Attempt>,
    free: Vec<u32>,
}

impl Attempts {
    pub(crate) fn insert(&mut self, attempt: Attempt) -> u32 {
        if let Some(slot) = self.free.pop() {
            self[slot] = attempt;
            return slot;
        }
        self.slots.push(attempt);
        self.slots.len() as u32 - 1
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        /// What a burst took goes back when nothing is in flight.
        const KEPT: usize = 4_096;
        self.free.push(slot);
        if self.free.len() == self.slots.len() && self.slots.len() > KEPT {
            *self = Self::default();
        }
    }

    #[cfg(test)]
    pub(crate) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl Index<u32> for Attempts {
    type Output = Attempt;

    fn index(&self, slot: u32) -> &Attempt {
        &self.slots[slot as usize]
    }
}

impl IndexMut<u32> for Attempts {
    fn index_mut(&mut self, slot: u32) -> &mut Attempt {
        &mut self.slots[slot as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There are as many slots as were in use at once.
    #[test]
    fn slots_are_used_again() {
        let mut attempts = Attempts::default();
        let (first, second) = (attempts.insert(Attempt::NEW), attempts.insert(Attempt::NEW));
        attempts[first].first_token_ns = 1;
        attempts.remove(first);
        assert_eq!(attempts.insert(Attempt { due_ns: 5, ..Attempt::NEW }), first);
        assert_eq!((attempts[first].first_token_ns, attempts[first].first_due_ns()), (NEVER, 5));
        assert_eq!((attempts.slots.len(), attempts[second].first_due_ns()), (2, NEVER));
    }

    /// What thousands at once took goes back when the last has ended.
    #[test]
    fn memory_goes_back() {
        let mut attempts = Attempts::default();
        let slots: Vec<u32> = (0..10_000).map(|_| attempts.insert(Attempt::NEW)).collect();
        for slot in slots {
            attempts.remove(slot);
        }
        assert_eq!((attempts.slots.capacity(), attempts.free.capacity()), (0, 0));
        assert_eq!((attempts.insert(Attempt::NEW), attempts.in_use()), (0, 1));
    }
}
