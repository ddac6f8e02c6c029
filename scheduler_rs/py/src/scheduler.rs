//! The scheduler behind a mutex; Python is never called while it is held.

use crate::convert::{self, attempt_deadline};
use crate::decisions::{CancelResult, Decisions};
use crate::errors::to_py;
use crate::integers;
use crate::snapshot::{BreakerSnapshot, Snapshot, TenantLimitSnapshot, TenantSnapshot};
use expresslane_scheduler::{
    self as core, BackendConfig, BatchOptions, BreakerConfig, Config, Left, ModelRoute, Policy, Prompt,
    RetryAnswer, Scope, TicketId, Usage,
};
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The state machine.
#[pyclass(frozen, module = "expresslane._scheduler")]
pub(crate) struct Scheduler(Mutex<core::Scheduler>);

impl Scheduler {
    fn lock(&self) -> MutexGuard<'_, core::Scheduler> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Scheduler {
    #[new]
    #[pyo3(signature = (
        *,
        policy = "hrrn",
        queue_limit = 200_000,
        queue_limit_ns = 0,
        in_flight_limit = 0,
        no_backend_timeout_ns = 10_000_000_000,
        max_wait_ns = 0,
        sjf_aging_tokens_per_s = 1_000.0,
        fairness = "tenant_batch",
        class_min_shares = [0.0; 3],
        cost_includes_output = false,
        retry_ratio = 0.0,
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn new(
        policy: &str,
        #[pyo3(from_py_with = integers::queue_limit)] queue_limit: u32,
        #[pyo3(from_py_with = integers::queue_limit_ns)] queue_limit_ns: u64,
        #[pyo3(from_py_with = integers::in_flight_limit)] in_flight_limit: u32,
        #[pyo3(from_py_with = integers::no_backend_timeout_ns)] no_backend_timeout_ns: u64,
        #[pyo3(from_py_with = integers::max_wait_ns)] max_wait_ns: u64,
        sjf_aging_tokens_per_s: f64,
        fairness: &str,
        class_min_shares: [f64; 3],
        cost_includes_output: bool,
        retry_ratio: f64,
    ) -> PyResult<Self> {
        let policy = parse_policy(policy, sjf_aging_tokens_per_s)?;
        let config = Config {
            policy,
            queue_limit,
            queue_limit_ns,
            in_flight_limit,
            no_backend_timeout_ns,
            max_wait_ns,
            fairness: fairness.parse().map_err(to_py)?,
            class_min_shares,
            cost_includes_output,
            retry_ratio,
            ..core::Config::default()
        };
        core::Scheduler::new(config).map(|scheduler| Self(Mutex::new(scheduler))).map_err(to_py)
    }

