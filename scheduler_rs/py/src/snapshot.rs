//! Snapshots of the core's counters.

use expresslane_scheduler as core;
use expresslane_scheduler::{BOUNDS_NS, RATIO_BOUNDS};
use pyo3::prelude::*;
use std::collections::BTreeMap;

/// A histogram, cumulative since start.
#[pyclass(frozen, get_all, skip_from_py_object, module = "expresslane._scheduler")]
#[derive(Clone)]
pub(crate) struct Histogram {
    name: &'static str,
    backend: Option<u32>,
    prompt_class: u32,
    bounds_s: Vec<f64>,
    counts: Vec<u64>,
    sum_s: f64,
}

impl From<core::HistogramSnapshot> for Histogram {
    fn from(histogram: core::HistogramSnapshot) -> Self {
        Self {
            name: histogram.name.name(),
            backend: histogram.backend,
            prompt_class: histogram.class,
            bounds_s: BOUNDS_NS.iter().map(|&bound_ns| bound_ns as f64 / 1e9).collect(),
            counts: histogram.counts,
            sum_s: histogram.sum_ns as f64 / 1e9,
        }
    }
}

/// How far an estimate was off, as estimated over actual values: a histogram, cumulative since start.
#[pyclass(frozen, get_all, skip_from_py_object, module = "expresslane._scheduler")]
#[derive(Clone)]
pub(crate) struct Ratio {
    name: &'static str,
    backend: u32,
    prompt_class: u32,
    bounds: Vec<f64>,
    counts: Vec<u64>,
    sum: f64,
}

impl From<core::RatioSnapshot> for Ratio {
    fn from(ratio: core::RatioSnapshot) -> Self {
        Self {
            name: ratio.name.name(),
            backend: ratio.backend,
            prompt_class: ratio.class,
            bounds: RATIO_BOUNDS.to_vec(),
            counts: ratio.counts,
            sum: ratio.sum,
        }
    }
}

