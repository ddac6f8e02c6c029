//! A scheduler with a full queue, and one ticket's way through it again and again.

use super::long_lanes::{LongLanes, is_long};
use super::random::Random;
use expresslane_scheduler::{
    BackendConfig, BatchOptions, CLASSES, Config, Decisions, Dispatch, ModelRoute, Outcome, Policy, Prompt,
    Scheduler, TicketId, token_buckets,
};
use std::collections::VecDeque;

pub(super) const BACKENDS: u32 = 4;
pub(super) const CAP: u32 = 16;
/// Virtual time between two cycles.
const STEP_NS: u64 = 2_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Cycles for which the long lanes are open, then for which they are held full.
const PHASE: u64 = 256;
const MEDIAN_TOKENS: f64 = 800.0;
const OPTIONS: BatchOptions = BatchOptions {
    queue_timeout_ns: 36_000 * SECOND_NS,
    deadline_ns: 0,
    tenant: 0,
    weight: 1,
    may_wait: false,
};
/// In place of the class of a holder: a long prompt that comes to fill a lane, besides what waits otherwise.
const HOLDER: u8 = u8::MAX;
const HOLDER_TOKENS: u32 = 32_768;
/// The holders' tenant has so large a share that they go as soon as there is a slot beside a long lane with room.
const HOLDERS_WEIGHT: u32 = 1_000_000;
/// Of so many prompts of the first class one is noted, to be cancelled later; of the others, which leave the queue
/// hardly otherwise while the first has work, all are.
const NOTED_ONE_IN: u64 = 5;
/// One cycle of so many is a cancel.
const CANCEL_ONE_IN: u64 = 10;

/// What waits, and under which rules.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) policy: Policy,
    pub(super) lanes: bool,
    pub(super) queued: usize,
    pub(super) tenants: u32,
    /// Three classes, 10 % cancels, long lanes that are full half the time; otherwise one class and none of these.
    pub(super) is_mixed: bool,
}

impl Load {
    /// Callers send batches; where tenants have fewer than that waiting, they are smaller.
    pub(super) fn prompts_per_submit(&self) -> usize {
        (self.queued / (self.tenants as usize).max(100)).clamp(1, 100)
    }

    pub(super) fn lengths(&self) -> String {
        format!("lognormal, median {MEDIAN_TOKENS}, sigma {}", self.sigma())
    }

    /// Wide enough in the mix that a thousand prompts are in 60 buckets; the plain case keeps the lengths that its
    /// figures have always had.
    fn sigma(&self) -> f64 {
        if self.is_mixed { 1.8 } else { 1.5 }
    }

    fn classes(&self) -> usize {
        if self.is_mixed { CLASSES } else { 1 }
    }
}

pub(super) struct World {
    load: Load,
    scheduler: Scheduler,
    random: Random,
    now_ns: u64,
    cycles: u64,
    batches: u64,
    /// By class: the lengths of those that left the queue and are yet to be followed by others.
    owed: Vec<Vec<u32>>,
    /// The classes in which a whole batch is owed.
    full: Vec<usize>,
    /// The class of the ticket in each slot.
    classes: Vec<u8>,
    /// Some that were submitted long ago, to be cancelled.
    noted: VecDeque<(TicketId, u32)>,
    /// But for the long ones of the mix.
    in_prefill: VecDeque<TicketId>,
    long_lanes: LongLanes,
    /// Holders that are yet to be released.
    holders: u32,
    decoding: VecDeque<TicketId>,
    /// All that `fill` drew, by bucket: each is owed or waits, for one that leaves the queue is owed anew.
    drawn_by_bucket: Vec<u32>,
    prompts: Vec<Prompt>,
    /// Of the last poll: its memory is used again.
    decisions: Decisions,
    prompts_per_submit: usize,
}

impl World {
    pub(super) fn new(load: Load) -> Self {
        // With a prompt more in each batch, of which there may be as many as prompts.
        let queue_limit = (2 * load.queued + 1_000) as u32;
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
        Self {
            load,
            scheduler,
            random: Random(1),
            now_ns: 0,
            cycles: 0,
            batches: 0,
            owed: vec![Vec::new(); load.classes()],
            full: Vec::new(),
            classes: Vec::with_capacity(queue_limit as usize + 1_000),
            noted: VecDeque::with_capacity(load.queued),
            in_prefill: VecDeque::new(),
            long_lanes: LongLanes::default(),
            holders: 0,
            decoding: VecDeque::new(),
            drawn_by_bucket: vec![0; token_buckets::COUNT],
            prompts: Vec::new(),
            decisions: Decisions::default(),
            prompts_per_submit: load.prompts_per_submit(),
        }
    }