    /// Add a backend or replace its description.
    #[pyo3(signature = (
        now_ns,
        backend,
        *,
        cap,
        models,
        max_loaded_models = 0,
        available = true,
        absence_timeout_ns = 0,
        long_threshold_tokens = 16_384,
        long_slots = None,
        short_budget_tokens = None,
        lanes = true,
        engine_step_tokens = 0,
        engine_chunk_tokens = 0,
        prefill_tokens_per_s = 5_000.0,
        first_token_timeout_ns = 0,
        idle_timeout_ns = 0,
        attempt_timeout_ns = 0,
        requests_per_min = 0,
        tokens_per_min = 0,
        breaker_error_ratio = 0.0,
        breaker_min_samples = 20,
        breaker_window_ns = 30_000_000_000,
        breaker_open_ns = 5_000_000_000,
        breaker_open_max_ns = 60_000_000_000,
        breaker_probes = 1,
        ramp = false,
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn update_backend(
        &self,
        now_ns: u64,
        backend: u32,
        #[pyo3(from_py_with = integers::cap)] cap: u32,
        #[pyo3(from_py_with = integers::models)] models: Vec<(u32, u32)>,
        #[pyo3(from_py_with = integers::max_loaded_models)] max_loaded_models: u32,
        available: bool,
        #[pyo3(from_py_with = integers::absence_timeout_ns)] absence_timeout_ns: u64,
        #[pyo3(from_py_with = integers::long_threshold_tokens)] long_threshold_tokens: u32,
        #[pyo3(from_py_with = integers::long_slots)] long_slots: Option<u32>,
        #[pyo3(from_py_with = integers::short_budget_tokens)] short_budget_tokens: Option<u32>,
        lanes: bool,
        #[pyo3(from_py_with = integers::engine_step_tokens)] engine_step_tokens: u32,
        #[pyo3(from_py_with = integers::engine_chunk_tokens)] engine_chunk_tokens: u32,
        prefill_tokens_per_s: f64,
        #[pyo3(from_py_with = integers::first_token_timeout_ns)] first_token_timeout_ns: u64,
        #[pyo3(from_py_with = integers::idle_timeout_ns)] idle_timeout_ns: u64,
        #[pyo3(from_py_with = integers::attempt_timeout_ns)] attempt_timeout_ns: u64,
        #[pyo3(from_py_with = integers::requests_per_min)] requests_per_min: u32,
        #[pyo3(from_py_with = integers::tokens_per_min)] tokens_per_min: u64,
        breaker_error_ratio: f64,
        #[pyo3(from_py_with = integers::breaker_min_samples)] breaker_min_samples: u32,
        #[pyo3(from_py_with = integers::breaker_window_ns)] breaker_window_ns: u64,
        #[pyo3(from_py_with = integers::breaker_open_ns)] breaker_open_ns: u64,
        #[pyo3(from_py_with = integers::breaker_open_max_ns)] breaker_open_max_ns: u64,
        #[pyo3(from_py_with = integers::breaker_probes)] breaker_probes: u32,
        ramp: bool,
    ) -> PyResult<()> {
        let breaker = BreakerConfig {
            error_ratio: breaker_error_ratio,
            min_samples: breaker_min_samples,
            window_ns: breaker_window_ns,
            open_ns: breaker_open_ns,
            open_max_ns: breaker_open_max_ns,
            probes: breaker_probes,
        };
        let config = BackendConfig {
            cap,
            models: models.into_iter().map(|(model, cap)| ModelRoute { model, cap }).collect(),
            max_loaded_models,
            available,
            absence_timeout_ns,
            long_threshold_tokens,
            long_slots,
            short_budget_tokens,
            lanes,
            engine_step_tokens,
            engine_chunk_tokens,
            prefill_tokens_per_s,
            first_token_timeout_ns,
            idle_timeout_ns,
            attempt_timeout_ns,
            requests_per_min,
            tokens_per_min,
            breaker: (breaker_error_ratio != 0.0).then_some(breaker),
            ramp,
        };
        self.lock().update_backend(now_ns, backend, config).map_err(to_py)
    }

    /// Release nothing to a backend, or to one model of it, before a time.
    #[pyo3(signature = (now_ns, backend, *, until_ns, model = None))]
    fn pause(
        &self,
        now_ns: u64,
        backend: u32,
        until_ns: u64,
        #[pyo3(from_py_with = integers::model)] model: Option<u32>,
    ) {
        self.lock().pause(now_ns, backend, model, until_ns);
    }

    /// Before a time, release prompts of a model to a backend only where no other is left to them.
    #[pyo3(signature = (now_ns, backend, *, model, until_ns))]
    fn avoid(&self, now_ns: u64, backend: u32, model: u32, until_ns: u64) {
        self.lock().avoid(now_ns, backend, model, until_ns);
    }

    /// Limit what is released of a tenant over any minute; 0 = no limit.
    #[pyo3(signature = (now_ns, tenant, *, requests_per_min = 0, tokens_per_min = 0))]
    fn set_tenant_limits(
        &self,
        now_ns: u64,
        tenant: u32,
        #[pyo3(from_py_with = integers::requests_per_min)] requests_per_min: u32,
        #[pyo3(from_py_with = integers::tokens_per_min)] tokens_per_min: u64,
    ) -> PyResult<()> {
        self.lock().set_tenant_limits(now_ns, tenant, requests_per_min, tokens_per_min).map_err(to_py)
    }

