//! Any bytes as a sequence of calls: nothing panics, counters stay conserved, and after the last call all can end.
//!
//! Where the laws' traces make sense, these need not: unknown batches, tickets and backends, absurd sizes and times.

use expresslane_scheduler::{
    AttemptDeadline, BackendConfig, BatchOptions, Config, ModelRoute, Outcome, Policy, Prompt, Scheduler,
    Scope, Snapshot, TicketId, Usage,
};
use proptest::prelude::*;

/// Numbers from bytes; zeros once they are used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let (&first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        first
    }

    /// Mostly small, sometimes huge.
    fn number(&mut self) -> u64 {
        let byte = self.byte();
        if byte < 200 { u64::from(byte) } else { u64::from(self.byte()) << (byte - 200) }
    }

    fn small(&mut self) -> u32 {
        self.number() as u32
    }

    /// 0 to `below` - 1, but now and then `below` itself, which is wrong.
    fn mostly_below(&mut self, below: u32) -> u32 {
        let byte = self.byte();
        if byte == u8::MAX { below } else { u32::from(byte) % below }
    }

    fn one_in(&mut self, times: u8) -> bool {
        self.byte().is_multiple_of(times)
    }

    /// None, or within what a clock shows in nine years.
    fn time_ns(&mut self) -> u64 {
        if self.one_in(4) { self.number().min(1 << 58) } else { 0 }
    }
}

struct Fuzzed {
    scheduler: Scheduler,
    now_ns: u64,
    tickets: Vec<TicketId>,
}

impl Fuzzed {
    fn new() -> Self {
        let config = Config { queue_limit: 200, queue_limit_ns: 1_000_000_000, ..Config::default() };
        let mut scheduler = Scheduler::new(config).expect("it is right");
        for backend in 0..2 {
            let models = (0..9).map(|model| ModelRoute { model, cap: 0 }).collect();
            let config = BackendConfig { models, cap: 8, ..BackendConfig::default() };
            scheduler.update_backend(0, backend, config).expect("it is right");
        }
        Self { scheduler, now_ns: 0, tickets: Vec::new() }
    }

    fn call(&mut self, bytes: &mut Bytes<'_>) {
        let (now_ns, ticket) = (self.now_ns, self.ticket(bytes));
        let scheduler = &mut self.scheduler;
        match bytes.byte() % 16 {
            0..=2 => self.submit(bytes),
            3 => _ = scheduler.first_token(now_ns, ticket),
            4 => _ = scheduler.finish(now_ns, ticket, Outcome::ALL[usize::from(bytes.byte() % 4)]),
            5 => {
                let usage = Usage { uncached_input_tokens: bytes.small(), output_tokens: bytes.small() };
                _ = scheduler.finish_with_usage(now_ns, ticket, Outcome::Success, Some(usage));
            }
            6 => _ = scheduler.retry(now_ns, ticket, bytes.time_ns(), bytes.one_in(2)),
            7 => _ = scheduler.cancel(now_ns, ticket),
            8 => _ = scheduler.cancel_batch(now_ns, bytes.number() % 8),
            9 => scheduler.hold_batch(now_ns, bytes.number() % 8, bytes.small()),
            10 => scheduler.release_batch(now_ns, bytes.number() % 8),
            11 if bytes.one_in(4) => self.update(bytes),
            11 => _ = scheduler.next_deadline(),
            12 => scheduler.pause(now_ns, bytes.small() % 4, None, bytes.time_ns()),
            13 => {
                let scope = Scope { class: Some(bytes.mostly_below(3)), model: Some(bytes.small() % 3) };
                let name = Policy::NAMES[usize::from(bytes.byte()) % Policy::NAMES.len()];
                _ = scheduler.set_policy(now_ns, scope, name.parse().ok());
            }
            14 => {
                let deadlines =
                    [AttemptDeadline::FirstToken, AttemptDeadline::Idle, AttemptDeadline::Attempt];
                let deadline = deadlines[usize::from(bytes.byte() % 3)];
                _ = scheduler.rearm(now_ns, ticket, deadline, bytes.time_ns());
            }
            // The clock may even seem to go back.
            _ => self.now_ns = if bytes.byte() == 0 { 0 } else { (now_ns + bytes.time_ns()).min(1 << 59) },
        }
    }

