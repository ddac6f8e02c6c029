//! A seeded discrete-event world that drives `expresslane-scheduler` against modelled engines.
//!
//! [`run`] does what the command line says. A run is a pure function of its arguments and files: the same ones give
//! the same bytes. A workload arrives at the gate (straight through, or the scheduler), goes to the engine, and what its
//! callers see becomes a row.
#![deny(unsafe_code)]
#![allow(clippy::cast_sign_loss, reason = "times, lengths and ranks are at least 0 where they are rounded")]
#![allow(clippy::struct_field_names, reason = "units come last in names: all of a cost's are milliseconds")]

mod cli;
mod compare;
mod core_bench;
mod counting_allocator;
mod engine;
mod error;
mod figure;
mod file;
mod fit;
mod gate;
mod harm;
mod parallel;
mod policy;
mod progress;
mod report;
mod row;
mod run;
mod saturation;
mod source;
mod statistics;
mod table;
mod validate;
mod vllm_run;
mod workload;
mod world;

pub use cli::Cli;
pub use error::Error;
pub use run::run;
