//! An attempt: what a ticket has while it is in flight.

use crate::ticket::{Lane, NEVER};
use crate::told::Given;
use std::num::NonZeroU8;

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
    /// Its prompt was cancelled: there shall be no next one.
    pub(crate) cancelled: bool,
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
        cancelled: false,
    };

    /// The first of its deadlines.
    pub(crate) fn first_due_ns(&self) -> u64 {
        self.first_token_due_ns.min(self.idle_due_ns).min(self.due_ns)
    }
}
