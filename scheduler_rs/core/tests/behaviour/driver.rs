//! A virtual clock around a scheduler, with as much of an engine as the tests need.

use expresslane_scheduler::{
    BackendConfig, BackendId, BatchId, BatchOptions, Config, Decisions, Dispatch, Error, ModelId, ModelRoute,
    Outcome, Policy, Prompt, RetryAnswer, Scheduler, TicketId,
};
use std::collections::BTreeMap;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000 * MS;
pub(crate) const INTERACTIVE: u32 = 0;
pub(crate) const STANDARD: u32 = 1;
pub(crate) const BULK: u32 = 2;

/// A backend with one slot for model 0 and no lanes: what most tests start from.
pub(crate) fn plain(cap: u32) -> BackendConfig {
    BackendConfig { cap, models: serving(&[0]), lanes: false, ..BackendConfig::default() }
}

/// A backend with lanes on and slots for all.
pub(crate) fn laned(long_slots: u32, short_budget_tokens: u32) -> BackendConfig {
    BackendConfig {
        lanes: true,
        long_threshold_tokens: 4_096,
        long_slots: Some(long_slots),
        short_budget_tokens: Some(short_budget_tokens),
        ..plain(1_000)
    }
}

pub(crate) fn serving(models: &[ModelId]) -> Vec<ModelRoute> {
    models.iter().map(|&model| ModelRoute { model, cap: 0 }).collect()
}

pub(crate) fn policy(name: &str) -> Policy {
    name.parse().expect("a policy's name")
}

pub(crate) struct Driver {
    pub(crate) scheduler: Scheduler,
    pub(crate) now_ns: u64,
    next_index: BTreeMap<BatchId, u32>,
}

impl Driver {
    pub(crate) fn new(config: Config) -> Self {
        let scheduler = Scheduler::new(config).expect("the configuration is right");
        Self { scheduler, now_ns: 0, next_index: BTreeMap::new() }
    }

    pub(crate) fn with(policy_name: &str, backends: &[BackendConfig]) -> Self {
        let mut driver = Self::new(Config { policy: policy(policy_name), ..Config::default() });
        for (backend, config) in (0..).zip(backends) {
            driver.backend(backend, config.clone());
        }
        driver
    }

    pub(crate) fn backend(&mut self, backend: BackendId, config: BackendConfig) {
        self.scheduler.update_backend(self.now_ns, backend, config).expect("the backend is right");
    }

    pub(crate) fn try_submit(
        &mut self,
        batch: BatchId,
        prompts: &[(ModelId, u32, u32)],
        options: BatchOptions,
    ) -> Result<Vec<TicketId>, Error> {
        let first = self.next_index.entry(batch).or_insert(0);
        let prompts: Vec<Prompt> = (*first..)
            .zip(prompts)
            .map(|(index, &(model, class, tokens))| Prompt {
                model,
                class,
                tokens,
                queue_timeout_ns: 0,
                index,
                ..Prompt::default()
            })
            .collect();
        *first += prompts.len() as u32;
        self.scheduler.submit(self.now_ns, batch, &prompts, options)
    }

    /// Queues standard prompts of these sizes for model 0 as a batch without deadlines.
    pub(crate) fn submit(&mut self, batch: BatchId, sizes: &[u32]) -> Vec<TicketId> {
        let prompts: Vec<_> = sizes.iter().map(|&tokens| (0, STANDARD, tokens)).collect();
        self.try_submit(batch, &prompts, BatchOptions::default()).expect("the queue has room")
    }

    pub(crate) fn submit_one(&mut self, model: ModelId, class: u32, tokens: u32) -> TicketId {
        let tickets = self.try_submit(0, &[(model, class, tokens)], BatchOptions::default());
        tickets.expect("the queue has room")[0]
    }

    pub(crate) fn advance(&mut self, by_ns: u64) {
        self.now_ns += by_ns;
    }

    pub(crate) fn poll(&mut self) -> Decisions {
        self.scheduler.poll(self.now_ns)
    }

    pub(crate) fn dispatches(&mut self) -> Vec<Dispatch> {
        self.poll().dispatches
    }

    pub(crate) fn released(&mut self) -> Vec<TicketId> {
        self.dispatches().iter().map(|dispatch| dispatch.ticket).collect()
    }

    pub(crate) fn first_token(&mut self, ticket: TicketId) {
        assert!(self.scheduler.first_token(self.now_ns, ticket).expect("it is in flight"));
    }

    pub(crate) fn finish(&mut self, ticket: TicketId) {
        self.scheduler.finish(self.now_ns, ticket, Outcome::Success).expect("it is in flight");
    }

    pub(crate) fn retry(&mut self, ticket: TicketId, delay_ns: u64, exclude_backend: bool) -> bool {
        let not_before_ns = self.now_ns + delay_ns;
        let answer = self.scheduler.retry(self.now_ns, ticket, not_before_ns, exclude_backend, false);
        answer.expect("it is in flight").is_queued()
    }

    /// The backend asks for the wait.
    pub(crate) fn retry_as_asked(&mut self, ticket: TicketId, delay_ns: u64) -> RetryAnswer {
        let answer = self.scheduler.retry(self.now_ns, ticket, self.now_ns + delay_ns, false, true);
        answer.expect("it is in flight")
    }

    /// Runs whatever is released, one attempt at a time, and returns the order of release.
    pub(crate) fn run_one_at_a_time(&mut self, service_ns: u64) -> Vec<TicketId> {
        let mut order = Vec::new();
        loop {
            let released = self.released();
            assert!(released.len() <= 1, "one slot takes one ticket");
            let Some(&ticket) = released.first() else { return order };
            order.push(ticket);
            self.advance(service_ns);
            self.finish(ticket);
        }
    }
}