    /// As many as shall wait, those that will be in flight, and the batches that are yet to come.
    pub(super) fn fill(&mut self) {
        let classes = self.load.classes();
        let in_flight = (BACKENDS * CAP) as usize;
        let owed = classes * self.load.prompts_per_submit() / 2;
        for number in 0..self.load.queued + in_flight + owed {
            let class = number % classes;
            let tokens = self.random.lognormal(MEDIAN_TOKENS, self.load.sigma());
            self.drawn_by_bucket[usize::from(token_buckets::bucket_of(tokens))] += 1;
            self.owe(class, tokens);
            while let Some(class) = self.full.pop() {
                self.submit(class);
            }
        }
        self.poll();
    }

    /// Opens the batches that `fill` submits to then, which come in the same order of classes: one prompt waits in each.
    pub(super) fn open_batches(&mut self) {
        let prompts = self.load.queued + (BACKENDS * CAP) as usize;
        for number in 0..prompts / self.load.prompts_per_submit() {
            let class = number % self.load.classes();
            let tokens = self.random.lognormal(MEDIAN_TOKENS, self.load.sigma());
            self.drawn_by_bucket[usize::from(token_buckets::bucket_of(tokens))] += 1;
            self.owed[class].push(tokens);
            self.submit(class);
        }
        self.batches = 0;
    }

    /// Until so many prompts have ended, by a finish or a cancel.
    pub(super) fn run(&mut self, prompts: usize) {
        let mut ended = 0;
        let mut idle = 0;
        while ended < prompts {
            assert!(idle < 2 * PHASE, "nothing ends any more");
            idle += 1;
            self.now_ns += STEP_NS;
            self.cycles += 1;
            if self.load.is_mixed {
                self.long_lanes.count();
                if self.cycles % (2 * PHASE) == PHASE {
                    self.submit_holders();
                    self.poll();
                }
            }
            while let Some(class) = self.full.pop() {
                self.submit(class);
                self.poll();
            }
            if self.load.is_mixed && self.cycles.is_multiple_of(CANCEL_ONE_IN) {
                self.cancel();
                self.poll();
                (ended, idle) = (ended + 1, 0);
                continue;
            }
            if let Some(ticket) = self.next_first_token() {
                self.scheduler.first_token(self.now_ns, ticket).expect("it is in flight");
                self.decoding.push_back(ticket);
                self.poll();
            }
            if let Some(ticket) = self.decoding.pop_front() {
                self.scheduler.finish(self.now_ns, ticket, Outcome::Success).expect("it is in flight");
                self.poll();
                (ended, idle) = (ended + 1, 0);
            }
        }
    }

    pub(super) fn queued(&self) -> usize {
        self.scheduler.snapshot().queued as usize
    }

    /// Waiting and in flight.
    pub(super) fn tickets(&self) -> usize {
        let snapshot = self.scheduler.snapshot();
        (snapshot.queued + snapshot.in_flight) as usize
    }

    /// From here on.
    pub(super) fn count_full_lanes(&mut self) {
        self.long_lanes.count_anew();
    }

    /// The share of the time in which a long lane was full, a mean over the lanes.
    pub(super) fn long_lane_full(&self) -> f64 {
        self.long_lanes.full_share()
    }

    /// Panics where the core's own count of long prompts in prefill is another.
    pub(super) fn compare_long_lanes(&self) {
        if self.load.is_mixed {
            self.long_lanes.compare(&self.scheduler.snapshot());
        }
    }

    pub(super) fn nonempty_buckets(&self) -> usize {
        let mut waiting = self.drawn_by_bucket.clone();
        for &tokens in self.owed.iter().flatten() {
            waiting[usize::from(token_buckets::bucket_of(tokens))] -= 1;
        }
        waiting.iter().filter(|&&waiting| waiting > 0).count()
    }

    /// Heap of what is here and not in the core.
    pub(super) fn own_bytes(&self) -> i64 {
        let owed: usize = self.owed.iter().map(Vec::capacity).sum();
        let bytes = self.owed.capacity() * size_of::<Vec<u32>>()
            + owed * size_of::<u32>()
            + self.full.capacity() * size_of::<usize>()
            + self.classes.capacity()
            + self.noted.capacity() * size_of::<(TicketId, u32)>()
            + self.in_prefill.capacity() * size_of::<TicketId>()
            + self.long_lanes.own_bytes()
            + self.decoding.capacity() * size_of::<TicketId>()
            + self.drawn_by_bucket.capacity() * size_of::<u32>()
            + self.prompts.capacity() * size_of::<Prompt>()
            + self.decisions.dispatches.capacity() * size_of::<Dispatch>();
        bytes.cast_signed() as i64
    }

