//! The order among waiting prompts of one class: a pure score over bucket heads, never falling while one waits.
//!
//! Several policies can meet in one flow, since each model may have its own. Scores of two are no measure of each
//! other. So each policy says who is first of its own prompts that can go, and of these the one that came first goes.
//!
//! Overtaking bound where policies meet: that of a prompt's own policy, in the words of arrival, holds for whatever
//! goes first. For what is of another policy goes before the prompt only if it came before the one that the prompt's
//! own policy puts first: the prompt itself, or one that may overtake it. So under `fcfs` nothing that came later goes
//! first at all, under `edf` nothing that came after the deadline, under `sjf-aged` and `ljf` nothing that came after
//! the last one of the same policy that may; and under `hrrn` and `lars` what goes first in the last part of a wait
//! was there when that began, with m the shortest service time of the same policy and Q the prompts of the whole flow.
//! Promotion stands beside it: up to a tenth of the flow's tokens goes to prompts that waited too long, where their
//! policy has it.

mod edf;
mod fcfs;
mod hrrn;
mod lars;
mod ljf;
mod sjf;
mod sjf_aged;

use crate::Error;
use crate::config::check_rate;
use std::str::FromStr;

/// What a policy knows of a prompt besides its deadline: nothing but its bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// The bucket's edge.
    pub(crate) tokens: f64,
    /// Predicted prefill time alone on the model's fastest backend; above 0.
    pub(crate) prefill_ns: f64,
    /// The same with the expected decode time there: how long it keeps its place in the engine.
    pub(crate) service_ns: f64,
}

/// A bucket's score as a function of its head's wait; the highest score goes first, ties by arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Line {
    /// Score per nanosecond of waiting, at least 0.
    pub(crate) slope: f64,
    pub(crate) intercept: f64,
}

impl Line {
    /// A signed number becomes a float in one instruction, and no wait lasts 292 years.
    pub(crate) fn at(self, wait_ns: u64) -> f64 {
        self.slope * wait_ns.cast_signed() as f64 + self.intercept
    }
}

/// An ordering policy by name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    /// Earliest deadline first.
    Edf,
    /// First come, first served.
    Fcfs,
    /// Highest response ratio next: the default.
    Hrrn,
    /// Least slack relative to length first: like `hrrn`, with deadlines for the first token.
    Lars,
    /// Longest job first.
    Ljf,
    /// Shortest job first, without a bound on waiting of its own.
    Sjf,
    /// Shortest job first with ageing.
    SjfAged {
        /// How many tokens of size one second of waiting makes up for.
        tokens_per_s: f64,
    },
}

impl Policy {
    /// The names, sorted.
    pub const NAMES: [&str; 7] = ["edf", "fcfs", "hrrn", "lars", "ljf", "sjf", "sjf-aged"];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Edf => "edf",
            Self::Fcfs => "fcfs",
            Self::Hrrn => "hrrn",
            Self::Lars => "lars",
            Self::Ljf => "ljf",
            Self::Sjf => "sjf",
            Self::SjfAged { .. } => "sjf-aged",
        }
    }

    /// The time after which a ticket is promoted unless the caller says otherwise; 0 = never.
    pub(crate) fn default_max_wait_ns(self) -> u64 {
        match self {
            Self::Sjf => sjf::MAX_WAIT_NS,
            Self::Edf | Self::Fcfs | Self::Hrrn | Self::Lars | Self::Ljf | Self::SjfAged { .. } => 0,
        }
    }

    pub(crate) fn line(self, size: Size) -> Line {
        match self {
            Self::Edf => edf::line(),
            Self::Fcfs => fcfs::line(),
            Self::Hrrn => hrrn::line(size),
            Self::Lars => lars::line(size),
            Self::Ljf => ljf::line(size),
            Self::Sjf => sjf::line(size),
            Self::SjfAged { tokens_per_s } => sjf_aged::line(size, tokens_per_s),
        }
    }

    /// Whether a deadline for the first token changes the order.
    pub(crate) fn reads_deadlines(self) -> bool {
        matches!(self, Self::Edf | Self::Lars)
    }

    /// The line of prompts with a deadline, whose wait is counted from it; below zero before it.
    pub(crate) fn dated_line(self, size: Size) -> Line {
        match self {
            Self::Edf => edf::dated_line(),
            Self::Lars => lars::dated_line(size),
            Self::Fcfs | Self::Hrrn | Self::Ljf | Self::Sjf | Self::SjfAged { .. } => self.line(size),
        }
    }

    pub(crate) fn check(self) -> Result<(), Error> {
        match self {
            Self::SjfAged { tokens_per_s } => check_rate("sjf_aging_tokens_per_s", tokens_per_s),
            Self::Edf | Self::Fcfs | Self::Hrrn | Self::Lars | Self::Ljf | Self::Sjf => Ok(()),
        }
    }
}

impl FromStr for Policy {
    type Err = Error;

    /// `sjf-aged` comes with 1,000 tokens per second.
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "edf" => Ok(Self::Edf),
            "fcfs" => Ok(Self::Fcfs),
            "hrrn" => Ok(Self::Hrrn),
            "lars" => Ok(Self::Lars),
            "ljf" => Ok(Self::Ljf),
            "sjf" => Ok(Self::Sjf),
            "sjf-aged" => Ok(Self::SjfAged { tokens_per_s: 1_000.0 }),
            _ => Err(Error::invalid(
                "policy",
                &format!("{name:?}"),
                format!("must be one of {:?}", Self::NAMES),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every policy's name leads back to it, and no score falls while a prompt waits.
    #[test]
    fn names_and_slopes() {
        let size = Size { tokens: 1_024.0, prefill_ns: 2e8, service_ns: 3e9 };
        for name in Policy::NAMES {
            let policy: Policy = name.parse().unwrap();
            assert_eq!(policy.name(), name);
            assert!(policy.line(size).slope >= 0.0 && policy.dated_line(size).slope >= 0.0);
        }
        assert!("lifo".parse::<Policy>().unwrap_err().to_string().contains("lifo"));
    }
}