    /// Set the policy of a scope from now on; None takes it back.
    #[pyo3(signature = (now_ns, policy, *, prompt_class = None, model = None, sjf_aging_tokens_per_s = 1_000.0))]
    fn set_policy(
        &self,
        now_ns: u64,
        policy: Option<&str>,
        #[pyo3(from_py_with = integers::prompt_class)] prompt_class: Option<u32>,
        #[pyo3(from_py_with = integers::model)] model: Option<u32>,
        sjf_aging_tokens_per_s: f64,
    ) -> PyResult<()> {
        let policy = policy.map(|name| parse_policy(name, sjf_aging_tokens_per_s)).transpose()?;
        let scope = Scope { class: prompt_class, model };
        self.lock().set_policy(now_ns, scope, policy).map_err(to_py)
    }

    /// Queue all prompts or none, and return their tickets in the same order.
    #[pyo3(signature = (
        now_ns,
        batch,
        prompts,
        *,
        queue_timeout_ns = 0,
        deadline_ns = 0,
        tenant = 0,
        weight = 1,
        may_wait = false,
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    #[expect(clippy::needless_pass_by_value, reason = "made for this call")]
    fn submit(
        &self,
        now_ns: u64,
        batch: u64,
        #[pyo3(from_py_with = integers::prompts)] prompts: Vec<Prompt>,
        #[pyo3(from_py_with = integers::queue_timeout_ns)] queue_timeout_ns: u64,
        #[pyo3(from_py_with = integers::deadline_ns)] deadline_ns: u64,
        tenant: u32,
        #[pyo3(from_py_with = integers::weight)] weight: u32,
        may_wait: bool,
    ) -> PyResult<Vec<u64>> {
        let options = BatchOptions { queue_timeout_ns, deadline_ns, tenant, weight, may_wait };
        let tickets = self.lock().submit(now_ns, batch, &prompts, options).map_err(to_py)?;
        Ok(tickets.into_iter().map(|ticket| ticket.0).collect())
    }

    /// Expire what is due, then release everything that fits.
    fn poll(&self, py: Python<'_>, now_ns: u64) -> PyResult<Decisions> {
        let decisions = self.lock().poll(now_ns);
        Decisions::new(py, decisions)
    }

    /// The first token of an in-flight ticket has come.
    fn first_token(&self, now_ns: u64, ticket: u64) -> PyResult<bool> {
        self.lock().first_token(now_ns, TicketId(ticket)).map_err(to_py)
    }

    /// Replace one deadline of an in-flight ticket.
    fn rearm(&self, now_ns: u64, ticket: u64, reason: &str, at_ns: u64) -> PyResult<()> {
        let deadline = attempt_deadline(reason)?;
        self.lock().rearm(now_ns, TicketId(ticket), deadline, at_ns).map_err(to_py)
    }

