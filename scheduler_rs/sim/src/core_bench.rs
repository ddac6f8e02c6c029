//! What one prompt costs in the scheduling core, by how many wait and for how many tenants.

mod long_lanes;
mod measure;
mod memory;
mod plain;
mod random;
mod world;

pub(crate) use plain::plain;

use crate::cli::CoreBenchArgs;
use crate::{Error, table};
use expresslane_scheduler::{Policy, QUEUE_LIMIT_MAX};
use measure::{Measured, measure};
use serde::Serialize;
use std::io::Write;
use world::{BACKENDS, CAP, Load};

const ROUNDS: usize = 15;
const CYCLES: usize = 100_000;
pub(crate) const QUEUED_MIN: usize = 100;
/// Up to twice as many are queued, for what one more takes.
pub(crate) const QUEUED_MAX: usize = QUEUE_LIMIT_MAX as usize / 2 - 1_000;
pub(crate) const TENANTS_MAX: u32 = 100_000;
pub(crate) const CYCLES_MAX: usize = 100 * CYCLES;

/// Everything that a row depends on besides its own fields.
#[derive(Debug, Serialize)]
struct Conditions {
    cycle: &'static str,
    policy: &'static str,
    fairness: &'static str,
    classes: u32,
    models: u32,
    backends: u32,
    cap: u32,
    lanes: bool,
    cancels: f64,
    long_lanes: &'static str,
    lengths: String,
    submits: &'static str,
    what_waits: &'static str,
    timeouts: &'static str,
    cycles: usize,
    rounds: usize,
    statistic: &'static str,
    memory_read_ns: &'static str,
    bytes_per_ticket: &'static str,
    bytes_total_per_ticket: &'static str,
    bytes_fixed: &'static str,
    debug_build: bool,
}

/// One size of the queue with one number of tenants.
#[derive(Debug, Serialize)]
struct Row {
    queued: usize,
    tenants: u32,
    /// CPU time of the thread, median of the rounds.
    cycle_ns: u64,
    cycle_ns_best_round: u64,
    cycle_ns_worst_round: u64,
    cycle_ns_wall: u64,
    memory_read_ns: f64,
    bytes_per_ticket: i64,
    bytes_total_per_ticket: i64,
    bytes_fixed: i64,
    prompts_per_submit: usize,
    nonempty_buckets_min: usize,
    /// Share of the time of all rounds, a mean over the backends.
    long_lane_full: f64,
}

/// Most bytes of a ticket, however many wait and of however many tenants.
const BYTES_MAX: i64 = 256;

/// A row as people read it: with what it is held to.
#[derive(Debug, Serialize)]
struct Judged<'a> {
    #[serde(flatten)]
    row: &'a Row,
    /// For two sizes of the queue.
    cycle_ns_max: Option<u64>,
    bytes_per_ticket_max: i64,
    verdict: &'static str,
}

