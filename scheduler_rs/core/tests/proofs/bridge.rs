//! The scheduler's words for the model's, and back.

use crate::reference::{
    BatchTerms, BreakerTerms, Closed, Decided, End, Late, Order, Request, Rules, Said, Seen, SeenBackend,
    SeenBreaker, Sent, Server, Sharing, State, Times, Used, Why,
};
use expresslane_scheduler::{
    AttemptDeadline, BackendConfig, BackendSnapshot, BatchOptions, BreakerConfig, BreakerSnapshot,
    BreakerState, Config, Decisions, ExpiryReason, Fairness, Left, LimitKind, ModelRoute, Outcome,
    OverdueReason, Policy, Prompt, Scheduler, Snapshot, Usage,
};

/// Fewer samples teach a backend's estimates nothing.
const LEARNED_SAMPLES: u64 = 8;

pub(crate) fn policy(order: Order) -> Policy {
    match order {
        Order::SjfAged { tokens_per_s } => Policy::SjfAged { tokens_per_s },
        _ => order.name().parse().expect("a policy's name"),
    }
}

const YEAR: u64 = 365 * 86_400 * 1_000_000_000;

#[allow(clippy::needless_update, reason = "what the model does not know keeps its default")]
pub(crate) fn config(rules: &Rules) -> Config {
    Config {
        // All that waits is counted; what is submitted is exempt, so nothing is refused for it.
        queue_limit_ns: YEAR,
        policy: policy(rules.order),
        queue_limit: rules.queue_limit,
        in_flight_limit: rules.in_flight_limit,
        no_backend_timeout_ns: rules.no_backend_timeout_ns,
        max_wait_ns: rules.max_wait_ns,
        fairness: match rules.sharing {
            Sharing::None => Fairness::None,
            Sharing::Tenant => Fairness::Tenant,
            Sharing::TenantBatch => Fairness::TenantBatch,
        },
        class_min_shares: rules.class_min_shares,
        cost_includes_output: rules.cost_includes_output,
        retry_ratio: rules.retry_ratio,
        ..Config::default()
    }
}

#[allow(clippy::needless_update, reason = "what the model does not know keeps its default")]
pub(crate) fn backend(server: &Server) -> BackendConfig {
    BackendConfig {
        cap: server.cap,
        models: server.models.iter().map(|&(model, cap)| ModelRoute { model, cap }).collect(),
        max_loaded_models: server.max_loaded_models,
        available: server.available,
        absence_timeout_ns: server.absence_timeout_ns,
        long_threshold_tokens: server.long_threshold_tokens,
        long_slots: server.long_slots,
        short_budget_tokens: server.short_budget_tokens,
        engine_step_tokens: server.engine_step_tokens,
        engine_chunk_tokens: server.engine_chunk_tokens,
        lanes: server.lanes,
        prefill_tokens_per_s: server.prefill_tokens_per_s,
        first_token_timeout_ns: server.first_token_timeout_ns,
        idle_timeout_ns: server.idle_timeout_ns,
        attempt_timeout_ns: server.attempt_timeout_ns,
        requests_per_min: server.requests_per_min,
        tokens_per_min: server.tokens_per_min,
        breaker: server.breaker.map(breaker),
        ramp: server.ramp,
        ..BackendConfig::default()
    }
}

fn breaker(terms: BreakerTerms) -> BreakerConfig {
    let BreakerTerms { error_ratio, min_samples, window_ns, open_ns, open_max_ns, probes } = terms;
    BreakerConfig { error_ratio, min_samples, window_ns, open_ns, open_max_ns, probes }
}

fn seen_breaker(breaker: BreakerSnapshot) -> SeenBreaker {
    let BreakerSnapshot { since_ns, half_open_at_ns, good, bad, opened, .. } = breaker;
    let state = match breaker.state {
        BreakerState::Closed => State::Closed,
        BreakerState::Open => State::Open,
        BreakerState::HalfOpen => State::HalfOpen,
    };
    SeenBreaker { state, since_ns, half_open_at_ns, good, bad, opened }
}

pub(crate) fn prompt(request: &Request) -> Prompt {
    Prompt {
        model: request.model,
        class: request.class,
        tokens: request.tokens,
        queue_timeout_ns: request.queue_timeout_ns,
        index: request.index,
        output_tokens: request.output_tokens,
        sequential: request.sequential,
        ttft_deadline_ns: request.ttft_deadline_ns,
    }
}

pub(crate) fn options(terms: BatchTerms) -> BatchOptions {
    BatchOptions {
        queue_timeout_ns: terms.queue_timeout_ns,
        deadline_ns: terms.deadline_ns,
        tenant: terms.tenant,
        weight: terms.weight,
        may_wait: true,
    }
}

pub(crate) fn usage(used: Used) -> Usage {
    Usage {
        uncached_input_tokens: used.uncached,
        cached_input_tokens: used.cached,
        output_tokens: used.output,
    }
}

