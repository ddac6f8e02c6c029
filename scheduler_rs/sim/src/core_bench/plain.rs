//! The plain case that is followed from release to release: one class, one tenant, no cancels, under several policies.

use super::measure::measure;
use super::world::{BACKENDS, CAP, Load};
use super::{CYCLES, ROUNDS};
use crate::Error;
use expresslane_scheduler::Policy;
use serde_json::{Map, Value, json};
use std::io::Write;

const QUEUED: usize = 100_000;

/// One line of JSON.
pub(crate) fn plain(out: &mut impl Write) -> Result<(), Error> {
    let load = |policy, lanes| Load { policy, lanes, queued: QUEUED, tenants: 1, is_mixed: false };
    let policies = [Policy::Fcfs, Policy::Sjf, Policy::SjfAged { tokens_per_s: 1_000.0 }];
    let mut loads = vec![load(Policy::Hrrn, true), load(Policy::Hrrn, false)];
    loads.extend(policies.map(|policy| load(policy, true)));
    let measured = measure(&loads, CYCLES, ROUNDS);
    let [lanes_on, lanes_off, others @ ..] = measured.as_slice() else { unreachable!("one for each load") };
    let by_policy = policies.iter().zip(others);
    let by_policy: Map<String, Value> =
        by_policy.map(|(policy, measured)| (policy.name().to_owned(), json!(measured.median_ns))).collect();
    let report = json!({
        "core_cycle_ns_100k": lanes_on.median_ns,
        "core_cycle_ns_100k_worst_round": lanes_on.worst_ns,
        "core_cycle_ns_100k_wall": lanes_on.wall_ns,
        "core_cycle_ns_100k_lanes_off": lanes_off.median_ns,
        "core_cycle_ns_100k_by_policy": by_policy,
        "memory_read_ns": lanes_on.memory_read_ns,
        "bytes_per_queued_ticket": lanes_on.heap.total_per_ticket,
        "conditions": {
            "policy": "hrrn",
            "lanes": true,
            "queued": QUEUED,
            "nonempty_buckets_min": lanes_on.nonempty_buckets,
            "classes": 1,
            "tenants": 1,
            "models": 1,
            "backends": BACKENDS,
            "cap": CAP,
            "prompts_per_submit": load(Policy::Hrrn, true).prompts_per_submit(),
            "polls_per_ticket": 2,
            "timeouts": "queue, first token, idle, attempt",
            "lengths": load(Policy::Hrrn, true).lengths(),
            "cycles": CYCLES,
            "rounds": ROUNDS,
            "statistic": "CPU time of the thread, median of rounds, which take turns with those of the others",
            "debug_build": cfg!(debug_assertions),
        },
    });
    writeln!(out, "{report}")?;
    Ok(())
}
