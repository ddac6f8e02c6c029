//! A deterministic state machine that decides when each waiting prompt is released and to which backend:
//! it reads no clock, does no IO, starts no threads, draws no random numbers and iterates in no hash order.
//!
//! Every method of [`Scheduler`] takes `now_ns`, monotonic nanoseconds. [`Scheduler::poll`] returns what is to
//! be done now; [`Scheduler::next_deadline`] says when it must be called if nothing else happens.
//!
//! One prompt is a *ticket*. What is released next is decided in three tiers: the highest class; in it the tenant that
//! has had least, and of this tenant the flow that has had least ([`Fairness`]); in the flow the policy.
//!
//! The waiting tickets of a flow lie in FIFOs by token bucket ([`token_buckets`]); all tickets of one bucket can go to
//! exactly the same backends, so only bucket heads are ever compared. A [`Policy`] gives each bucket a line,
//! `score = slope * wait + intercept`, and the highest score among the heads that some backend can take is released.
#![forbid(unsafe_code)]

mod account;
mod attempt;
mod backend;
mod backlog;
mod batch;
mod breaker;
mod class_shares;
mod config;
mod counters;
mod course;
mod decision;
mod drain_rate;
mod error;
mod estimates;
mod fair_tree;
mod fairness;
mod fifo;
mod flows;
mod group;
mod groups;
mod histogram;
mod lane_defaults;
mod lanes;
mod limits;
mod loaded;
mod margin;
mod opening;
mod ordering;
mod outcome;
mod policy;
mod promotion;
mod queue;
mod ramp;
mod ratios;
mod release_rate;
mod reservation;
mod retry_budget;
mod roll;
mod scheduler;
#[cfg(test)]
#[path = "../tests/seeded/mod.rs"]
mod seeded;
mod slab;
mod slots;
mod snapshot;
mod tenant;
mod tenant_limits;
mod ticket;
mod tight;
mod timers;
pub mod token_buckets;
mod told;
mod window;
mod work;

pub use breaker::{BreakerConfig, BreakerState};
pub use config::{BackendConfig, BatchOptions, Config, ModelRoute, Prompt, TTFT_DEADLINE_MAX_NS};
pub use decision::{
    AttemptDeadline, Cancelled, Decisions, Dispatch, Expired, ExpiryReason, Holder, LimitKind, Limited,
    Overdue, OverdueReason,
};
pub use drain_rate::DrainRate;
pub use error::Error;
pub use fairness::{Fairness, POOLED_MAX};
pub use histogram::BOUNDS_NS;
pub use ordering::Scope;
pub use outcome::{AttemptEnd, Outcome, RetryAnswer, Usage};
pub use policy::Policy;
pub use ratios::RATIO_BOUNDS;
pub use scheduler::Scheduler;
pub use snapshot::{
    BackendSnapshot, BreakerSnapshot, HistogramName, HistogramSnapshot, RatioName, RatioSnapshot, Snapshot,
    TenantLimitSnapshot, TenantSnapshot,
};
pub use ticket::TicketId;
pub use told::Left;

/// A model, numbered by the caller.
pub type ModelId = u32;
/// A backend, numbered by the caller.
pub type BackendId = u32;
/// A tenant, numbered by the caller.
pub type TenantId = u32;
/// A batch, numbered by the caller.
pub type BatchId = u64;
/// Classes are 0 (interactive), 1 (standard) and 2 (batch): strictly in this order.
pub const CLASSES: usize = 3;
/// Most backends that one scheduler knows.
pub const BACKENDS_MAX: usize = 4_096;
/// Largest value for [`Config::queue_limit`].
pub const QUEUE_LIMIT_MAX: u32 = 1 << 21;
/// The largest prompt that can be submitted, in tokens.
pub const TOKENS_MAX: u32 = 1 << 31;
