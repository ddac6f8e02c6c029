//! Measuring: time per cycle and heap per waiting ticket.

use super::world::{Load, World};
use crate::counting_allocator::live_bytes;
use rustix::time::{ClockId, clock_gettime};
use std::time::Instant;

pub(super) struct Measured {
    pub(super) median_ns: u64,
    pub(super) best_ns: u64,
    pub(super) worst_ns: u64,
    pub(super) wall_ns: u64,
    pub(super) nonempty_buckets: usize,
    pub(super) bytes: i64,
}

/// `rounds` times `cycles` cycles in one world, after half as many to warm up.
pub(super) fn measure(load: Load, cycles: usize, rounds: usize) -> Measured {
    let mut world = World::new(load);
    let before = live_bytes();
    world.fill();
    let bytes = (live_bytes() - before - world.own_bytes()) / load.queued.cast_signed() as i64;
    world.run(cycles / 2);
    let mut nonempty_buckets = usize::MAX;
    let mut times: Vec<(u64, u64)> = (0..rounds)
        .map(|_| {
            let (start, cpu_start_ns) = (Instant::now(), cpu_ns());
            world.run(cycles);
            let wall_ns = start.elapsed().as_nanos() as u64;
            let cpu_ns = cpu_ns() - cpu_start_ns;
            nonempty_buckets = nonempty_buckets.min(world.nonempty_buckets());
            (cpu_ns / cycles as u64, wall_ns / cycles as u64)
        })
        .collect();
    times.sort_unstable();
    let queued = world.queued();
    assert!(queued * 100 >= load.queued * 97, "{queued} of {} wait", load.queued);
    let (median_ns, wall_ns) = times[rounds / 2];
    Measured {
        median_ns,
        best_ns: times[0].0,
        worst_ns: times[rounds - 1].0,
        wall_ns,
        nonempty_buckets,
        bytes,
    }
}

/// What the thread itself ran, so that a busy machine does not count.
fn cpu_ns() -> u64 {
    let ran = clock_gettime(ClockId::ThreadCPUTime);
    ran.tv_sec.cast_unsigned() * 1_000_000_000 + ran.tv_nsec.cast_unsigned()
}