    /// One that was given out, or none that ever was.
    fn ticket(&self, bytes: &mut Bytes<'_>) -> TicketId {
        let at = bytes.number() as usize;
        self.tickets.get(at % self.tickets.len().max(1)).copied().unwrap_or(TicketId(at as u64))
    }

    fn submit(&mut self, bytes: &mut Bytes<'_>) {
        let prompts: Vec<Prompt> = (0..bytes.byte() % 20)
            .map(|_| Prompt {
                model: bytes.small() % 9,
                class: bytes.mostly_below(3),
                tokens: bytes.small(),
                queue_timeout_ns: bytes.time_ns(),
                index: bytes.small(),
                output_tokens: bytes.small(),
                sequential: bytes.one_in(8),
                ttft_deadline_ns: bytes.number(),
            })
            .collect();
        let options = BatchOptions {
            queue_timeout_ns: bytes.time_ns(),
            deadline_ns: bytes.time_ns(),
            tenant: bytes.small(),
            weight: bytes.small(),
            may_wait: bytes.one_in(4),
        };
        if let Ok(tickets) = self.scheduler.submit(self.now_ns, bytes.number() % 8, &prompts, options) {
            self.tickets.extend(tickets);
        }
    }

    fn update(&mut self, bytes: &mut Bytes<'_>) {
        let models =
            (0..bytes.byte() % 4).map(|_| ModelRoute { model: bytes.small() % 9, cap: bytes.small() % 4 });
        let config = BackendConfig {
            models: models.collect(),
            cap: bytes.small(),
            available: !bytes.one_in(4),
            long_threshold_tokens: bytes.small(),
            lanes: bytes.one_in(2),
            attempt_timeout_ns: bytes.time_ns(),
            idle_timeout_ns: bytes.time_ns(),
            first_token_timeout_ns: bytes.time_ns(),
            requests_per_min: bytes.small(),
            long_slots: Some(bytes.small()),
            short_budget_tokens: Some(bytes.small()),
            tokens_per_min: bytes.number(),
            ..BackendConfig::default()
        };
        _ = self.scheduler.update_backend(self.now_ns, bytes.small() % 4, config);
    }

    fn conserved(&mut self) -> Snapshot {
        let decisions = self.scheduler.poll(self.now_ns);
        let seen = self.scheduler.snapshot();
        let ended = seen.succeeded + seen.failed + seen.cancelled + seen.expired;
        assert_eq!(seen.submitted, ended + u64::from(seen.queued) + u64::from(seen.in_flight));
        assert_eq!(seen.submitted, self.tickets.len() as u64);
        assert_eq!(seen.backends.iter().map(|backend| backend.in_flight).sum::<u32>(), seen.in_flight);
        assert!(decisions.dispatches.iter().all(|sent| self.tickets.contains(&sent.ticket)));
        seen
    }

    /// Everything is cancelled and what is in flight ends.
    fn end(&mut self) {
        for ticket in std::mem::take(&mut self.tickets) {
            let cancelled = self.scheduler.cancel(self.now_ns, ticket);
            for ticket in cancelled.in_flight {
                self.scheduler.finish(self.now_ns, ticket, Outcome::Cancelled).expect("it is in flight");
            }
        }
        let seen = self.scheduler.snapshot();
        assert_eq!((seen.queued, seen.in_flight, seen.queued_tokens), (0, 0, 0));
        assert_eq!((seen.held, seen.retry_waiting), (0, 0));
    }
}

proptest! {
    /// No sequence of calls makes the scheduler panic or lose a ticket.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..1_500)) {
        let mut fuzzed = Fuzzed::new();
        let mut bytes = Bytes(&bytes);
        while !bytes.0.is_empty() {
            fuzzed.call(&mut bytes);
            fuzzed.conserved();
        }
        fuzzed.end();
    }
}