impl<'a> Judged<'a> {
    fn of(row: &'a Row) -> Self {
        let cycle_ns_max = match row.queued {
            100_000 => Some(1_000),
            1_000_000 => Some(2_000),
            _ => None,
        };
        let is_met =
            cycle_ns_max.is_none_or(|most| row.cycle_ns <= most) && row.bytes_per_ticket <= BYTES_MAX;
        let verdict = if is_met { "ok" } else { "failed" };
        Self { row, cycle_ns_max, bytes_per_ticket_max: BYTES_MAX, verdict }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    conditions: Conditions,
    rows: Vec<Row>,
}

pub(crate) fn core_bench(args: &CoreBenchArgs, out: &mut impl Write) -> Result<(), Error> {
    let cycles = args.cycles.unwrap_or(CYCLES);
    let mixes =
        args.queued.iter().flat_map(|&queued| args.tenants.iter().map(move |&tenants| (queued, tenants)));
    let loads: Vec<Load> = mixes.map(|(queued, tenants)| mix(queued, tenants)).collect();
    let measured = measure(&loads, cycles, ROUNDS);
    let rows = loads.into_iter().zip(measured).map(|(load, measured)| row(load, measured)).collect();
    let report = Report { conditions: conditions(cycles), rows };
    if args.json {
        let text = serde_json::to_string_pretty(&report).expect("results are plain data");
        writeln!(out, "{text}")?;
    } else {
        let judged: Vec<Judged<'_>> = report.rows.iter().map(Judged::of).collect();
        write!(out, "{}", table::render(&judged))?;
    }
    Ok(())
}

fn mix(queued: usize, tenants: u32) -> Load {
    Load { policy: Policy::Hrrn, lanes: true, queued, tenants, is_mixed: true }
}

fn row(load: Load, measured: Measured) -> Row {
    let Measured {
        median_ns,
        best_ns,
        worst_ns,
        wall_ns,
        memory_read_ns,
        nonempty_buckets,
        long_lane_full,
        heap,
    } = measured;
    Row {
        queued: load.queued,
        tenants: load.tenants,
        cycle_ns: median_ns,
        cycle_ns_best_round: best_ns,
        cycle_ns_worst_round: worst_ns,
        cycle_ns_wall: wall_ns,
        memory_read_ns: (memory_read_ns * 10.0).round() / 10.0,
        bytes_per_ticket: heap.per_ticket,
        bytes_total_per_ticket: heap.total_per_ticket,
        bytes_fixed: heap.fixed,
        prompts_per_submit: load.prompts_per_submit(),
        nonempty_buckets_min: nonempty_buckets,
        long_lane_full: (long_lane_full * 1_000.0).round() / 1_000.0,
    }
}

fn conditions(cycles: usize) -> Conditions {
    Conditions {
        cycle: "one prompt's whole way: its share of a submit and the poll after it, first token and poll, finish and \
                poll; of every tenth: cancel and poll in place of the last four",
        policy: Policy::Hrrn.name(),
        fairness: expresslane_scheduler::Fairness::default().name(),
        classes: 3,
        models: 1,
        backends: BACKENDS,
        cap: CAP,
        lanes: true,
        cancels: 0.1,
        long_lanes: "one prompt above 16,384 tokens in each backend's; open for 256 cycles, then for 256 held by prompts of \
                     32,768 tokens without a first token, which a tenant of their own sends for it in one batch: see \
                     long_lane_full, counted in every cycle",
        lengths: mix(0, 1).lengths(),
        submits: "one call for each batch, of one class and one tenant drawn at random: see prompts_per_submit",
        what_waits: "a third of each class; a batch comes when as many of its class have been released or cancelled, \
                     with their lengths, so that what waits stays as it was drawn",
        timeouts: "queue, first token, idle, attempt",
        cycles,
        rounds: ROUNDS,
        statistic: "CPU time of the thread, median of the rounds; wall time of the same round beside it; the rounds of all rows \
                    take turns, each after a quarter of a round that does not count",
        memory_read_ns: "what one read in as much memory as the core has costs when the next one waits for it, before and \
                         after the rounds: a cycle has a few of them, and others on the machine make them dearer",
        bytes_per_ticket: "live heap that all tickets add, for each, to a core in which their batches are open with one \
                           prompt waiting in each: the tickets and their places in queues",
        bytes_total_per_ticket: "live heap that all tickets add, for each, to a core that knows only its backends: \
                                 also their batches, tenants and flows",
        bytes_fixed: "live heap of the core with its backends and nothing queued",
        debug_build: cfg!(debug_assertions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(queued: usize, cycle_ns: u64, bytes_per_ticket: i64) -> &'static str {
        let measured = Row {
            queued,
            tenants: 1,
            cycle_ns,
            cycle_ns_best_round: cycle_ns,
            cycle_ns_worst_round: cycle_ns,
            cycle_ns_wall: cycle_ns,
            memory_read_ns: 100.0,
            bytes_per_ticket,
            bytes_total_per_ticket: bytes_per_ticket,
            bytes_fixed: 0,
            prompts_per_submit: 1,
            nonempty_buckets_min: 60,
            long_lane_full: 0.5,
        };
        Judged::of(&measured).verdict
    }

    /// Time is bounded at two sizes, memory at all.
    #[test]
    fn verdicts() {
        assert_eq!([verdict(100_000, 1_000, 256), verdict(100_000, 1_001, 256)], ["ok", "failed"]);
        assert_eq!([verdict(1_000_000, 2_000, 256), verdict(1_000_000, 2_001, 256)], ["ok", "failed"]);
        assert_eq!([verdict(1_000, 9_999, 256), verdict(1_000, 1, 257)], ["ok", "failed"]);
    }
}