    /// In every other phase long prompts stay in prefill and keep their lanes full; in the others they go first, in every
    /// other cycle: where short prompts wait for room in their own lane, long ones alone would come and go for ever.
    fn next_first_token(&mut self) -> Option<TicketId> {
        let is_held = (self.cycles / PHASE) % 2 == 1;
        let is_due = !is_held && self.cycles.is_multiple_of(2);
        let long = if is_due { self.long_lanes.leave() } else { None };
        long.or_else(|| self.in_prefill.pop_front())
    }

    /// A long prompt for each lane, besides those that still wait because others were before them. Left to itself the
    /// policy prefers short ones: the larger the queue, the more rarely a lane would fill.
    fn submit_holders(&mut self) {
        self.prompts.clear();
        let holder = Prompt { class: 0, tokens: HOLDER_TOKENS, ..Prompt::default() };
        self.prompts.extend((self.holders..BACKENDS).map(|index| Prompt { index, ..holder }));
        self.holders = BACKENDS;
        self.submit_prompts(
            HOLDER,
            BatchOptions { tenant: self.load.tenants, weight: HOLDERS_WEIGHT, ..OPTIONS },
        );
    }

    /// Submits what is owed in a class as a batch of a tenant drawn at random.
    fn submit(&mut self, class: usize) {
        self.prompts.clear();
        for (index, tokens) in (0..).zip(self.owed[class].drain(..)) {
            let class = if self.load.is_mixed { class as u32 } else { 1 };
            self.prompts.push(Prompt { class, tokens, index, ..Prompt::default() });
        }
        let tenant = (self.random.next() % u64::from(self.load.tenants)) as u32;
        self.submit_prompts(class as u8, BatchOptions { tenant, ..OPTIONS });
    }

    fn submit_prompts(&mut self, class: u8, options: BatchOptions) {
        self.batches += 1;
        let tickets = self.scheduler.submit(self.now_ns, self.batches, &self.prompts, options);
        for (at, ticket) in tickets.expect("there is room").into_iter().enumerate() {
            let slot = slot_of(ticket);
            if slot >= self.classes.len() {
                self.classes.resize(slot + 1, 0);
            }
            self.classes[slot] = class;
            if self.is_noted(class) {
                self.noted.push_back((ticket, self.prompts[at].tokens));
            }
        }
    }

    fn is_noted(&mut self, class: u8) -> bool {
        match class {
            _ if !self.load.is_mixed => false,
            HOLDER => false,
            0 => self.random.next().is_multiple_of(NOTED_ONE_IN),
            _ => true,
        }
    }

    /// Cancels the oldest noted one that still waits.
    fn cancel(&mut self) {
        loop {
            let (ticket, tokens) = self.noted.pop_front().expect("as many are noted as are cancelled");
            let class = self.classes[slot_of(ticket)];
            if !self.scheduler.cancel(self.now_ns, ticket).removed.is_empty() {
                self.owe(usize::from(class), tokens);
                return;
            }
        }
    }

    fn owe(&mut self, class: usize, tokens: u32) {
        self.owed[class].push(tokens);
        if self.owed[class].len() == self.prompts_per_submit {
            self.full.push(class);
        }
    }

    fn poll(&mut self) {
        self.scheduler.poll_into(self.now_ns, &mut self.decisions);
        assert!(self.decisions.expired.is_empty() && self.decisions.overdue.is_empty());
        for at in 0..self.decisions.dispatches.len() {
            let Dispatch { ticket, prefill_tokens: tokens, .. } = self.decisions.dispatches[at];
            match self.classes[slot_of(ticket)] {
                HOLDER => self.holders -= 1,
                class => self.owe(usize::from(class), tokens),
            }
            if self.load.is_mixed && is_long(tokens) {
                self.long_lanes.enter(ticket);
            } else {
                self.in_prefill.push_back(ticket);
            }
        }
        std::hint::black_box(self.scheduler.next_deadline());
    }
}

/// The slot is in the low 22 bits of a ticket's number.
fn slot_of(ticket: TicketId) -> usize {
    (ticket.0 & ((1 << 22) - 1)) as usize
}
