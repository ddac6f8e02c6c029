//! A ticket: one prompt in the core, from submit to its single end.

use crate::queue::BucketKey;
use crate::token_buckets::edge;
use std::fmt;

/// A time that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// When a timeout runs out that begins at a time; 0 stands for none.
pub(crate) fn due_ns(since_ns: u64, timeout_ns: u64) -> u64 {
    if timeout_ns == 0 { NEVER } else { since_ns.saturating_add(timeout_ns) }
}

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

/// What every waiting prompt has, in one cache line: what waits is seldom in a cache. All else is in its
/// [`Course`](crate::course::Course), if it has one.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Ticket {
    pub(crate) id: TicketId,
    pub(crate) arrival_ns: u64,
    /// In its bucket.
    pub(crate) links: Links,
    /// Which bucket it waits in.
    pub(crate) key: BucketKey,
    pub(crate) group: u32,
    pub(crate) flow: u32,
    pub(crate) batch: u32,
    pub(crate) index: u32,
    pub(crate) tokens: u32,
    /// Expected output.
    pub(crate) output_tokens: u32,
    /// Among those of the slab; [`NONE`] while there is none.
    pub(crate) course: u32,
    pub(crate) class: u8,
    pub(crate) place: Place,
    /// Whether a backend's short lane is kept for it.
    pub(crate) reserved: bool,
    /// Whether it runs after all earlier and before all later ones of its batch.
    pub(crate) sequential: bool,
}

const _: () = assert!(size_of::<Ticket>() == 64);

impl Ticket {
    pub(crate) const FREE: Self = Self {
        id: TicketId::NONE,
        arrival_ns: 0,
        links: Links::NONE,
        key: BucketKey::new(0, 0, false),
        group: NONE,
        flow: NONE,
        batch: NONE,
        index: 0,
        tokens: 0,
        output_tokens: 0,
        course: NONE,
        class: 0,
        place: Place::Free,
        reserved: false,
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
