//! Copying the counters out.

use super::Scheduler;
use crate::backend::Backend;
use crate::breaker::Breaker;
use crate::counters::Histograms;
use crate::tenant::Tenant;
use crate::tenant_limits::TenantLimit;
use crate::ticket::NEVER;
use crate::{
    AttemptEnd, BackendId, BackendSnapshot, BreakerSnapshot, CLASSES, HistogramSnapshot, LimitKind, ModelId,
    Outcome, RatioSnapshot, Snapshot, TenantId, TenantLimitSnapshot, TenantSnapshot,
};
use std::collections::BTreeMap;

impl Scheduler {
    /// A consistent copy of the counters; its rates are as of the last call that carried a time.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let counters = &self.counters;
        let ended = |outcome: Outcome| counters.outcomes[outcome as usize];
        let mut queued_by_class = [0; CLASSES];
        let mut queued_by_model = BTreeMap::new();
        let mut queued_tokens = 0;
        for (_, group) in self.groups.iter().filter(|(_, group)| group.queued > 0) {
            queued_by_class[usize::from(group.key.class)] += group.queued;
            *queued_by_model.entry(group.key.model).or_insert(0) += group.queued;
            queued_tokens += group.queued_tokens;
        }
        Snapshot {
            policy: self.config.policy.name(),
            queue_limit: self.config.queue_limit,
            in_flight_limit: self.config.in_flight_limit,
            queued: counters.queued,
            held: counters.held,
            retry_waiting: counters.retry_waiting,
            in_flight: counters.in_flight,
            queued_tokens,
            queued_by_class,
            queued_by_model: queued_by_model.into_iter().collect(),
            submitted: counters.submitted,
            succeeded: ended(Outcome::Success),
            failed: ended(Outcome::Failed),
            cancelled: ended(Outcome::Cancelled),
            expired: ended(Outcome::Expired),
            retried: counters.retried,
            retries_denied: counters.retries_denied,
            refused: counters.refused,
            drain_rate_per_s: self.drain_rate.per_s(self.now_ns),
            finish_rate_per_s: self.finish_rate.per_s(self.now_ns),
            backends: self.backends.iter().map(|backend| backend_snapshot(backend, self.now_ns)).collect(),
            histograms: self.histograms(),
            ratios: self.backends.iter().flat_map(ratios_of).collect(),
        }
    }

    /// The breakers that are not closed, as `snapshot` tells of them: their backends take no work but probes. In the order
    /// in which those were added, as of the last call that carried a time.
    ///
    /// Looks at each backend once and at nothing else, so it may be asked for each refusal.
    #[must_use]
    pub fn tripped_breakers(&self) -> Vec<(BackendId, BreakerSnapshot)> {
        let tripped = |backend: &Backend| {
            let breaker = backend.breaker.as_ref().filter(|breaker| !breaker.is_closed())?;
            Some((backend.id, breaker_snapshot(breaker, self.now_ns)))
        };
        self.backends.iter().filter_map(tripped).collect()
    }

    /// The tenants with unfinished tickets, and those whose service is still remembered; by class, then by number.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantSnapshot> {
        let snapshot = |tenant: &Tenant| TenantSnapshot {
            tenant: tenant.id,
            class: u32::from(tenant.class),
            weight: tenant.weight,
            unfinished: tenant.users,
            ready: tenant.waiting,
            used_tokens: tenant.used_tokens,
        };
        self.flows.tenants().map(snapshot).collect()
    }

    /// Tenants that have limits, or a retry budget that is remembered; by number.
    #[must_use]
    pub fn tenant_limits(&self) -> Vec<TenantLimitSnapshot> {
        let mut tenants: BTreeMap<TenantId, TenantLimitSnapshot> = BTreeMap::new();
        for (tenant, TenantLimit { limits, .. }) in self.tenant_limits.iter() {
            let closed = limits.closed.filter(|&(_, until_ns)| until_ns > self.now_ns);
            let snapshot = TenantLimitSnapshot {
                tenant,
                requests_per_min: limits.requests.limit() as u32,
                tokens_per_min: limits.tokens.limit(),
                requests_in_window: limits.requests.sum_at(self.now_ns),
                tokens_in_window: limits.tokens.sum_at(self.now_ns),
                limited: closed,
                ..TenantLimitSnapshot::default()
            };
            tenants.insert(tenant, snapshot);
        }
        for (tenant, budget) in self.retry_budgets.iter() {
            let snapshot = tenants.entry(tenant).or_default();
            snapshot.tenant = tenant;
            (snapshot.retries_allowed, snapshot.retries_denied) = (budget.allowed, budget.denied);
        }
        tenants.into_values().collect()
    }

    fn histograms(&self) -> Vec<HistogramSnapshot> {
        let mut all = histograms_of(None, &self.counters.unreleased);
        for backend in &self.backends {
            all.extend(histograms_of(Some(backend.id), &backend.counters.histograms));
        }
        all
    }
}

