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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Contestant;

    /// The documentation lists everything that can be named.
    #[test]
    fn documented() {
        let document = include_str!("../../../../docs/scheduling.md");
        let made_up = mix::names().into_iter().chain(arrivals::names());
        let policies = ["passthrough", "cap-fcfs"].into_iter().chain(Policy::NAMES);
        let policies = policies.map(|name| Contestant::named(name).expect("it is one").name());
        for name in catalog::names().into_iter().chain(made_up).chain(policies) {
            assert!(document.contains(&format!("`{name}`")), "{name} is not in docs/scheduling.md");
        }
    }
}
