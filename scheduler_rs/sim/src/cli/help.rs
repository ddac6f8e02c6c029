//! Parts of `--help` that list what there is by name.

use crate::engine::catalog;
use crate::workload::{arrivals, mix};
use expresslane_scheduler::Policy;

pub(super) fn workload() -> String {
    format!(
        "A CSV file with `arrival_s,prompt_tokens,output_tokens`, in any order of arrival, and any of `prefix_hashes`, \
         `session` or `tenant`, `class`; or `synthetic:MIX[-ARRIVALS]`. Mixes: {}. Arrivals: {} (unless given, the first)",
        mix::names().join(", "),
        arrivals::names().join(", "),
    )
}

pub(super) fn engine() -> String {
    format!("An engine by name: {}", catalog::names().join(", "))
}

pub(super) fn policies() -> String {
    format!(
        "Policies, by comma. `passthrough`: everything goes straight to the engine; `cap-fcfs`: the scheduler as a plain \
         cap (--cap), first come, first served, without lanes and shares of tenants; the \
         scheduler's own, with lanes and all: {}",
        Policy::NAMES.join(", "),
    )
}