fn backend_snapshot(backend: &Backend, now_ns: u64) -> BackendSnapshot {
    let in_flight = backend.models.iter().filter(|slot| slot.in_flight > 0);
    let served = backend.models.iter().filter(|slot| slot.served);
    let estimates = backend.estimates.in_force();
    let is_ahead = |&(_, until_ns): &(LimitKind, u64)| now_ns < until_ns && until_ns < NEVER;
    let spent =
        backend.models.iter().filter_map(|slot| slot.spent().map(|(kind, at)| (slot.model, kind, at)));
    let spent: Vec<_> = spent.filter(|&(.., until_ns)| now_ns < until_ns).collect();
    BackendSnapshot {
        backend: backend.id,
        available: backend.config.available,
        cap: backend.config.cap,
        in_flight: backend.in_flight,
        peak_in_flight: backend.peak_in_flight,
        slot_ns: backend.slot_ns(now_ns),
        in_flight_by_model: in_flight.map(|slot| (slot.model, slot.in_flight)).collect(),
        max_loaded_models: backend.config.max_loaded_models,
        loaded_models: backend.loaded.models(),
        model_loads: backend.loaded.loads(),
        load_ns: backend.loaded.load_ns(),
        load_samples: backend.loaded.load_samples(),
        cap_by_model: served.map(|slot| (slot.model, backend.cap_of(slot))).collect(),
        long_in_prefill: backend.lanes.long_in_prefill(),
        short_tokens_in_prefill: backend.lanes.short_tokens(),
        outstanding_prefill_tokens: backend.outstanding_tokens,
        long_slots: backend.lanes.long_slots(),
        short_budget_tokens: backend.lanes.short_budget(),
        prefill_ns: [estimates.prefill.c0, estimates.prefill.c1, estimates.prefill.c2],
        prefill_samples: backend.estimates.prefill_samples(),
        decode_ns: estimates.decode_ns,
        decode_samples: backend.estimates.decode_samples(),
        reserved_for: backend.reservation.map(|kept| kept.ticket),
        limited: backend.closed().or_else(|| first_spent(&spent)).filter(is_ahead),
        spent,
        requests_in_window: backend.limits.requests.sum_at(now_ns),
        tokens_in_window: backend.limits.tokens.sum_at(now_ns),
        breaker: backend.breaker.as_ref().map(|breaker| breaker_snapshot(breaker, now_ns)),
        dispatched: backend.counters.dispatched,
        turned_away: backend.counters.turned_away,
        outcomes: AttemptEnd::ALL.map(|end| (end, backend.counters.outcomes[end.position()])),
    }
}

fn first_spent(spent: &[(ModelId, LimitKind, u64)]) -> Option<(LimitKind, u64)> {
    spent.iter().map(|&(_, kind, until_ns)| (kind, until_ns)).min_by_key(|&(_, until_ns)| until_ns)
}

fn breaker_snapshot(breaker: &Breaker, now_ns: u64) -> BreakerSnapshot {
    let (good, bad) = breaker.samples(now_ns);
    BreakerSnapshot {
        state: breaker.state(),
        since_ns: breaker.since_ns(),
        half_open_at_ns: breaker.half_open_at_ns(),
        good,
        bad,
        opened: breaker.opened(),
    }
}

fn histograms_of(backend: Option<BackendId>, histograms: &Histograms) -> Vec<HistogramSnapshot> {
    let filled = histograms.iter().filter(|(_, _, histogram)| !histogram.is_empty());
    let copy = |(name, class, histogram): (_, _, &crate::histogram::Histogram)| HistogramSnapshot {
        name,
        backend,
        class,
        counts: histogram.counts.to_vec(),
        sum_ns: histogram.sum_ns,
    };
    filled.map(copy).collect()
}

fn ratios_of(backend: &Backend) -> impl Iterator<Item = RatioSnapshot> {
    backend.counters.ratios.iter().map(|(name, class, histogram)| RatioSnapshot {
        name,
        backend: backend.id,
        class,
        counts: histogram.counts.to_vec(),
        sum: histogram.sum,
    })
}