/// One backend's part of a snapshot.
#[pyclass(frozen, get_all, skip_from_py_object, module = "expresslane._scheduler")]
#[derive(Clone)]
pub(crate) struct BackendSnapshot {
    backend: u32,
    available: bool,
    cap: u32,
    in_flight: u32,
    peak_in_flight: u32,
    slot_ns: u64,
    in_flight_by_model: Vec<(u32, u32)>,
    max_loaded_models: u32,
    loaded_models: Vec<u32>,
    model_loads: u64,
    load_ns: f64,
    load_samples: u64,
    cap_by_model: Vec<(u32, u32)>,
    long_in_prefill: u32,
    short_tokens_in_prefill: u64,
    outstanding_prefill_tokens: u64,
    long_slots: u32,
    short_budget_tokens: u32,
    prefill_ns: (f64, f64, f64),
    prefill_samples: u64,
    decode_ns: f64,
    decode_samples: u64,
    limited: Option<(&'static str, u64)>,
    requests_in_window: u64,
    tokens_in_window: u64,
    breaker: Option<BreakerSnapshot>,
    dispatched: u64,
    turned_away: u64,
    outcomes: BTreeMap<&'static str, u64>,
}

impl From<core::BackendSnapshot> for BackendSnapshot {
    fn from(backend: core::BackendSnapshot) -> Self {
        Self {
            backend: backend.backend,
            available: backend.available,
            cap: backend.cap,
            in_flight: backend.in_flight,
            peak_in_flight: backend.peak_in_flight,
            slot_ns: backend.slot_ns,
            in_flight_by_model: backend.in_flight_by_model,
            max_loaded_models: backend.max_loaded_models,
            loaded_models: backend.loaded_models,
            model_loads: backend.model_loads,
            load_ns: backend.load_ns,
            load_samples: backend.load_samples,
            cap_by_model: backend.cap_by_model,
            long_in_prefill: backend.long_in_prefill,
            short_tokens_in_prefill: backend.short_tokens_in_prefill,
            outstanding_prefill_tokens: backend.outstanding_prefill_tokens,
            long_slots: backend.long_slots,
            short_budget_tokens: backend.short_budget_tokens,
            prefill_ns: backend.prefill_ns.into(),
            prefill_samples: backend.prefill_samples,
            decode_ns: backend.decode_ns,
            decode_samples: backend.decode_samples,
            limited: backend.limited.map(|(kind, reset_at_ns)| (kind.name(), reset_at_ns)),
            requests_in_window: backend.requests_in_window,
            tokens_in_window: backend.tokens_in_window,
            breaker: backend.breaker.map(Into::into),
            dispatched: backend.dispatched,
            turned_away: backend.turned_away,
            outcomes: backend.outcomes.into_iter().map(|(end, count)| (end.name(), count)).collect(),
        }
    }
}

/// How one backend's breaker stands.
#[pyclass(frozen, get_all, skip_from_py_object, module = "expresslane._scheduler")]
#[derive(Clone)]
pub(crate) struct BreakerSnapshot {
    state: &'static str,
    since_ns: u64,
    half_open_at_ns: Option<u64>,
    good: u32,
    bad: u32,
    opened: u64,
}

impl From<core::BreakerSnapshot> for BreakerSnapshot {
    fn from(breaker: core::BreakerSnapshot) -> Self {
        Self {
            state: breaker.state.name(),
            since_ns: breaker.since_ns,
            half_open_at_ns: breaker.half_open_at_ns,
            good: breaker.good,
            bad: breaker.bad,
            opened: breaker.opened,
        }
    }
}

/// What one tenant's limits and retry budget are, over all classes.
#[pyclass(frozen, get_all, skip_from_py_object, module = "expresslane._scheduler")]
#[derive(Clone)]
pub(crate) struct TenantLimitSnapshot {
    tenant: u32,
    requests_per_min: u32,
    tokens_per_min: u64,
    requests_in_window: u64,
    tokens_in_window: u64,
    limited: Option<(&'static str, u64)>,
    retries_allowed: u64,
    retries_denied: u64,
}

impl From<core::TenantLimitSnapshot> for TenantLimitSnapshot {
    fn from(tenant: core::TenantLimitSnapshot) -> Self {
        Self {
            tenant: tenant.tenant,
            requests_per_min: tenant.requests_per_min,
            tokens_per_min: tenant.tokens_per_min,
            requests_in_window: tenant.requests_in_window,
            tokens_in_window: tenant.tokens_in_window,
            limited: tenant.limited.map(|(kind, reset_at_ns)| (kind.name(), reset_at_ns)),
            retries_allowed: tenant.retries_allowed,
            retries_denied: tenant.retries_denied,
        }
    }
}

/// What one tenant has and had in one class.
#[pyclass(frozen, get_all, skip_from_py_object, module = "expresslane._scheduler")]
#[derive(Clone)]
pub(crate) struct TenantSnapshot {
    tenant: u32,
    prompt_class: u32,
    weight: u32,
    unfinished: u32,
    ready: u32,
    used_tokens: u64,
}

impl From<core::TenantSnapshot> for TenantSnapshot {
    fn from(tenant: core::TenantSnapshot) -> Self {
        Self {
            tenant: tenant.tenant,
            prompt_class: tenant.class,
            weight: tenant.weight,
            unfinished: tenant.unfinished,
            ready: tenant.ready,
            used_tokens: tenant.used_tokens,
        }
    }
}

/// A consistent copy of the counters.
#[pyclass(frozen, get_all, module = "expresslane._scheduler")]
pub(crate) struct Snapshot {
    policy: &'static str,
    queue_limit: u32,
    in_flight_limit: u32,
    queued: u32,
    held: u32,
    retry_waiting: u32,
    in_flight: u32,
    queued_tokens: u64,
    queued_by_class: (u32, u32, u32),
    queued_by_model: Vec<(u32, u32)>,
    submitted: u64,
    succeeded: u64,
    failed: u64,
    cancelled: u64,
    expired: u64,
    retried: u64,
    retries_denied: u64,
    refused: u64,
    drain_rate_per_s: f64,
    finish_rate_per_s: f64,
    backends: Vec<BackendSnapshot>,
    histograms: Vec<Histogram>,
    ratios: Vec<Ratio>,
}

impl From<core::Snapshot> for Snapshot {
    fn from(snapshot: core::Snapshot) -> Self {
        Self {
            policy: snapshot.policy,
            queue_limit: snapshot.queue_limit,
            in_flight_limit: snapshot.in_flight_limit,
            queued: snapshot.queued,
            held: snapshot.held,
            retry_waiting: snapshot.retry_waiting,
            in_flight: snapshot.in_flight,
            queued_tokens: snapshot.queued_tokens,
            queued_by_class: snapshot.queued_by_class.into(),
            queued_by_model: snapshot.queued_by_model,
            submitted: snapshot.submitted,
            succeeded: snapshot.succeeded,
            failed: snapshot.failed,
            cancelled: snapshot.cancelled,
            expired: snapshot.expired,
            retried: snapshot.retried,
            retries_denied: snapshot.retries_denied,
            refused: snapshot.refused,
            drain_rate_per_s: snapshot.drain_rate_per_s,
            finish_rate_per_s: snapshot.finish_rate_per_s,
            backends: snapshot.backends.into_iter().map(Into::into).collect(),
            histograms: snapshot.histograms.into_iter().map(Into::into).collect(),
            ratios: snapshot.ratios.into_iter().map(Into::into).collect(),
        }
    }
}
