//! A consistent copy of the counters.

use crate::{AttemptEnd, BackendId, BreakerState, CLASSES, LimitKind, ModelId, TenantId, TicketId};

/// Always: submitted = succeeded + failed + cancelled + expired + queued + in flight.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Name of the policy.
    pub policy: &'static str,
    /// Most tickets waiting at once.
    pub queue_limit: u32,
    /// Most tickets in flight; 0 = no limit.
    pub in_flight_limit: u32,
    /// All waiting tickets.
    pub queued: u32,
    /// Those that were met beyond their batch's horizon.
    pub held: u32,
    /// Those that wait for their `not_before`.
    pub retry_waiting: u32,
    /// All tickets in flight.
    pub in_flight: u32,
    /// Estimated tokens of the waiting tickets.
    pub queued_tokens: u64,
    /// Waiting tickets by class.
    pub queued_by_class: [u32; CLASSES],
    /// Waiting tickets by model, ascending, zeros left out.
    pub queued_by_model: Vec<(ModelId, u32)>,
    /// Tickets since start.
    pub submitted: u64,
    /// Ended as success.
    pub succeeded: u64,
    /// Ended as failed.
    pub failed: u64,
    /// Ended as cancelled.
    pub cancelled: u64,
    /// Ended as expired.
    pub expired: u64,
    /// Attempts that went back to the queue.
    pub retried: u64,
    /// Retries that a tenant's budget did not allow.
    pub retries_denied: u64,
    /// Prompts of refused batches.
    pub refused: u64,
    /// Tickets that end per second; 0 before anything has ended.
    pub drain_rate_per_s: f64,
    /// Tickets that succeed or fail per second; 0 before the first.
    pub finish_rate_per_s: f64,
    /// In the order in which they were added.
    pub backends: Vec<BackendSnapshot>,
    /// Those that hold anything.
    pub histograms: Vec<HistogramSnapshot>,
    /// How far estimates were off; those that hold anything.
    pub ratios: Vec<RatioSnapshot>,
}

/// One backend's part.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendSnapshot {
    /// The caller's number.
    pub backend: BackendId,
    /// Whether it may be given work.
    pub available: bool,
    /// Most tickets in flight.
    pub cap: u32,
    /// Tickets in flight.
    pub in_flight: u32,
    /// The largest number of tickets in flight since start.
    pub peak_in_flight: u32,
    /// Time that slots have been taken, summed over the slots, in nanoseconds: the integral of `in_flight`.
    pub slot_ns: u64,
    /// In flight by model, ascending.
    pub in_flight_by_model: Vec<(ModelId, u32)>,
    /// Most models in memory at once; 0 = no limit.
    pub max_loaded_models: u32,
    /// The models in memory as far as releases tell, ascending; none where there is no limit.
    pub loaded_models: Vec<ModelId>,
    /// How often a model was loaded since start, as far as releases tell, where there is a limit.
    pub model_loads: u64,
    /// Expected time to load a model, in nanoseconds, in force.
    pub load_ns: f64,
    /// Loads whose time was measured: what the expected one was learned from, if they are at least 8.
    pub load_samples: u64,
    /// Most in flight by model served, ascending: its own cap, the backend's, and less after a rate limit.
    pub cap_by_model: Vec<(ModelId, u32)>,
    /// Long prompts in prefill.
    pub long_in_prefill: u32,
    /// Charged tokens of short prompts in prefill.
    pub short_tokens_in_prefill: u64,
    /// Charged tokens of all prompts in prefill.
    pub outstanding_prefill_tokens: u64,
    /// Most long prompts in prefill where no short ones are, 0 = no limit: the caller's, or one, or how many chunks are
    /// three quarters of the engine's step.
    pub long_slots: u32,
    /// Most tokens of short prompts in prefill, 0 = no limit: the caller's, or what was learned.
    pub short_budget_tokens: u32,
    /// c0, c1 and c2 of the prefill time in force, `c0 + c1 n + c2 n^2` nanoseconds for `n` uncached tokens.
    pub prefill_ns: [f64; 3],
    /// Prompts that were alone in prefill since start, whatever was in decode: what the coefficients were learned from,
    /// if they are at least 8.
    pub prefill_samples: u64,
    /// Expected time from the first token to the end, in nanoseconds, in force; 0 = not known.
    pub decode_ns: f64,
    /// Answers since start that had a first token: what the decode time was learned from, if they are at least 8.
    pub decode_samples: u64,
    /// The ticket that the short lane is kept for.
    pub reserved_for: Option<TicketId>,
    /// What closes it, or a model of its, now and until when, if work waits for it or it was asked to pause.
    pub limited: Option<(LimitKind, u64)>,
    /// The models of which nothing goes there because of what its provider says is left: what of, and until when; a
    /// time that never comes: until an answer says.
    pub spent: Vec<(ModelId, LimitKind, u64)>,
    /// Releases within the last minute, if they are limited.
    pub requests_in_window: u64,
    /// Tokens of the releases within the last minute, if they are limited.
    pub tokens_in_window: u64,
    /// Its breaker, if it has one.
    pub breaker: Option<BreakerSnapshot>,
    /// Releases since start.
    pub dispatched: u64,
    /// Attempts since start that a rate limit turned away.
    pub turned_away: u64,
    /// Ended attempts since start.
    pub outcomes: [(AttemptEnd, u64); AttemptEnd::ALL.len()],
}

