//! Everything that can be wrong with what the user asked for, as a closed set.

use std::fmt::Display;
use std::path::PathBuf;

/// Why nothing was simulated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name is not one of those that there are.
    #[error("unknown {what} {name:?}: there is {known}")]
    Unknown {
        /// What kind of thing was named.
        what: &'static str,
        /// The name as it was given.
        name: String,
        /// All names of that kind.
        known: String,
    },
    /// A value makes no sense, alone or with another one.
    #[error("{flag} {value}: {rule}")]
    Value {
        /// The flag, by the name that the user knows.
        flag: &'static str,
        /// The value as it was given.
        value: String,
        /// What would be right.
        rule: String,
    },
    /// A row of a recorded workload or run cannot be read.
    #[error("{path}:{line}: {reason}")]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The result cannot be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] std::io::Error),
    /// The scheduler refuses its configuration.
    #[error("the scheduler refuses: {0}")]
    Scheduler(#[from] expresslane_scheduler::Error),
}

/// A number as people write it: 1e300, not its 301 digits.
pub(crate) fn written(number: f64) -> String {
    let is_usual = number == 0.0 || (1e-4..1e7).contains(&number.abs()) || !number.is_finite();
    if is_usual { number.to_string() } else { format!("{number:e}") }
}

/// Numbers as the command line takes them.
pub(crate) fn listed(numbers: &[f64]) -> String {
    numbers.iter().map(|&number| written(number)).collect::<Vec<_>>().join(",")
}

impl Error {
    pub(crate) fn value(flag: &'static str, value: &dyn Display, rule: impl Into<String>) -> Self {
        Self::Value { flag, value: value.to_string(), rule: rule.into() }
    }

    pub(crate) fn unknown(what: &'static str, name: &str, known: &[&str]) -> Self {
        Self::Unknown { what, name: name.to_owned(), known: known.join(", ") }
    }
}
