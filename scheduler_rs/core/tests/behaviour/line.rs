//! A line of callers before one or more backends: arrivals and ends of attempts in virtual time.

use crate::driver::{Driver, SECOND};
use expresslane_scheduler::{
    BackendConfig, BatchOptions, Config, Error, ModelId, Prompt, TenantId, TicketId,
};
use std::collections::{BTreeMap, BTreeSet};

/// A prompt as a caller sends it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) model: ModelId,
    pub(crate) tenant: TenantId,
    pub(crate) class: u32,
    pub(crate) tokens: u32,
}

pub(crate) const PLAIN: Sent = Sent { model: 0, tenant: 1, class: 1, tokens: 100 };

/// How long an attempt at a prompt of so many tokens takes to its first token, and from there to its end.
pub(crate) type Service = Box<dyn Fn(u32) -> (u64, u64)>;

pub(crate) struct Line {
    pub(crate) driver: Driver,
    /// While it is false no attempt goes on.
    pub(crate) runs: bool,
    service: Service,
    /// What comes of attempts: first tokens, with how long after them the end comes, and ends.
    events: BTreeSet<(u64, TicketId, Option<u64>)>,
    tokens: BTreeMap<TicketId, u32>,
    /// When each was released, and how long it had waited.
    pub(crate) waits: Vec<(u64, u64)>,
    /// Of the same prompts.
    pub(crate) sizes: Vec<u32>,
    pub(crate) refused: Vec<Error>,
    batches: u64,
}

impl Line {
    pub(crate) fn new(config: Config, backends: &[BackendConfig], service: Service) -> Self {
        let mut driver = Driver::new(config);
        for (backend, config) in (0..).zip(backends) {
            driver.backend(backend, config.clone());
        }
        Self {
            driver,
            runs: true,
            service,
            events: BTreeSet::new(),
            tokens: BTreeMap::new(),
            waits: Vec::new(),
            sizes: Vec::new(),
            refused: Vec::new(),
            batches: 0,
        }
    }

    /// A batch of `count` such prompts comes now.
    pub(crate) fn send(&mut self, sent: Sent, count: usize) -> Result<Vec<TicketId>, Error> {
        self.send_with(sent, count, BatchOptions::default())
    }

    pub(crate) fn send_with(
        &mut self,
        sent: Sent,
        count: usize,
        options: BatchOptions,
    ) -> Result<Vec<TicketId>, Error> {
        self.batches += 1;
        let Sent { model, tenant, class, tokens } = sent;
        let prompt = |index| Prompt { model, class, tokens, index, ..Prompt::default() };
        let prompts: Vec<_> = (0..count as u32).map(prompt).collect();
        let options = BatchOptions { tenant, ..options };
        let answer = self.driver.scheduler.submit(self.driver.now_ns, self.batches, &prompts, options);
        match &answer {
            Ok(tickets) => self.tokens.extend(tickets.iter().map(|&ticket| (ticket, tokens))),
            Err(error) => self.refused.push(error.clone()),
        }
        self.release();
        answer
    }

    /// Lets time pass, with what comes of attempts in it.
    pub(crate) fn run(&mut self, for_ns: u64) {
        let until_ns = self.driver.now_ns + for_ns;
        while let Some(event) = self.events.pop_first() {
            let (at_ns, ticket, to_end_ns) = event;
            if !self.runs || at_ns > until_ns {
                self.events.insert(event);
                break;
            }
            self.driver.now_ns = self.driver.now_ns.max(at_ns);
            if let Some(to_end_ns) = to_end_ns {
                self.driver.first_token(ticket);
                self.events.insert((self.driver.now_ns + to_end_ns, ticket, None));
            } else {
                self.driver.finish(ticket);
            }
            self.release();
        }
        self.driver.now_ns = until_ns;
        self.release();
    }

    /// Sends `per_s` single prompts a second, evenly, for so many seconds.
    pub(crate) fn flood(&mut self, sent: Sent, per_s: u64, seconds: u64) {
        for _ in 0..per_s * seconds {
            let _ = self.send(sent, 1);
            self.run(SECOND / per_s);
        }
    }

    pub(crate) fn queued(&self) -> u32 {
        self.driver.scheduler.snapshot().queued
    }

    fn release(&mut self) {
        for dispatch in self.driver.dispatches() {
            let tokens = self.tokens.remove(&dispatch.ticket).expect("it was sent");
            let (prefill_ns, decode_ns) = (self.service)(tokens);
            self.events.insert((self.driver.now_ns + prefill_ns, dispatch.ticket, Some(decode_ns)));
            self.waits.push((self.driver.now_ns, dispatch.queue_wait_ns));
            self.sizes.push(tokens);
        }
    }
}