    /// The attempt is over and there shall be another.
    #[pyo3(signature = (now_ns, ticket, *, not_before_ns, exclude_backend = false, asked = false))]
    fn retry(
        &self,
        now_ns: u64,
        ticket: u64,
        not_before_ns: u64,
        exclude_backend: bool,
        asked: bool,
    ) -> PyResult<&'static str> {
        let answer = self.lock().retry(now_ns, TicketId(ticket), not_before_ns, exclude_backend, asked);
        answer.map(RetryAnswer::name).map_err(to_py)
    }

    /// What has just happened to an attempt speaks against its backend.
    fn blame(&self, now_ns: u64, ticket: u64) -> PyResult<()> {
        self.lock().blame(now_ns, TicketId(ticket)).map_err(to_py)
    }

    /// The backend has not taken an in-flight ticket because of a rate limit of its own.
    fn turned_away(&self, now_ns: u64, ticket: u64) -> PyResult<()> {
        self.lock().turned_away(now_ns, TicketId(ticket)).map_err(to_py)
    }

    /// The answer to an in-flight ticket says what its backend has left of its model: (left, whole limit, reset).
    #[pyo3(signature = (now_ns, ticket, *, requests = None, tokens = None))]
    fn told(
        &self,
        now_ns: u64,
        ticket: u64,
        requests: Option<(u64, u64, u64)>,
        tokens: Option<(u64, u64, u64)>,
    ) -> PyResult<Option<(&'static str, u64)>> {
        let left = |(amount, limit, reset_at_ns)| Left { amount, limit, reset_at_ns };
        let told = self.lock().told(now_ns, TicketId(ticket), requests.map(left), tokens.map(left));
        let closed = told.map_err(to_py)?;
        Ok(closed.map(|(kind, until_ns)| (kind.name(), until_ns)))
    }

    /// A failure of its backend has ended the attempt; the next goes elsewhere while another backend is open.
    fn move_on(&self, now_ns: u64, ticket: u64) -> PyResult<()> {
        self.lock().move_on(now_ns, TicketId(ticket)).map_err(to_py)
    }

    /// The backend has run nothing of an in-flight ticket and never will.
    fn not_run(&self, now_ns: u64, ticket: u64) -> PyResult<()> {
        self.lock().not_run(now_ns, TicketId(ticket)).map_err(to_py)
    }

    /// An in-flight ticket ends.
    #[pyo3(signature = (now_ns, ticket, outcome, *, usage = None))]
    fn finish(
        &self,
        now_ns: u64,
        ticket: u64,
        outcome: &str,
        #[pyo3(from_py_with = integers::usage)] usage: Option<(u32, u32, u32)>,
    ) -> PyResult<()> {
        let outcome = convert::outcome(outcome)?;
        let usage = usage.map(|(uncached_input_tokens, cached_input_tokens, output_tokens)| Usage {
            uncached_input_tokens,
            cached_input_tokens,
            output_tokens,
        });
        self.lock().finish_with_usage(now_ns, TicketId(ticket), outcome, usage).map_err(to_py)
    }

    /// Cancel one ticket.
    fn cancel(&self, now_ns: u64, ticket: u64) -> CancelResult {
        self.lock().cancel(now_ns, TicketId(ticket)).into()
    }

    /// Cancel all tickets of a batch.
    fn cancel_batch(&self, now_ns: u64, batch: u64) -> CancelResult {
        self.lock().cancel_batch(now_ns, batch).into()
    }

    /// Release only the batch's prompts numbered below `horizon`.
    fn hold_batch(&self, now_ns: u64, batch: u64, horizon: u32) {
        self.lock().hold_batch(now_ns, batch, horizon);
    }

    /// Lift the horizon.
    fn release_batch(&self, now_ns: u64, batch: u64) {
        self.lock().release_batch(now_ns, batch);
    }

    /// Count a batch that a bound of the caller's keeps out; returns when to come back.
    fn refuse(&self, now_ns: u64, prompts: u32, places: u32) -> u64 {
        self.lock().refuse(now_ns, prompts, places)
    }

    /// How many more tickets may wait now.
    fn queue_room(&self) -> u32 {
        self.lock().queue_room()
    }

    /// When `poll` must be called next if nothing else happens.
    fn next_deadline(&self) -> Option<u64> {
        self.lock().next_deadline()
    }

    /// The breakers that are not closed, by backend.
    fn tripped_breakers(&self) -> BTreeMap<u32, BreakerSnapshot> {
        let tripped = self.lock().tripped_breakers();
        tripped.into_iter().map(|(backend, breaker)| (backend, breaker.into())).collect()
    }

    /// What each tenant has and had in each class.
    fn tenants(&self) -> Vec<TenantSnapshot> {
        let tenants = self.lock().tenants();
        tenants.into_iter().map(Into::into).collect()
    }

    /// What the limits and retry budgets of tenants are.
    fn tenant_limits(&self) -> Vec<TenantLimitSnapshot> {
        let tenants = self.lock().tenant_limits();
        tenants.into_iter().map(Into::into).collect()
    }

    fn snapshot(&self) -> Snapshot {
        let snapshot = self.lock().snapshot();
        snapshot.into()
    }
}

fn parse_policy(name: &str, sjf_aging_tokens_per_s: f64) -> PyResult<Policy> {
    Ok(match name.parse().map_err(to_py)? {
        Policy::SjfAged { .. } => Policy::SjfAged { tokens_per_s: sjf_aging_tokens_per_s },
        policy => policy,
    })
}
