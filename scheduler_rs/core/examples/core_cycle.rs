//! Cost of one ticket's way through the core while 100,000 wait: submit, first token and finish, each with its poll.
//!
//! `cargo run --release -p expresslane-scheduler --example core_cycle -- --json`

use expresslane_scheduler::{
    BackendConfig, BatchOptions, Config, ModelRoute, Outcome, Policy, Prompt, Scheduler, TicketId,
    token_buckets,
};
use std::collections::VecDeque;

const QUEUED: usize = 100_000;
const BACKENDS: u32 = 4;
const CAP: u32 = 16;
const BATCH: u64 = 500;
const CYCLES: usize = 100_000;
const ROUNDS: usize = 7;
/// Virtual time between two tickets.
const STEP_NS: u64 = 2_000_000;
const SECOND_NS: u64 = 1_000_000_000;

fn main() {
    let queued_bytes = bytes_per_queued_ticket();
    let lanes_on = cycle(Policy::Hrrn, true);
    let lanes_off = cycle(Policy::Hrrn, false);
    let policies: Vec<String> = [Policy::Fcfs, Policy::Sjf, Policy::SjfAged { tokens_per_s: 1_000.0 }]
        .map(|policy| format!("\"{}\": {}", policy.name(), cycle(policy, true).median_ns))
        .into();
    println!(
        "{{\"core_cycle_ns_100k\": {}, \"core_cycle_ns_100k_worst_round\": {}, \
         \"core_cycle_ns_100k_wall\": {}, \
         \"core_cycle_ns_100k_lanes_off\": {}, \"core_cycle_ns_100k_by_policy\": {{{}}}, \
         \"bytes_per_queued_ticket\": {queued_bytes}, \"conditions\": {{\"policy\": \"hrrn\", \"lanes\": true, \
         \"queued\": {QUEUED}, \"nonempty_buckets_min\": {}, \"classes\": 1, \"models\": 1, \"backends\": {BACKENDS}, \
         \"cap\": {CAP}, \"polls_per_ticket\": 3, \"timeouts\": \"queue, first token, idle, attempt\", \
         \"lengths\": \"lognormal, median 800, sigma 1.5; each released prompt is followed by one of its length\", \"cycles\": {CYCLES}, \"rounds\": {ROUNDS}, \
         \"statistic\": \"CPU time of the thread, median of rounds\", \"debug_build\": {}}}}}",
        lanes_on.median_ns,
        lanes_on.worst_ns,
        lanes_on.wall_ns,
        lanes_off.median_ns,
        policies.join(", "),
        lanes_on.nonempty_buckets,
        cfg!(debug_assertions),
    );
}

struct Measured {
    median_ns: u64,
    worst_ns: u64,
    wall_ns: u64,
    nonempty_buckets: usize,
}

fn cycle(policy: Policy, lanes: bool) -> Measured {
    let mut world = World::new(policy, lanes);
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
    assert!(world.scheduler.snapshot().queued as usize >= QUEUED - BATCH as usize);
    Measured {
        median_ns: rounds[ROUNDS / 2].0,
        worst_ns: rounds[ROUNDS - 1].0,
        wall_ns: rounds[ROUNDS / 2].1,
        nonempty_buckets,
    }
}

fn bytes_per_queued_ticket() -> u64 {
    let mut world = World::new(Policy::Hrrn, true);
    let before = resident_bytes();
    world.fill();
    (resident_bytes() - before) / QUEUED as u64
}

struct World {
    scheduler: Scheduler,
    /// Drawn beforehand, so that drawing is not measured; then the lengths that were released, in order, so that what
    /// waits stays as it was drawn.
    lengths: VecDeque<u32>,
    now_ns: u64,
    submitted: u64,
    in_prefill: VecDeque<TicketId>,
    decoding: VecDeque<TicketId>,
    waiting_by_bucket: Vec<u32>,
}

impl World {
    fn new(policy: Policy, lanes: bool) -> Self {
        let config = Config { policy, ..Config::default() };
        let mut scheduler = Scheduler::new(config).expect("the configuration is right");
        for backend in 0..BACKENDS {
            let config = BackendConfig {
                cap: CAP,
                models: vec![ModelRoute { model: 0, cap: 0 }],
                lanes,
                first_token_timeout_ns: 120 * SECOND_NS,
                idle_timeout_ns: 60 * SECOND_NS,
                attempt_timeout_ns: 600 * SECOND_NS,
                ..BackendConfig::default()
            };
            scheduler.update_backend(0, backend, config).expect("the backend is right");
        }
        Self {
            scheduler,
            lengths: lengths(),
            now_ns: 0,
            submitted: 0,
            in_prefill: VecDeque::new(),
            decoding: VecDeque::new(),
            waiting_by_bucket: vec![0; token_buckets::COUNT],
        }
    }

    fn fill(&mut self) {
        for _ in 0..QUEUED {
            self.submit();
        }
    }

    fn run(&mut self, cycles: usize) {
        for _ in 0..cycles {
            self.now_ns += STEP_NS;
            self.submit();
            self.poll();
            if let Some(ticket) = self.in_prefill.pop_front() {
                self.scheduler.first_token(self.now_ns, ticket).expect("it is in flight");
                self.decoding.push_back(ticket);
                self.poll();
            }
            if let Some(ticket) = self.decoding.pop_front() {
                self.scheduler.finish(self.now_ns, ticket, Outcome::Success).expect("it is in flight");
                self.poll();
            }
        }
    }

    fn submit(&mut self) {
        let tokens = self.lengths.pop_front().expect("as many are released as submitted");
        let prompt = Prompt { model: 0, class: 1, tokens, queue_timeout_ns: 0, index: 0 };
        let options = BatchOptions { queue_timeout_ns: 36_000 * SECOND_NS, deadline_ns: 0 };
        self.scheduler
            .submit(self.now_ns, self.submitted / BATCH, &[prompt], options)
            .expect("the queue has room");
        self.submitted += 1;
        self.waiting_by_bucket[usize::from(token_buckets::bucket_of(tokens))] += 1;
    }

    fn poll(&mut self) {
        let decisions = self.scheduler.poll(self.now_ns);
        assert!(decisions.expired.is_empty() && decisions.overdue.is_empty());
        for dispatch in decisions.dispatches {
            let bucket = token_buckets::bucket_of(dispatch.prefill_tokens);
            self.waiting_by_bucket[usize::from(bucket)] -= 1;
            self.in_prefill.push_back(dispatch.ticket);
            self.lengths.push_back(dispatch.prefill_tokens);
        }
        std::hint::black_box(self.scheduler.next_deadline());
    }

    fn nonempty_buckets(&self) -> usize {
        self.waiting_by_bucket.iter().filter(|&&waiting| waiting > 0).count()
    }
}

fn lengths() -> VecDeque<u32> {
    let mut random = Random(1);
    (0..QUEUED + 1_000).map(|_| random.lognormal(800.0, 1.5)).collect()
}

/// `SplitMix64`: the same lengths in every run.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    #[expect(clippy::cast_sign_loss, reason = "an exponential is positive")]
    fn lognormal(&mut self, median: f64, sigma: f64) -> u32 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.uniform()).cos();
        (median * (sigma * normal).exp()).clamp(1.0, 1e9) as u32
    }
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
