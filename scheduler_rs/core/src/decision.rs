//! What a call tells its caller to do.

use crate::{BackendId, ModelId, TenantId, TicketId};

/// Release this ticket to this backend now; its slot and lane share are already taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// The ticket.
    pub ticket: TicketId,
    /// Where it goes.
    pub backend: BackendId,
    /// How many of its tokens to prefill: always the whole prompt for now.
    pub prefill_tokens: u32,
    /// Whether this release also decodes: always for now.
    pub is_final: bool,
    /// 1 for the first release.
    pub attempt: u32,
    /// Time since submit that it was not in flight.
    pub queue_wait_ns: u64,
}

/// Why a waiting ticket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryReason {
    /// Its own or its batch's queue timeout.
    Queue,
    /// Its batch's deadline.
    Batch,
    /// Every backend that it may go to was down for too long.
    NoBackend,
}

/// This waiting ticket has ended without being released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The ticket.
    pub ticket: TicketId,
    /// Why.
    pub reason: ExpiryReason,
}

/// Which deadline an attempt passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverdueReason {
    /// No first token in time.
    FirstToken,
    /// No sign of life in time.
    Idle,
    /// The attempt takes too long.
    Attempt,
    /// Its batch's deadline.
    Batch,
}

/// The deadlines of one attempt, which may be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptDeadline {
    /// Until the first token.
    FirstToken,
    /// Until the next sign of life.
    Idle,
    /// Until the end of the attempt.
    Attempt,
}

/// This ticket in flight passed a deadline, reported once: abort the attempt and finish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// The ticket.
    pub ticket: TicketId,
    /// Which deadline.
    pub reason: OverdueReason,
}

/// Everything that one poll decided, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// To be released now.
    pub dispatches: Vec<Dispatch>,
    /// Ended while waiting.
    pub expired: Vec<Expired>,
    /// To be aborted.
    pub overdue: Vec<Overdue>,
    /// What keeps waiting work back now, each told once until its reset.
    pub limited: Vec<Limited>,
}

impl Decisions {
    /// As new, but with the memory that it has.
    pub(crate) fn clear(&mut self) {
        self.dispatches.clear();
        self.expired.clear();
        self.overdue.clear();
        self.limited.clear();
    }
}

/// What closes a backend or a tenant for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// Requests per minute.
    Requests,
    /// Tokens per minute.
    Tokens,
    /// A pause that was asked for.
    Pause,
    /// It failed too often.
    Breaker,
    /// Its provider says how many requests are left: none.
    RequestsLeft,
    /// Its provider says how many tokens are left: none, or too few for the next prompt.
    TokensLeft,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nothing goes to this backend.
    Backend(BackendId),
    /// Nothing of this model goes to this backend.
    Model(BackendId, ModelId),
    /// Nothing of this tenant goes anywhere.
    Tenant(TenantId),
}

/// Work waits for this limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// Whose limit.
    pub holder: Holder,
    /// Which limit.
    pub kind: LimitKind,
    /// When the next release is possible.
    pub reset_at_ns: u64,
}

/// What a cancel did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// Ended at once.
    pub removed: Vec<TicketId>,
    /// Must be aborted and finished.
    pub in_flight: Vec<TicketId>,
}
