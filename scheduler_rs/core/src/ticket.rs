//! A ticket: one prompt in the core, from submit to its single end.

use crate::queue::BucketKey;
use crate::token_buckets::edge;
use std::fmt;
use std::mem::offset_of;
use std::num::NonZeroU8;

/// A time that never comes.
pub(crate) const NEVER: u64 = u64::MAX;
/// No such slot.
pub(crate) const NONE: u32 = u32::MAX;

const SLOT_BITS: u32 = 22;
pub(crate) const SLOTS_MAX: usize = 1 << SLOT_BITS;

/// Names a ticket for ever: tickets submitted later have larger numbers, none is used twice, and none is 0.
///
/// The low 22 bits are the slot in memory, the rest a serial number (good for 10,000 tickets a second over 13 years).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TicketId(pub u64);

impl TicketId {
    /// No ticket's.
    pub(crate) const NONE: Self = Self(u64::MAX);

    pub(crate) fn new(serial: u64, slot: u32) -> Self {
        Self(serial << SLOT_BITS | u64::from(slot))
    }

    pub(crate) fn slot(self) -> u32 {
        (self.0 & (SLOTS_MAX as u64 - 1)) as u32
    }
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a ticket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Ended: the slot is free.
    Free,
    /// In its bucket's FIFO.
    InFifo,
    /// In its bucket, at its place before others that came earlier.
    InOrder,
    /// Behind an unfinished prompt of its batch that it must not overtake.
    Barred,
    /// Beyond its batch's horizon.
    Held,
    /// Waiting for its `not_before`.
    RetryWait,
    InFlight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Short,
    Long,
}

/// The neighbours of a ticket in a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    pub(crate) prev: u32,
    pub(crate) next: u32,
}

impl Links {
    pub(crate) const NONE: Self = Self { prev: NONE, next: NONE };
}

/// In the order in which they are needed, because what waits is seldom in a cache: what a bucket asks of its head, what
/// a release adds, and what few prompts need. With glibc large memory begins 16 bytes behind an edge of cache lines, so that
/// these are one line each, and a bit of a third.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Ticket {
    pub(crate) id: TicketId,
    pub(crate) arrival_ns: u64,
    /// When its first token is wanted.
    pub(crate) due_ns: u64,
    /// Which bucket it waits in.
    pub(crate) key: BucketKey,
    pub(crate) group: u32,
    pub(crate) flow: u32,
    pub(crate) batch: u32,
    pub(crate) tokens: u32,
    /// Expected output.
    pub(crate) output_tokens: u32,
    /// Start of the present wait: the submit, the end of the attempt before, or the end of what a backend asked for.
    pub(crate) queued_since_ns: u64,
    /// Sum of all ended attempts.
    pub(crate) busy_ns: u64,
    /// Start of the present attempt; while it waits again, the end of the one before, or when other backends became open
    /// to it.
    pub(crate) released_ns: u64,
    /// The prompt's own queue timeout, as a time.
    pub(crate) queue_due_ns: u64,
    /// Time of its one live timer entry.
    pub(crate) timer_ns: u64,
    /// Short-lane tokens that were released past it while only the short budget kept it back.
    pub(crate) bypassed: u32,
    /// Position of the backend of the last release.
    pub(crate) backend: u32,
    pub(crate) attempts: u32,
    /// Its present one, among [`Attempts`](crate::attempt::Attempts); [`NONE`] while it waits.
    pub(crate) attempt: u32,
    pub(crate) class: u8,
    pub(crate) place: Place,
    /// Whether a backend's short lane is kept for it.
    pub(crate) reserved: bool,
    pub(crate) cancelled: bool,
    /// Whether a first token came in any attempt.
    pub(crate) first_token_seen: bool,
    /// Whether its present wait began with one that a backend asked for: in its batch's `asked`.
    pub(crate) asked: bool,
    /// Whether it runs after all earlier and before all later ones of its batch.
    pub(crate) sequential: bool,
    /// Which log of its tenant's token limit counts its last release.
    pub(crate) counted_for_tenant_in: Option<NonZeroU8>,
    pub(crate) not_before_ns: u64,
    pub(crate) index: u32,
}

impl Ticket {
    pub(crate) const FREE: Self = Self {
        id: TicketId::NONE,
        arrival_ns: 0,
        queued_since_ns: 0,
        busy_ns: 0,
        released_ns: 0,
        queue_due_ns: NEVER,
        not_before_ns: 0,
        due_ns: NEVER,
        timer_ns: NEVER,
        batch: NONE,
        index: 0,
        group: NONE,
        flow: NONE,
        tokens: 0,
        output_tokens: 0,
        bypassed: 0,
        backend: NONE,
        attempts: 0,
        attempt: NONE,
        counted_for_tenant_in: None,
        key: BucketKey::new(0, 0, false),
        class: 0,
        place: Place::Free,
        first_token_seen: false,
        reserved: false,
        cancelled: false,
        asked: false,
        sequential: false,
    };

    pub(crate) fn is_queued(&self) -> bool {
        !matches!(self.place, Place::Free | Place::InFlight)
    }

    /// The bucket of its prompt tokens: what it fits in.
    pub(crate) fn bucket(&self) -> u8 {
        self.key.tokens()
    }

    /// What its prefill takes from a lane, and gives back.
    pub(crate) fn charge(&self) -> u32 {
        edge(self.bucket())
    }

    /// What its release counts for in a limit of tokens per minute.
    pub(crate) fn limited_tokens(&self) -> u64 {
        u64::from(self.tokens) + u64::from(self.output_tokens)
    }
}

const _: () = assert!(size_of::<Ticket>() == 128);
const _: () = assert!(offset_of!(Ticket, queued_since_ns) == 48 && offset_of!(Ticket, not_before_ns) == 112);
