//! Everything that a call can refuse, as a closed set.

use crate::TenantId;
use crate::ticket::TicketId;
use std::fmt::Display;

/// Why a call was refused; a refused call changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A value makes no sense.
    #[error("{field} = {value}: {rule}")]
    InvalidConfig {
        /// The field, by the name that the caller knows.
        field: &'static str,
        /// The value as it was given.
        value: String,
        /// What would be right.
        rule: String,
    },
    /// The batch can never fit.
    #[error("a batch of {prompts} prompts is larger than the queue itself (queue_limit = {queue_limit})")]
    BatchTooLarge {
        /// Prompts in the batch.
        prompts: usize,
        /// The bound.
        queue_limit: u32,
    },
    /// The batch does not fit now.
    #[error("{prompts} prompts do not fit: {queued} of {queue_limit} places are taken")]
    QueueFull {
        /// Prompts in the batch.
        prompts: usize,
        /// Tickets waiting now.
        queued: u32,
        /// The bound.
        queue_limit: u32,
        /// When it may fit, from the measured drain rate.
        retry_after_ns: u64,
    },
    /// The batch alone would wait longer than anything may.
    #[error(
        "a batch of {prompts} prompts would take {:.1} s to be released even if nothing else waited, more than the \
         {:.1} s that prompts may wait",
        *wait_ns as f64 / 1e9,
        *limit_ns as f64 / 1e9
    )]
    BatchTooLong {
        /// Prompts in the batch.
        prompts: usize,
        /// How long its last prompt would wait, at most a day.
        wait_ns: u64,
        /// The bound.
        limit_ns: u64,
    },
    /// The batch would now wait too long.
    #[error(
        "{prompts} prompts would wait up to {:.1} s, more than the {:.1} s that prompts may wait",
        *wait_ns as f64 / 1e9,
        *limit_ns as f64 / 1e9
    )]
    WaitTooLong {
        /// Prompts in the batch.
        prompts: usize,
        /// How long its last prompt would wait, rarely more; at most a day.
        wait_ns: u64,
        /// The bound.
        limit_ns: u64,
        /// When it may fit, from the measured rate of release.
        retry_after_ns: u64,
    },
    /// A prompt is larger than a whole limit of tokens per minute, its tenant's or that of every backend of its model;
    /// it could never be released.
    #[error(
        "a prompt of {tokens} tokens with its output is above the whole limit of {limit} tokens per minute of {}",
        if tenant.is_some() { "its tenant" } else { "every backend of its model" }
    )]
    AboveLimit {
        /// Its input and expected output.
        tokens: u64,
        /// The tenant's limit, or the largest among the backends of its model.
        limit: u64,
        /// Whose limit, if it is the tenant's.
        tenant: Option<TenantId>,
    },
    /// The ticket has ended or is not in flight.
    #[error("ticket {ticket} is not in flight")]
    UnknownTicket {
        /// The ticket as it was given.
        ticket: TicketId,
    },
}

impl Error {
    pub(crate) fn invalid(field: &'static str, value: &dyn Display, rule: impl Into<String>) -> Self {
        Self::InvalidConfig { field, value: value.to_string(), rule: rule.into() }
    }
}
