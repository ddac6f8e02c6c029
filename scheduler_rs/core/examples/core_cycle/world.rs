//! A scheduler with a full queue, and one ticket's way through it again and again.

use expresslane_scheduler::{
    BackendConfig, BatchOptions, Config, ModelRoute, Outcome, Policy, Prompt, Scheduler, TicketId,
    token_buckets,
};
use std::collections::VecDeque;

pub(crate) const BACKENDS: u32 = 4;
pub(crate) const CAP: u32 = 16;
const BATCH: u64 = 500;
const LONG_TOKENS: u32 = 4_096;
/// Virtual time between two tickets.
const STEP_NS: u64 = 2_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Cycles for which the first tokens of long prompts come, then for which they do not.
const PHASE: u64 = 256;

/// What waits, and under which rules.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) policy: Policy,
    pub(crate) lanes: bool,
    pub(crate) queued: usize,
    pub(crate) tenants: u32,
    /// Three classes, 10 % cancels, a long lane that is full half the time; otherwise one class and none of these.
    pub(crate) is_mixed: bool,
}

pub(crate) struct World {
    load: Load,
    scheduler: Scheduler,
    random: Random,
    /// Drawn beforehand, so that drawing is not measured; then the lengths that were released, in order, so that what
    /// waits stays as it was drawn.
    lengths: VecDeque<u32>,
    now_ns: u64,
    cycles: u64,
    submitted: u64,
    /// Some that were submitted long ago, to be cancelled.
    old: VecDeque<(TicketId, u32)>,
    in_prefill: VecDeque<(TicketId, u32)>,
    decoding: VecDeque<TicketId>,
    waiting_by_bucket: Vec<u32>,
}

impl World {
    pub(crate) fn new(load: Load) -> Self {
        let queue_limit = (load.queued + load.queued / 10 + 1_000) as u32;
        let config = Config { policy: load.policy, queue_limit, ..Config::default() };
        let mut scheduler = Scheduler::new(config).expect("the configuration is right");
        for backend in 0..BACKENDS {
            let config = BackendConfig {
                cap: CAP,
                models: vec![ModelRoute { model: 0, cap: 0 }],
                lanes: load.lanes,
                first_token_timeout_ns: 120 * SECOND_NS,
                idle_timeout_ns: 60 * SECOND_NS,
                attempt_timeout_ns: 600 * SECOND_NS,
                ..BackendConfig::default()
            };
            scheduler.update_backend(0, backend, config).expect("the backend is right");
        }
        let mut random = Random(1);
        Self {
            load,
            scheduler,
            lengths: (0..load.queued + 1_000).map(|_| random.lognormal(800.0, 1.5)).collect(),
            random,
            now_ns: 0,
            cycles: 0,
            submitted: 0,
            old: VecDeque::new(),
            in_prefill: VecDeque::new(),
            decoding: VecDeque::new(),
            waiting_by_bucket: vec![0; token_buckets::COUNT],
        }
    }

    pub(crate) fn fill(&mut self) {
        for _ in 0..self.load.queued {
            self.submit();
        }
    }

    pub(crate) fn run(&mut self, cycles: usize) {
        for _ in 0..cycles {
            self.now_ns += STEP_NS;
            self.cycles += 1;
            if self.load.is_mixed && self.cycles.is_multiple_of(10) {
                self.cancel();
            }
            self.submit();
            self.poll();
            if let Some(ticket) = self.next_first_token() {
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

    pub(crate) fn queued(&self) -> usize {
        self.scheduler.snapshot().queued as usize
    }

    pub(crate) fn nonempty_buckets(&self) -> usize {
        self.waiting_by_bucket.iter().filter(|&&waiting| waiting > 0).count()
    }

    /// In every other phase long prompts stay in prefill and their lane stays full.
    fn next_first_token(&mut self) -> Option<TicketId> {
        let longs_wait = self.load.is_mixed && (self.cycles / PHASE).is_multiple_of(2);
        let is_due = |&(_, tokens): &(TicketId, u32)| !longs_wait || tokens <= LONG_TOKENS;
        let at = self.in_prefill.iter().position(is_due)?;
        self.in_prefill.remove(at).map(|(ticket, _)| ticket)
    }

    fn submit(&mut self) {
        let tokens = self.lengths.pop_front().expect("as many are released as submitted");
        let draw = self.random.next();
        let class = if self.load.is_mixed { (draw % 3) as u32 } else { 1 };
        let tenant = ((draw >> 8) % u64::from(self.load.tenants)) as u32;
        let prompt = Prompt { class, tokens, ..Prompt::default() };
        let options =
            BatchOptions { queue_timeout_ns: 36_000 * SECOND_NS, tenant, ..BatchOptions::default() };
        let batch = ((self.submitted / BATCH / u64::from(self.load.tenants)) << 32) | u64::from(tenant);
        let tickets = self.scheduler.submit(self.now_ns, batch, &[prompt], options).expect("there is room");
        self.submitted += 1;
        if self.load.is_mixed && draw >> 60 < 3 {
            self.old.push_back((tickets[0], tokens));
        }
        self.waiting_by_bucket[usize::from(token_buckets::bucket_of(tokens))] += 1;
    }

    /// Cancels one that still waits and submits one of its length.
    fn cancel(&mut self) {
        while let Some((ticket, tokens)) = self.old.pop_front() {
            if self.in_prefill.iter().any(|&(other, _)| other == ticket) || self.decoding.contains(&ticket) {
                continue;
            }
            if !self.scheduler.cancel(self.now_ns, ticket).removed.is_empty() {
                self.waiting_by_bucket[usize::from(token_buckets::bucket_of(tokens))] -= 1;
                self.lengths.push_front(tokens);
                self.submit();
                return;
            }
        }
    }

    fn poll(&mut self) {
        let decisions = self.scheduler.poll(self.now_ns);
        assert!(decisions.expired.is_empty() && decisions.overdue.is_empty());
        for dispatch in decisions.dispatches {
            let bucket = token_buckets::bucket_of(dispatch.prefill_tokens);
            self.waiting_by_bucket[usize::from(bucket)] -= 1;
            self.in_prefill.push_back((dispatch.ticket, dispatch.prefill_tokens));
            self.lengths.push_back(dispatch.prefill_tokens);
        }
        std::hint::black_box(self.scheduler.next_deadline());
    }
}

/// `SplitMix64`: the same lengths in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    #[expect(clippy::cast_sign_loss, reason = "an exponential is positive")]
    fn lognormal(&mut self, median: f64, sigma: f64) -> u32 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.uniform()).cos();
        (median * (sigma * normal).exp()).clamp(1.0, 1e9) as u32
    }
}