pub(crate) fn outcome(end: End) -> Outcome {
    match end {
        End::Success => Outcome::Success,
        End::Failed => Outcome::Failed,
        End::Cancelled => Outcome::Cancelled,
        End::Expired => Outcome::Expired,
    }
}

fn closed(kind: LimitKind) -> Closed {
    match kind {
        LimitKind::Requests => Closed::Requests,
        LimitKind::Tokens => Closed::Tokens,
        LimitKind::Pause => Closed::Pause,
        LimitKind::Breaker => Closed::Breaker,
        LimitKind::RequestsLeft => Closed::RequestsLeft,
        LimitKind::TokensLeft => Closed::TokensLeft,
    }
}

pub(crate) fn left(said: Said) -> Left {
    Left { amount: said.amount, limit: said.limit, reset_at_ns: said.reset_ns }
}

/// None for a batch's deadline, which is not an attempt's.
pub(crate) fn deadline(late: Late) -> Option<AttemptDeadline> {
    match late {
        Late::FirstToken => Some(AttemptDeadline::FirstToken),
        Late::Idle => Some(AttemptDeadline::Idle),
        Late::Attempt => Some(AttemptDeadline::Attempt),
        Late::Batch => None,
    }
}

pub(crate) fn decided(decisions: &Decisions) -> Decided {
    let sent = decisions.dispatches.iter().map(|dispatch| Sent {
        id: dispatch.ticket.0,
        backend: dispatch.backend,
        tokens: dispatch.prefill_tokens,
        attempt: dispatch.attempt,
        queue_wait_ns: dispatch.queue_wait_ns,
    });
    let expired = decisions.expired.iter().map(|expired| {
        let why = match expired.reason {
            ExpiryReason::Queue => Why::Queue,
            ExpiryReason::Batch => Why::Batch,
            ExpiryReason::NoBackend => Why::NoBackend,
        };
        (expired.ticket.0, why)
    });
    let late = decisions.overdue.iter().map(|overdue| {
        let late = match overdue.reason {
            OverdueReason::FirstToken => Late::FirstToken,
            OverdueReason::Idle => Late::Idle,
            OverdueReason::Attempt => Late::Attempt,
            OverdueReason::Batch => Late::Batch,
        };
        (overdue.ticket.0, late)
    });
    Decided { sent: sent.collect(), expired: expired.collect(), late: late.collect() }
}

fn times_of(backend: &BackendSnapshot) -> Times {
    Times { prefill_ns: backend.prefill_ns, decode_ns: backend.decode_ns }
}

/// What each backend's predictions go by now.
pub(crate) fn times(snapshot: &Snapshot) -> Vec<(u32, Times)> {
    snapshot.backends.iter().map(|backend| (backend.backend, times_of(backend))).collect()
}

pub(crate) fn seen(scheduler: &Scheduler) -> Seen {
    let snapshot = scheduler.snapshot();
    let tenants = scheduler.tenant_limits();
    let backends = snapshot.backends.iter().map(|backend| SeenBackend {
        backend: backend.backend,
        in_flight: backend.in_flight,
        in_flight_by_model: backend.in_flight_by_model.clone(),
        cap_by_model: backend.cap_by_model.clone(),
        long_in_prefill: backend.long_in_prefill,
        short_tokens_in_prefill: backend.short_tokens_in_prefill,
        outstanding_prefill_tokens: backend.outstanding_prefill_tokens,
        reserved_for: backend.reserved_for.map(|ticket| ticket.0),
        limited: backend.limited.map(|(kind, until_ns)| (closed(kind), until_ns)),
        spent: backend.spent.iter().map(|&(model, kind, at_ns)| (model, closed(kind), at_ns)).collect(),
        tokens_in_window: backend.tokens_in_window,
        long_slots: backend.long_slots,
        short_budget_tokens: backend.short_budget_tokens,
        times: times_of(backend),
        has_learned_prefill: backend.prefill_samples >= LEARNED_SAMPLES,
        has_learned_decode: backend.decode_samples >= LEARNED_SAMPLES,
        breaker: backend.breaker.map(seen_breaker),
        loaded_models: backend.loaded_models.clone(),
        load_ns: backend.load_ns,
        dispatched: backend.dispatched,
        attempts_ended: backend.outcomes.iter().map(|(_, count)| count).sum(),
    });
    Seen {
        queued: snapshot.queued,
        held: snapshot.held,
        retry_waiting: snapshot.retry_waiting,
        in_flight: snapshot.in_flight,
        queued_tokens: snapshot.queued_tokens,
        queued_by_class: snapshot.queued_by_class,
        queued_by_model: snapshot.queued_by_model.clone(),
        submitted: snapshot.submitted,
        refused: snapshot.refused,
        retried: snapshot.retried,
        ended: [snapshot.succeeded, snapshot.failed, snapshot.cancelled, snapshot.expired],
        backends: backends.collect(),
        closed_tenants: tenants
            .iter()
            .filter_map(|at| at.limited.map(|(kind, until_ns)| (at.tenant, closed(kind), until_ns)))
            .collect(),
    }
}
