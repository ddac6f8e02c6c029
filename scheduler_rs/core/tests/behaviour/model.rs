//! A naive model of the rules: it looks at every pair of ticket and backend, and knows nothing of buckets or heaps.

use expresslane_scheduler::{
    BackendConfig, BackendId, BackendSnapshot, BatchId, Decisions, Dispatch, ExpiryReason, Fairness,
    LimitKind, ModelId, Prompt, Snapshot, TenantId, TicketId, token_buckets,
};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum At {
    Waiting { not_before_ns: u64, since_ns: u64 },
    Backend { backend: BackendId, in_prefill: bool },
}

#[derive(Clone, Debug)]
pub(crate) struct ModelTicket {
    pub(crate) batch: BatchId,
    /// Ascending with the submit.
    pub(crate) number: u64,
    pub(crate) prompt: Prompt,
    pub(crate) edge: u32,
    pub(crate) submitted_ns: u64,
    pub(crate) excluded: Vec<BackendId>,
    pub(crate) is_long: bool,
    pub(crate) cancelled: bool,
    pub(crate) at: At,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ModelBatch {
    pub(crate) queue_timeout_ns: u64,
    pub(crate) deadline_ns: u64,
    pub(crate) restarted_ns: u64,
    pub(crate) tenant: TenantId,
    pub(crate) horizon: Option<u32>,
}

impl ModelBatch {
    pub(crate) fn move_horizon(&mut self, horizon: Option<u32>, now_ns: u64) {
        if self.horizon != horizon {
            self.restarted_ns = now_ns;
        }
        self.horizon = horizon;
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) in_flight_limit: u32,
    pub(crate) fairness: Fairness,
    pub(crate) tickets: BTreeMap<TicketId, ModelTicket>,
    pub(crate) batches: BTreeMap<BatchId, ModelBatch>,
    pub(crate) early_horizons: BTreeMap<BatchId, u32>,
    pub(crate) backends: BTreeMap<BackendId, BackendConfig>,
    /// Times of the releases to each backend while its requests are limited.
    pub(crate) requests: BTreeMap<BackendId, Vec<u64>>,
    /// (time, tokens) of the releases to each backend while its tokens are limited.
    pub(crate) tokens: BTreeMap<BackendId, Vec<(u64, u64)>>,
    pub(crate) ended: u64,
    pub(crate) submitted: u64,
    pub(crate) paused: BTreeMap<BackendId, u64>,
    /// What a limit closed in the last poll.
    pub(crate) closed: Vec<BackendId>,
}

pub(crate) fn edge_of(tokens: u32) -> u32 {
    token_buckets::edge(token_buckets::bucket_of(tokens))
}

fn is_long(config: &BackendConfig, edge: u32) -> bool {
    config.long_threshold_tokens != 0 && edge > edge_of(config.long_threshold_tokens)
}

/// What the caller says, or else what an engine of unknown step and round trip gets.
fn lane_limits(config: &BackendConfig) -> (u32, u32) {
    (config.long_slots.unwrap_or(1), config.short_budget_tokens.unwrap_or(32_768))
}

impl Model {
    pub(crate) fn end(&mut self, id: TicketId) -> ModelTicket {
        let ticket = self.tickets.remove(&id).expect("a ticket ends once");
        self.ended += 1;
        if !self.tickets.values().any(|other| other.batch == ticket.batch) {
            self.batches.remove(&ticket.batch);
        }
        ticket
    }

    fn at_backend(&self, backend: BackendId) -> impl Iterator<Item = (&ModelTicket, bool)> {
        self.tickets.values().filter_map(move |ticket| match ticket.at {
            At::Backend { backend: at, in_prefill } if at == backend => Some((ticket, in_prefill)),
            _ => None,
        })
    }

