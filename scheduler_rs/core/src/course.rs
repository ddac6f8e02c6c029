//! The course of a ticket: what it has besides once there is more to it than that it waits. Kept apart, because most that
//! wait have none, so that they take little memory.

use crate::attempt::Attempt;
use crate::ticket::{NEVER, NONE};
use std::num::NonZeroU8;

/// Of a ticket that is or was in flight, has times of its own, or was passed over or moved while it waited.
#[derive(Debug)]
pub(crate) struct Course {
    /// Time of its one live timer entry.
    pub(crate) timer_ns: u64,
    /// When its first token is wanted.
    pub(crate) due_ns: u64,
    /// The prompt's own queue timeout, as a time.
    pub(crate) queue_due_ns: u64,
    /// Start of the present wait: the end of the attempt before, or the end of what a backend asked for; 0 in the first,
    /// which starts with its arrival.
    pub(crate) queued_since_ns: u64,
    pub(crate) not_before_ns: u64,
    /// Start of the present attempt; while it waits again, the end of the one before, or when other backends became open
    /// to it.
    pub(crate) released_ns: u64,
    /// Sum of all ended attempts.
    pub(crate) busy_ns: u64,
    /// Short-lane tokens that were released past it while only the short budget kept it back.
    pub(crate) bypassed: u32,
    /// Position of the backend of the last release.
    pub(crate) backend: u32,
    pub(crate) attempts: u32,
    /// How many waits have begun before the present one.
    pub(crate) wait: u32,
    /// Whether its present wait began with one that a backend asked for: in its batch's `asked`.
    pub(crate) asked: bool,
    /// Whether a first token came in any attempt.
    pub(crate) first_token_seen: bool,
    /// Which log of its tenant's token limit counts its last release.
    pub(crate) counted_for_tenant_in: Option<NonZeroU8>,
    /// The present one, while it is in flight.
    pub(crate) attempt: Attempt,
}

impl Course {
    /// Of all that have none.
    pub(crate) const NONE: Self = Self {
        timer_ns: NEVER,
        due_ns: NEVER,
        queue_due_ns: NEVER,
        queued_since_ns: 0,
        not_before_ns: 0,
        released_ns: 0,
        busy_ns: 0,
        bypassed: 0,
        backend: NONE,
        attempts: 0,
        wait: 0,
        asked: false,
        first_token_seen: false,
        counted_for_tenant_in: None,
        attempt: Attempt::NEW,
    };
}
