//! Cost of one ticket's way through the core while many wait: submit, first token and finish, each with its poll.
//!
//! `cargo run --release -p expresslane-scheduler --example core_cycle -- --json` measures 100,000 prompts of one class
//! and one tenant under several policies. With `--queued N --tenants N` it measures three classes, 10 % cancels and a
//! long lane that is full half the time.

#[path = "core_cycle/measure.rs"]
mod measure;
#[path = "core_cycle/world.rs"]
mod world;

use expresslane_scheduler::Policy;
use measure::{CYCLES, Measured, ROUNDS, bytes_per_queued_ticket, cycle};
use world::{BACKENDS, CAP, Load};

const QUEUED: usize = 100_000;
const STATISTIC: &str = "CPU time of the thread, median of rounds";
const LENGTHS: &str =
    "lognormal, median 800, sigma 1.5; each released prompt is followed by one of its length";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse().ok()
    };
    match (number("--queued"), number("--tenants")) {
        (None, None) => plain(),
        (queued, tenants) => mixed(queued.unwrap_or(QUEUED), tenants.unwrap_or(1) as u32),
    }
}

fn plain() {
    let load = |policy, lanes| Load { policy, lanes, queued: QUEUED, tenants: 1, is_mixed: false };
    let queued_bytes = bytes_per_queued_ticket(load(Policy::Hrrn, true));
    let lanes_on = cycle(load(Policy::Hrrn, true));
    let lanes_off = cycle(load(Policy::Hrrn, false));
    let policies: Vec<String> = [Policy::Fcfs, Policy::Sjf, Policy::SjfAged { tokens_per_s: 1_000.0 }]
        .map(|policy| format!("\"{}\": {}", policy.name(), cycle(load(policy, true)).median_ns))
        .into();
    println!(
        "{{\"core_cycle_ns_100k\": {}, \"core_cycle_ns_100k_worst_round\": {}, \
         \"core_cycle_ns_100k_wall\": {}, \
         \"core_cycle_ns_100k_lanes_off\": {}, \"core_cycle_ns_100k_by_policy\": {{{}}}, \
         \"bytes_per_queued_ticket\": {queued_bytes}, \"conditions\": {{\"policy\": \"hrrn\", \"lanes\": true, \
         \"queued\": {QUEUED}, \"nonempty_buckets_min\": {}, \"classes\": 1, \"models\": 1, \"backends\": {BACKENDS}, \
         \"cap\": {CAP}, \"polls_per_ticket\": 3, \"timeouts\": \"queue, first token, idle, attempt\", \
         \"lengths\": \"{LENGTHS}\", \"cycles\": {CYCLES}, \"rounds\": {ROUNDS}, \
         \"statistic\": \"{STATISTIC}\", \"debug_build\": {}}}}}",
        lanes_on.median_ns,
        lanes_on.worst_ns,
        lanes_on.wall_ns,
        lanes_off.median_ns,
        policies.join(", "),
        lanes_on.nonempty_buckets,
        cfg!(debug_assertions),
    );
}

fn mixed(queued: usize, tenants: u32) {
    let load = Load { policy: Policy::Hrrn, lanes: true, queued, tenants, is_mixed: true };
    let bytes = bytes_per_queued_ticket(load);
    let Measured { median_ns, worst_ns, wall_ns, nonempty_buckets } = cycle(load);
    println!(
        "{{\"queued\": {queued}, \"tenants\": {tenants}, \"cycle_ns\": {median_ns}, \"cycle_ns_worst_round\": {worst_ns}, \
         \"cycle_ns_wall\": {wall_ns}, \"bytes_per_ticket\": {bytes}, \"conditions\": {{\"policy\": \"hrrn\", \
         \"classes\": 3, \"cancels\": 0.1, \"long_lane_full\": 0.5, \"nonempty_buckets_min\": {nonempty_buckets}, \
         \"backends\": {BACKENDS}, \"cap\": {CAP}, \"lengths\": \"{LENGTHS}\", \"cycles\": {CYCLES}, \
         \"rounds\": {ROUNDS}, \"statistic\": \"{STATISTIC}\", \"debug_build\": {}}}}}",
        cfg!(debug_assertions),
    );
}
