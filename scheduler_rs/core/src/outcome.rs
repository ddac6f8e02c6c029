//! How a ticket, or one attempt of it, ended.

/// The end of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The prompt was answered.
    Success,
    /// The prompt was not answered.
    Failed,
    /// The caller no longer wants it.
    Cancelled,
    /// A deadline passed.
    Expired,
}

impl Outcome {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 4] = [Self::Success, Self::Failed, Self::Cancelled, Self::Expired];

    /// The name in metrics and across the language boundary.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// The tokens that an attempt really used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens that were not found in a cache.
    pub uncached_input_tokens: u32,
    /// Input tokens that were. They cost the engine nothing and no share of a tenant, but count in limits of tokens per
    /// minute: there providers count all of a prompt.
    pub cached_input_tokens: u32,
    /// Output tokens.
    pub output_tokens: u32,
}

impl Usage {
    /// What a limit of tokens per minute counts.
    pub(crate) fn limited_tokens(self) -> u64 {
        u64::from(self.uncached_input_tokens)
            + u64::from(self.cached_input_tokens)
            + u64::from(self.output_tokens)
    }
}

/// The end of an attempt: that of its ticket, or back to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttemptEnd {
    /// The ticket ended with it.
    Ticket(Outcome),
    /// There will be another attempt.
    Retry,
}

impl AttemptEnd {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 5] = [
        Self::Ticket(Outcome::Success),
        Self::Ticket(Outcome::Failed),
        Self::Ticket(Outcome::Cancelled),
        Self::Ticket(Outcome::Expired),
        Self::Retry,
    ];

    /// The name in metrics and across the language boundary.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ticket(outcome) => outcome.name(),
            Self::Retry => "retry",
        }
    }

    pub(crate) fn position(self) -> usize {
        match self {
            Self::Ticket(outcome) => outcome as usize,
            Self::Retry => Outcome::ALL.len(),
        }
    }
}

/// What became of a wish for another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAnswer {
    /// The ticket is back in the queue.
    Queued,
    /// Its caller no longer wants it.
    Cancelled,
    /// Its batch's deadline would have passed, or that of its wait in the queue.
    PastDeadline,
    /// No other backend serves its model, available or not.
    NoOtherBackend,
    /// Its tenant has used up its retry budget.
    BudgetExhausted,
}

impl RetryAnswer {
    /// The name across the language boundary.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Cancelled => "cancelled",
            Self::PastDeadline => "past_deadline",
            Self::NoOtherBackend => "no_other_backend",
            Self::BudgetExhausted => "budget_exhausted",
        }
    }

    /// Whether there will be another attempt.
    #[must_use]
    pub fn is_queued(self) -> bool {
        self == Self::Queued
    }
}