    /// Whether a retry of this ticket in flight makes sense.
    pub(crate) fn can_retry(&self, id: TicketId, not_before_ns: u64, exclude_backend: bool) -> bool {
        let ticket = &self.tickets[&id];
        let At::Backend { backend: last, .. } = ticket.at else { return false };
        let deadline_ns = self.batches[&ticket.batch].deadline_ns;
        let elsewhere = self.backends.keys().any(|&backend| {
            backend != last
                && !ticket.excluded.contains(&backend)
                && self.serves(backend, ticket.prompt.model)
        });
        !ticket.cancelled
            && (deadline_ns == 0 || not_before_ns < deadline_ns)
            && (!exclude_backend || elsewhere)
    }

    pub(crate) fn serves(&self, backend: BackendId, model: ModelId) -> bool {
        self.backends[&backend].models.iter().any(|route| route.model == model)
    }

    /// Why the backend cannot take the ticket now, if it cannot.
    pub(crate) fn obstacle(&self, ticket: &ModelTicket, backend: BackendId) -> Option<&'static str> {
        let config = &self.backends[&backend];
        let Some(route) = config.models.iter().find(|route| route.model == ticket.prompt.model) else {
            return Some("not served");
        };
        let count = |pick: &dyn Fn(&ModelTicket, bool) -> bool| {
            self.at_backend(backend).filter(|&(ticket, in_prefill)| pick(ticket, in_prefill)).count() as u32
        };
        let in_flight = count(&|_, _| true);
        let in_flight_of_model = count(&|other, _| other.prompt.model == ticket.prompt.model);
        let in_flight_all =
            self.tickets.values().filter(|other| matches!(other.at, At::Backend { .. })).count() as u32;
        let long = count(&|other, in_prefill| in_prefill && other.is_long);
        let short_tokens = self.short_tokens(backend);
        let (long_slots, short_budget) = lane_limits(config);
        let fits_short = short_budget == 0
            || short_tokens == 0
            || short_tokens + u64::from(ticket.edge) <= u64::from(short_budget);
        let obstacles = [
            (!config.available, "unavailable"),
            (ticket.excluded.contains(&backend), "excluded"),
            (in_flight >= config.cap, "cap"),
            (route.cap > 0 && in_flight_of_model >= route.cap, "model cap"),
            (self.in_flight_limit > 0 && in_flight_all >= self.in_flight_limit, "global cap"),
            (
                config.lanes && is_long(config, ticket.edge) && long_slots > 0 && long >= long_slots,
                "long lane",
            ),
            (config.lanes && !is_long(config, ticket.edge) && !fits_short, "short lane"),
        ];
        obstacles.into_iter().find(|(is_met, _)| *is_met).map(|(_, why)| why)
    }

    fn short_tokens(&self, backend: BackendId) -> u64 {
        let shorts = self.at_backend(backend).filter(|(ticket, in_prefill)| *in_prefill && !ticket.is_long);
        shorts.map(|(ticket, _)| u64::from(ticket.edge)).sum()
    }

    /// Whether nothing but its backends can keep the ticket back.
    pub(crate) fn is_ready(&self, ticket: &ModelTicket, now_ns: u64) -> bool {
        let horizon = self.batches[&ticket.batch].horizon;
        let in_horizon = horizon.is_none_or(|horizon| ticket.prompt.index < horizon);
        in_horizon
            && !self.is_barred(ticket)
            && matches!(ticket.at, At::Waiting { not_before_ns, .. } if not_before_ns <= now_ns)
    }

    /// Whether an unfinished earlier prompt of its batch must end before it.
    fn is_barred(&self, ticket: &ModelTicket) -> bool {
        self.tickets.values().any(|other| {
            other.batch == ticket.batch
                && other.number < ticket.number
                && (ticket.prompt.sequential || other.prompt.sequential)
        })
    }