/// How one backend's breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSnapshot {
    /// Its state.
    pub state: BreakerState,
    /// Since when.
    pub since_ns: u64,
    /// When an open one lets a probe in.
    pub half_open_at_ns: Option<u64>,
    /// Attempts within the window that succeeded.
    pub good: u32,
    /// Attempts within the window that failed by its fault.
    pub bad: u32,
    /// How often it opened since start.
    pub opened: u64,
}

/// What one tenant's limits and retry budget are, over all classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantLimitSnapshot {
    /// The caller's number.
    pub tenant: TenantId,
    /// Most releases within any 60 seconds; 0 = no limit.
    pub requests_per_min: u32,
    /// Most tokens of the releases within any 60 seconds; 0 = no limit.
    pub tokens_per_min: u64,
    /// Releases within the last minute, if they are limited.
    pub requests_in_window: u64,
    /// Tokens of the releases within the last minute, if they are limited.
    pub tokens_in_window: u64,
    /// What keeps all its work back now, and until when.
    pub limited: Option<(LimitKind, u64)>,
    /// Retries that its budget allowed, for as long as it is remembered.
    pub retries_allowed: u64,
    /// Retries that its budget did not allow, for as long as it is remembered.
    pub retries_denied: u64,
}

/// What one tenant has and had in one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantSnapshot {
    /// The caller's number.
    pub tenant: TenantId,
    /// The class.
    pub class: u32,
    /// Its share relative to the others.
    pub weight: u32,
    /// Tickets that have not ended.
    pub unfinished: u32,
    /// Those of them that could be released as far as they themselves are concerned.
    pub ready: u32,
    /// What it was charged for ended attempts, in virtual tokens, for as long as it is known.
    pub used_tokens: u64,
}

/// What a histogram measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistogramName {
    /// Submit to first release.
    QueueWait,
    /// Submit to the first token ever.
    Ttft,
    /// Submit to the end.
    Total,
}

impl HistogramName {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::QueueWait, Self::Ttft, Self::Total];

    /// The name in metrics and across the language boundary.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueWait => "queue_wait",
            Self::Ttft => "ttft",
            Self::Total => "total",
        }
    }
}

/// What a histogram compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatioName {
    /// Input tokens: the prompt's own estimate over the uncached ones of the usage.
    InputTokens,
    /// Time of a prompt that was alone in prefill: predicted over measured.
    Prefill,
}

impl RatioName {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::InputTokens, Self::Prefill];

    /// The name in metrics and across the language boundary.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InputTokens => "input_tokens",
            Self::Prefill => "prefill",
        }
    }
}

/// Estimates over actual values at one backend, with the bounds [`crate::RATIO_BOUNDS`].
#[derive(Clone, Debug, PartialEq)]
pub struct RatioSnapshot {
    /// What is compared.
    pub name: RatioName,
    /// The backend of the attempts.
    pub backend: BackendId,
    /// Class of the prompts.
    pub class: u32,
    /// One more than bounds.
    pub counts: Vec<u64>,
    /// Sum of all ratios.
    pub sum: f64,
}

/// One histogram, with the bounds [`crate::BOUNDS_NS`].
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSnapshot {
    /// What it measures.
    pub name: HistogramName,
    /// Backend of the last release; none for tickets that were never released.
    pub backend: Option<BackendId>,
    /// Class of the prompts.
    pub class: u32,
    /// One more than bounds.
    pub counts: Vec<u64>,
    /// Sum of all values.
    pub sum_ns: u128,
}
