//! Measuring: time per cycle, and heap by how many wait.

use super::memory::read_ns;
use super::world::{Load, World};
use crate::counting_allocator::live_bytes;
use crate::progress;
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

impl Heap {
    /// All that a core with this load has.
    fn bytes(&self, load: Load) -> usize {
        self.fixed.unsigned_abs() as usize + self.total_per_ticket.unsigned_abs() as usize * load.queued
    }
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

/// Each load in a world of its own. Their rounds take turns, so that what others do on the machine for a second or two
/// falls on all of them and not on most rounds of one; a quarter of a round before each brings its world back into the
/// caches.
pub(super) fn measure(loads: &[Load], cycles: usize, rounds: usize) -> Vec<Measured> {
    let mut benches: Vec<Bench> = loads.iter().map(|&load| Bench::new(load, cycles)).collect();
    for round in 1..=rounds {
        progress::show(&format!("round {round} of {rounds}"));
        for bench in &mut benches {
            bench.round(cycles);
        }
    }
    progress::clear();
    benches.into_iter().map(Bench::measured).collect()
}

struct Bench {
    load: Load,
    world: World,
    heap: Heap,
    before_ns: f64,
    nonempty_buckets: usize,
    /// Of each round: CPU time and wall time of a cycle.
    times: Vec<(u64, u64)>,
}

impl Bench {
    fn new(load: Load, cycles: usize) -> Self {
        progress::show(&format!("filling: {} queued, {} tenants", load.queued, load.tenants));
        let heap = heap(load);
        let before_ns = read_ns(heap.bytes(load));
        let mut world = World::new(load);
        world.fill();
        world.run(cycles / 2);
        world.count_full_lanes();
        Self { load, world, heap, before_ns, nonempty_buckets: usize::MAX, times: Vec::new() }
    }

    fn round(&mut self, cycles: usize) {
        self.world.run(cycles / 4);
        let (start, cpu_start_ns) = (Instant::now(), cpu_ns());
        self.world.run(cycles);
        let wall_ns = start.elapsed().as_nanos() as u64;
        let cpu_ns = cpu_ns() - cpu_start_ns;
        self.world.compare_long_lanes();
        self.nonempty_buckets = self.nonempty_buckets.min(self.world.nonempty_buckets());
        self.times.push((cpu_ns / cycles as u64, wall_ns / cycles as u64));
    }

    fn measured(mut self) -> Measured {
        let (queued, wanted) = (self.world.queued(), self.load.queued);
        assert!(queued * 100 >= wanted * 97, "{queued} of {wanted} wait");
        self.times.sort_unstable();
        let (median_ns, wall_ns) = self.times[self.times.len() / 2];
        Measured {
            median_ns,
            best_ns: self.times[0].0,
            worst_ns: self.times[self.times.len() - 1].0,
            wall_ns,
            memory_read_ns: f64::midpoint(self.before_ns, read_ns(self.heap.bytes(self.load))),
            nonempty_buckets: self.nonempty_buckets,
            long_lane_full: self.world.long_lane_full(),
            heap: self.heap,
        }
    }
}

/// What the thread itself ran, so that a busy machine does not count.
pub(super) fn cpu_ns() -> u64 {
    let ran = clock_gettime(ClockId::ThreadCPUTime);
    ran.tv_sec.cast_unsigned() * 1_000_000_000 + ran.tv_nsec.cast_unsigned()
}
