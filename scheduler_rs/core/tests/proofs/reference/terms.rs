//! What is given to the scheduler, in the model's own words.

use super::{BreakerTerms, Order};

/// Among whom the service of a class is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    None,
    Tenant,
    TenantBatch,
}

/// The scheduler's own limits.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) order: Order,
    pub(crate) sharing: Sharing,
    pub(crate) queue_limit: u32,
    pub(crate) in_flight_limit: u32,
    pub(crate) no_backend_timeout_ns: u64,
    pub(crate) max_wait_ns: u64,
    pub(crate) class_min_shares: [f64; 3],
    pub(crate) cost_includes_output: bool,
    pub(crate) retry_ratio: f64,
}

impl Rules {
    /// One order, shared out in this way, and no limits but a queue of 1,000 prompts.
    pub(crate) fn plain(order: Order, sharing: Sharing) -> Self {
        Self {
            order,
            sharing,
            queue_limit: 1_000,
            in_flight_limit: 0,
            no_backend_timeout_ns: 0,
            max_wait_ns: 0,
            class_min_shares: [0.0; 3],
            cost_includes_output: false,
            retry_ratio: 0.0,
        }
    }
}

/// A backend's description.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) cap: u32,
    /// (model, cap or 0).
    pub(crate) models: Vec<(u32, u32)>,
    /// Most models with prompts in flight; 0 = no limit.
    pub(crate) max_loaded_models: u32,
    pub(crate) available: bool,
    /// While it is not available: for how long what waits bears with that, if that is longer than without any backend.
    pub(crate) absence_timeout_ns: u64,
    pub(crate) long_threshold_tokens: u32,
    /// None = left open.
    pub(crate) long_slots: Option<u32>,
    /// None = left open.
    pub(crate) short_budget_tokens: Option<u32>,
    /// Most tokens in a step of the engine; 0 = unknown.
    pub(crate) engine_step_tokens: u32,
    /// Most tokens of one prompt in a step; 0 = no limit of its own.
    pub(crate) engine_chunk_tokens: u32,
    pub(crate) lanes: bool,
    pub(crate) prefill_tokens_per_s: f64,
    pub(crate) first_token_timeout_ns: u64,
    pub(crate) idle_timeout_ns: u64,
    pub(crate) attempt_timeout_ns: u64,
    pub(crate) requests_per_min: u32,
    pub(crate) tokens_per_min: u64,
    pub(crate) breaker: Option<BreakerTerms>,
    pub(crate) ramp: bool,
}

impl Server {
    /// Slots for all of model 0, no lanes, no limits.
    pub(crate) fn plain(cap: u32) -> Self {
        Self {
            cap,
            models: vec![(0, 0)],
            max_loaded_models: 0,
            available: true,
            absence_timeout_ns: 0,
            long_threshold_tokens: 4_096,
            long_slots: Some(1),
            short_budget_tokens: Some(8_192),
            engine_step_tokens: 0,
            engine_chunk_tokens: 0,
            lanes: false,
            prefill_tokens_per_s: 5_000.0,
            first_token_timeout_ns: 0,
            idle_timeout_ns: 0,
            attempt_timeout_ns: 0,
            requests_per_min: 0,
            tokens_per_min: 0,
            breaker: None,
            ramp: false,
        }
    }

    pub(crate) fn serves(&self, model: u32) -> bool {
        self.models.iter().any(|&(served, _)| served == model)
    }
}

/// What an attempt said that it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) uncached: u32,
    pub(crate) cached: u32,
    pub(crate) output: u32,
}

impl Used {
    /// What it had of its tenant's share: what was cached cost nothing.
    pub(crate) fn service(self) -> u64 {
        Request::charge(self.uncached, self.output)
    }

    /// What limits of tokens per minute count: all of it.
    pub(crate) fn tokens(self) -> u64 {
        u64::from(self.uncached) + u64::from(self.cached) + u64::from(self.output)
    }
}

/// One prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) model: u32,
    pub(crate) class: u32,
    pub(crate) tokens: u32,
    pub(crate) output_tokens: u32,
    pub(crate) queue_timeout_ns: u64,
    pub(crate) index: u32,
    pub(crate) sequential: bool,
    pub(crate) ttft_deadline_ns: u64,
}

impl Request {
    /// The first of its batch, with no answer to speak of, no deadlines and no order to keep.
    pub(crate) fn plain(class: u32, model: u32, tokens: u32) -> Self {
        Self {
            model,
            class,
            tokens,
            output_tokens: 0,
            queue_timeout_ns: 0,
            index: 0,
            sequential: false,
            ttft_deadline_ns: 0,
        }
    }

    pub(crate) fn limited_tokens(&self) -> u64 {
        u64::from(self.tokens) + u64::from(self.output_tokens)
    }

    /// What fairness charges for so many tokens in and out.
    pub(crate) fn charge(input_tokens: u32, output_tokens: u32) -> u64 {
        (u64::from(input_tokens) + 2 * u64::from(output_tokens)).max(1)
    }
}

/// What holds for a whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchTerms {
    pub(crate) queue_timeout_ns: u64,
    pub(crate) deadline_ns: u64,
    pub(crate) tenant: u32,
    pub(crate) weight: u32,
}

/// How a prompt ended, in the order of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Success,
    Failed,
    Cancelled,
    Expired,
}
