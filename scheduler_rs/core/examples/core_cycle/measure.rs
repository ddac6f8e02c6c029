//! Measuring: CPU time per cycle and resident memory per waiting ticket.

use crate::world::{Load, World};

pub(crate) const CYCLES: usize = 100_000;
pub(crate) const ROUNDS: usize = 7;

pub(crate) struct Measured {
    pub(crate) median_ns: u64,
    pub(crate) worst_ns: u64,
    pub(crate) wall_ns: u64,
    pub(crate) nonempty_buckets: usize,
}

pub(crate) fn cycle(load: Load) -> Measured {
    let mut world = World::new(load);
    world.fill();
    world.run(CYCLES / 2);
    let mut nonempty_buckets = usize::MAX;
    let mut rounds: Vec<(u64, u64)> = (0..ROUNDS)
        .map(|_| {
            let (wall_ns, cpu_ns) = (wall_ns(), cpu_ns());
            world.run(CYCLES);
            nonempty_buckets = nonempty_buckets.min(world.nonempty_buckets());
            let cost = (self::cpu_ns() - cpu_ns, self::wall_ns() - wall_ns);
            (cost.0 / CYCLES as u64, cost.1 / CYCLES as u64)
        })
        .collect();
    rounds.sort_unstable();
    let queued = world.queued();
    assert!(queued * 100 >= load.queued * 98, "{queued} of {} wait", load.queued);
    Measured {
        median_ns: rounds[ROUNDS / 2].0,
        worst_ns: rounds[ROUNDS - 1].0,
        wall_ns: rounds[ROUNDS / 2].1,
        nonempty_buckets,
    }
}

pub(crate) fn bytes_per_queued_ticket(load: Load) -> u64 {
    let mut world = World::new(load);
    let before = resident_bytes();
    world.fill();
    (resident_bytes() - before) / load.queued as u64
}

fn resident_bytes() -> u64 {
    const PAGE: u64 = 4_096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn wall_ns() -> u64 {
    thread_local!(static START: std::time::Instant = std::time::Instant::now());
    START.with(|start| start.elapsed().as_nanos() as u64)
}

/// What the thread itself ran, so that a busy machine does not count; wall time where that is not known.
fn cpu_ns() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    schedstat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or_else(wall_ns)
}