    /// Ready tickets with the backends that could take them, those whose short lane is kept for another left out.
    fn feasible<'a>(
        &'a self,
        now_ns: u64,
        reserved: &'a [BackendId],
    ) -> impl Iterator<Item = (TicketId, &'a ModelTicket)> {
        self.tickets.iter().map(|(&id, ticket)| (id, ticket)).filter(move |(_, ticket)| {
            self.is_ready(ticket, now_ns)
                && self.backends.iter().any(|(&backend, config)| {
                    let is_kept =
                        reserved.contains(&backend) && config.lanes && !is_long(config, ticket.edge);
                    let is_closed = self.closed.contains(&backend);
                    !is_kept && !is_closed && self.obstacle(ticket, backend).is_none()
                })
        })
    }

    /// Applies what a poll decided, checking each decision against the rules at its moment.
    pub(crate) fn apply(&mut self, now_ns: u64, decisions: &Decisions, reserved: &[BackendId]) {
        for expired in &decisions.expired {
            let due_ns = self.queue_due_ns(&self.tickets[&expired.ticket]);
            let batch = &self.batches[&self.tickets[&expired.ticket].batch];
            match expired.reason {
                ExpiryReason::Queue => assert!(due_ns <= now_ns, "{expired:?} before {due_ns}"),
                ExpiryReason::Batch => assert!(batch.deadline_ns != 0 && batch.deadline_ns <= now_ns),
                ExpiryReason::NoBackend => self.assert_no_backend(expired.ticket),
            }
        }
        for expired in &decisions.expired {
            let ticket = self.end(expired.ticket);
            assert!(matches!(ticket.at, At::Waiting { .. }), "only waiting tickets expire");
        }
        for dispatch in &decisions.dispatches {
            self.release(now_ns, *dispatch, reserved);
        }
    }

    fn assert_no_backend(&self, id: TicketId) {
        let ticket = &self.tickets[&id];
        let reachable = self.backends.iter().any(|(&backend, config)| {
            config.available
                && self.serves(backend, ticket.prompt.model)
                && !ticket.excluded.contains(&backend)
        });
        assert!(!reachable, "{id} expired although a backend is there");
    }

    fn release(&mut self, now_ns: u64, dispatch: Dispatch, reserved: &[BackendId]) {
        let id = dispatch.ticket;
        let ticket = self.tickets.get(&id).expect("it has not ended").clone();
        assert!(self.is_ready(&ticket, now_ns), "{id} was not ready");
        assert_eq!(self.obstacle(&ticket, dispatch.backend), None, "{id} at backend {}", dispatch.backend);
        assert_eq!(dispatch.prefill_tokens, ticket.prompt.tokens);
        for (other_id, other) in self.feasible(now_ns, reserved) {
            assert!(
                other.prompt.class >= ticket.prompt.class,
                "{id} of class {} went before {other_id} of class {}",
                ticket.prompt.class,
                other.prompt.class
            );
            let kind = |ticket: &ModelTicket| {
                let prompt = &ticket.prompt;
                (prompt.class, prompt.model, ticket.edge, prompt.ttft_deadline_ns, prompt.output_tokens)
            };
            let is_alike = kind(other) == kind(&ticket)
                && other.excluded == ticket.excluded
                && self.is_same_flow(other, &ticket);
            assert!(!is_alike || other_id >= id, "{id} went before {other_id}, which is alike and older");
        }
        self.count_release(now_ns, dispatch.backend, &ticket.prompt);
        let config = &self.backends[&dispatch.backend];
        let is_long = is_long(config, ticket.edge);
        let at = At::Backend { backend: dispatch.backend, in_prefill: true };
        self.tickets.insert(id, ModelTicket { is_long, at, ..ticket });
    }

    /// Whether every backend that serves it has a limit below the prompt.
    pub(crate) fn is_above_limits(&self, prompt: &Prompt) -> bool {
        let serving = self.backends.keys().filter(|&&backend| self.serves(backend, prompt.model));
        let count = serving.count();
        count > 0 && self.too_small_for(prompt).len() == count
    }

    /// The backends that serve it and have a limit below the prompt.
    pub(crate) fn too_small_for(&self, prompt: &Prompt) -> Vec<BackendId> {
        let tokens = u64::from(prompt.tokens) + u64::from(prompt.output_tokens);
        let too_small = self.backends.iter().filter(|(backend, config)| {
            self.serves(**backend, prompt.model) && (1..tokens).contains(&config.tokens_per_min)
        });
        too_small.map(|(&backend, _)| backend).collect()
    }

    /// No window of 60 seconds holds more than the limits; what is above a whole limit goes alone.
    fn count_release(&mut self, now_ns: u64, backend: BackendId, prompt: &Prompt) {
        let config = &self.backends[&backend];
        let tokens = u64::from(prompt.tokens) + u64::from(prompt.output_tokens);
        let is_recent = |at_ns: u64| at_ns + 60_000_000_000 > now_ns;
        if config.requests_per_min > 0 {
            let log = self.requests.entry(backend).or_default();
            log.push(now_ns);
            let count = log.iter().filter(|at_ns| is_recent(**at_ns)).count();
            assert!(count <= config.requests_per_min as usize, "{count} requests in a minute");
        }
        if config.tokens_per_min > 0 {
            let log = self.tokens.entry(backend).or_default();
            log.push((now_ns, tokens));
            let recent = log.iter().filter(|(at_ns, _)| is_recent(*at_ns));
            let sum: u64 = recent.map(|(_, tokens)| tokens).sum();
            assert!(sum <= config.tokens_per_min || sum == tokens, "{sum} tokens in a minute");
        }
    }

    /// The backends that a limit closes; it must be one that is really reached, give or take a tenth of a second.
    pub(crate) fn limited(&self, now_ns: u64, snapshot: &Snapshot) -> Vec<BackendId> {
        let closed = snapshot.backends.iter().filter_map(|backend| Some((backend.backend, backend.limited?)));
        closed
            .map(|(backend, (kind, reset_at_ns))| {
                assert!(reset_at_ns > now_ns);
                let is_recent = |at_ns: u64| at_ns + 60_100_000_000 > now_ns;
                let config = &self.backends[&backend];
                match kind {
                    LimitKind::Requests => {
                        let recent = self.requests[&backend].iter().filter(|at_ns| is_recent(**at_ns));
                        assert!(recent.count() >= config.requests_per_min as usize);
                    }
                    LimitKind::Tokens => {
                        let recent = self.tokens[&backend].iter().filter(|(at_ns, _)| is_recent(*at_ns));
                        let sum: u64 = recent.map(|(_, tokens)| tokens).sum();
                        let waits = self.tickets.values().filter(|ticket| self.is_ready(ticket, now_ns));
                        let mut sizes = waits.map(|ticket| {
                            u64::from(ticket.prompt.tokens) + u64::from(ticket.prompt.output_tokens)
                        });
                        assert!(sizes.any(|tokens| sum + tokens > config.tokens_per_min));
                    }
                    LimitKind::Pause => {
                        assert!(self.paused.get(&backend).is_some_and(|&at_ns| at_ns > now_ns));
                    }
                }
                backend
            })
            .collect()
    }

    /// Whether only the policy decides between the two. Of two small batches of a tenant the model cannot tell.
    fn is_same_flow(&self, a: &ModelTicket, b: &ModelTicket) -> bool {
        let tenant = |ticket: &ModelTicket| self.batches[&ticket.batch].tenant;
        match self.fairness {
            Fairness::None => true,
            Fairness::Tenant => tenant(a) == tenant(b),
            Fairness::TenantBatch => a.batch == b.batch,
        }
    }

    fn queue_due_ns(&self, ticket: &ModelTicket) -> u64 {
        let At::Waiting { since_ns, .. } = ticket.at else { return u64::MAX };
        let batch = &self.batches[&ticket.batch];
        let due = |timeout_ns, from_ns: u64| if timeout_ns == 0 { u64::MAX } else { from_ns + timeout_ns };
        let own_ns = due(ticket.prompt.queue_timeout_ns, ticket.submitted_ns);
        own_ns.min(due(batch.queue_timeout_ns, batch.restarted_ns.max(since_ns)))
    }

    /// What must hold once a poll has returned.
    pub(crate) fn check(&self, now_ns: u64, snapshot: &Snapshot) {
        let reserved: Vec<BackendId> = reserved(snapshot);
        let left = self.feasible(now_ns, &reserved).next();
        assert!(left.is_none(), "work is left that a backend could take: {left:?}");
        for (id, ticket) in &self.tickets {
            if matches!(ticket.at, At::Waiting { .. }) {
                assert!(self.queue_due_ns(ticket) > now_ns, "{id} should have expired");
                let deadline_ns = self.batches[&ticket.batch].deadline_ns;
                assert!(deadline_ns == 0 || deadline_ns > now_ns, "{id} outlived its batch");
            }
        }
        let waiting = self.tickets.values().filter(|ticket| matches!(ticket.at, At::Waiting { .. }));
        let (count, tokens) =
            waiting.fold((0, 0), |(count, sum), ticket| (count + 1, sum + u64::from(ticket.prompt.tokens)));
        assert_eq!((snapshot.queued, snapshot.queued_tokens), (count, tokens));
        assert_eq!(snapshot.queued_by_class.iter().sum::<u32>(), snapshot.queued);
        assert_eq!(snapshot.queued_by_model.iter().map(|(_, queued)| queued).sum::<u32>(), snapshot.queued);
        assert_eq!((snapshot.queued + snapshot.in_flight) as usize, self.tickets.len());
        assert!(snapshot.held + snapshot.retry_waiting <= snapshot.queued);
        let ended = snapshot.succeeded + snapshot.failed + snapshot.cancelled + snapshot.expired;
        assert_eq!((ended, snapshot.submitted), (self.ended, self.submitted));
        assert_eq!(ended + u64::from(snapshot.queued + snapshot.in_flight), snapshot.submitted);
        for backend in &snapshot.backends {
            self.check_backend(backend);
        }
    }

    fn check_backend(&self, snapshot: &BackendSnapshot) {
        let here = || self.at_backend(snapshot.backend);
        assert_eq!(snapshot.in_flight as usize, here().count());
        assert!(snapshot.peak_in_flight >= snapshot.in_flight);
        let by_model: u32 = snapshot.in_flight_by_model.iter().map(|(_, count)| count).sum();
        assert_eq!(by_model, snapshot.in_flight);
        let long = here().filter(|(ticket, in_prefill)| *in_prefill && ticket.is_long).count();
        assert_eq!(snapshot.long_in_prefill as usize, long);
        assert_eq!(snapshot.short_tokens_in_prefill, self.short_tokens(snapshot.backend));
        let outstanding = here().filter(|(_, in_prefill)| *in_prefill);
        let outstanding: u64 = outstanding.map(|(ticket, _)| u64::from(ticket.edge)).sum();
        assert_eq!(snapshot.outstanding_prefill_tokens, outstanding);
        let ended: u64 = snapshot.outcomes.iter().map(|(_, count)| count).sum();
        assert_eq!(snapshot.dispatched, ended + u64::from(snapshot.in_flight));
        if let Some(id) = snapshot.reserved_for {
            let ticket = self.tickets.get(&id).expect("nothing is kept for a ticket that has ended");
            assert!(matches!(ticket.at, At::Waiting { .. }), "nothing is kept for a ticket in flight");
        }
    }
}

pub(crate) fn reserved(snapshot: &Snapshot) -> Vec<BackendId> {
    let kept = snapshot.backends.iter().filter(|backend| backend.reserved_for.is_some());
    kept.map(|backend| backend.backend).collect()
}
