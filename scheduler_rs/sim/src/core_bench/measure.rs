//! Measuring: time per cycle, and heap by how many wait.

use super::memory::read_ns;
use super::world::{Load, World};
use crate::counting_allocator::live_bytes;
use rustix::time::{ClockId, clock_gettime};
use std::time::Instant;

pub(super) struct Measured {
    pub(super) median_ns: u64,
    pub(super) best_ns: u64,
    pub(super) worst_ns: u64,
    pub(super) wall_ns: u64,
    /// A read of as much memory as the core has, before and after the rounds: a mean.
    pub(super) memory_read_ns: f64,
    pub(super) nonempty_buckets: usize,
    pub(super) long_lane_full: f64,
    pub(super) heap: Heap,
}

/// Live heap of the core, in bytes.
pub(super) struct Heap {
    /// With its backends and nothing queued.
    pub(super) fixed: i64,
    /// Of all that has come with the tickets, for each: their batches, tenants, flows and queues too.
    pub(super) total_per_ticket: i64,
    /// What tickets add where their batches and tenants are known, for each: themselves and their places in queues.
    pub(super) per_ticket: i64,
}

fn heap(load: Load) -> Heap {
    let start = live_bytes();
    let mut world = World::new(load);
    let fixed = live_bytes() - start - world.own_bytes();
    let total_per_ticket = heap_per_ticket(&mut world);
    drop(world);
    let mut world = World::new(load);
    world.open_batches();
    Heap { fixed, total_per_ticket, per_ticket: heap_per_ticket(&mut world) }
}

/// What filling a world adds to the heap of its core, for each ticket.
fn heap_per_ticket(world: &mut World) -> i64 {
    let (heap, tickets) = (live_bytes() - world.own_bytes(), world.tickets());
    world.fill();
    let added = live_bytes() - world.own_bytes() - heap;
    added / (world.tickets() - tickets).cast_signed() as i64
}

/// `rounds` times `cycles` cycles in one world, after half as many to warm up.
pub(super) fn measure(load: Load, cycles: usize, rounds: usize) -> Measured {
    let heap = heap(load);
    let core_bytes =
        heap.fixed.unsigned_abs() as usize + heap.total_per_ticket.unsigned_abs() as usize * load.queued;
    let before_ns = read_ns(core_bytes);
    let mut world = World::new(load);
    world.fill();
    world.run(cycles / 2);
    world.count_full_lanes();
    let mut nonempty_buckets = usize::MAX;
    let mut times: Vec<(u64, u64)> = (0..rounds)
        .map(|_| {
            let (start, cpu_start_ns) = (Instant::now(), cpu_ns());
            world.run(cycles);
            let wall_ns = start.elapsed().as_nanos() as u64;
            let cpu_ns = cpu_ns() - cpu_start_ns;
            world.compare_long_lanes();
            nonempty_buckets = nonempty_buckets.min(world.nonempty_buckets());
            (cpu_ns / cycles as u64, wall_ns / cycles as u64)
        })
        .collect();
    times.sort_unstable();
    let memory_read_ns = f64::midpoint(before_ns, read_ns(core_bytes));
    let queued = world.queued();
    assert!(queued * 100 >= load.queued * 97, "{queued} of {} wait", load.queued);
    let (median_ns, wall_ns) = times[rounds / 2];
    Measured {
        median_ns,
        best_ns: times[0].0,
        worst_ns: times[rounds - 1].0,
        wall_ns,
        memory_read_ns,
        nonempty_buckets,
        long_lane_full: world.long_lane_full(),
        heap,
    }
}

/// What the thread itself ran, so that a busy machine does not count.
pub(super) fn cpu_ns() -> u64 {
    let ran = clock_gettime(ClockId::ThreadCPUTime);
    ran.tv_sec.cast_unsigned() * 1_000_000_000 + ran.tv_nsec.cast_unsigned()
}
