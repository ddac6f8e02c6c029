//! What `poll` and `cancel` return.

use crate::convert::{expiry_reason, overdue_reason};
use expresslane_scheduler as core;
use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::types::PyList;

/// Release this ticket to this backend now.
#[pyclass(frozen, get_all, module = "expresslane._scheduler")]
pub(crate) struct Dispatch {
    ticket: u64,
    backend: u32,
    prefill_tokens: u32,
    is_final: bool,
    attempt: u32,
    queue_wait_ns: u64,
}

/// This queued ticket has ended without being released.
#[pyclass(frozen, get_all, module = "expresslane._scheduler")]
pub(crate) struct Expired {
    ticket: u64,
    reason: &'static str,
}

/// This in-flight ticket passed a deadline.
#[pyclass(frozen, get_all, module = "expresslane._scheduler")]
pub(crate) struct Overdue {
    ticket: u64,
    reason: &'static str,
}

/// Work waits for this limit of a backend or of a tenant.
#[pyclass(frozen, get_all, module = "expresslane._scheduler")]
pub(crate) struct Limited {
    backend: Option<u32>,
    tenant: Option<u32>,
    limit: &'static str,
    reset_at_ns: u64,
}

/// What `poll` decided.
#[pyclass(frozen, get_all, module = "expresslane._scheduler")]
pub(crate) struct Decisions {
    dispatches: Py<PyList>,
    expired: Py<PyList>,
    overdue: Py<PyList>,
    limited: Py<PyList>,
}

impl Decisions {
    pub(crate) fn new(py: Python<'_>, decisions: core::Decisions) -> PyResult<Self> {
        let dispatches = decisions.dispatches.into_iter().map(|dispatch| Dispatch {
            ticket: dispatch.ticket.0,
            backend: dispatch.backend,
            prefill_tokens: dispatch.prefill_tokens,
            is_final: dispatch.is_final,
            attempt: dispatch.attempt,
            queue_wait_ns: dispatch.queue_wait_ns,
        });
        let expired = decisions
            .expired
            .into_iter()
            .map(|expired| Expired { ticket: expired.ticket.0, reason: expiry_reason(expired.reason) });
        let overdue = decisions
            .overdue
            .into_iter()
            .map(|overdue| Overdue { ticket: overdue.ticket.0, reason: overdue_reason(overdue.reason) });
        let limited = decisions.limited.into_iter().map(|limited| {
            let (backend, tenant) = match limited.holder {
                core::Holder::Backend(backend) => (Some(backend), None),
                core::Holder::Tenant(tenant) => (None, Some(tenant)),
            };
            Limited { backend, tenant, limit: limited.kind.name(), reset_at_ns: limited.reset_at_ns }
        });
        Ok(Self {
            dispatches: list(py, dispatches)?,
            expired: list(py, expired)?,
            overdue: list(py, overdue)?,
            limited: list(py, limited)?,
        })
    }
}

fn list<T: Into<PyClassInitializer<T>> + PyClass>(
    py: Python<'_>,
    items: impl Iterator<Item = T>,
) -> PyResult<Py<PyList>> {
    let items = items.map(|item| Py::new(py, item)).collect::<PyResult<Vec<_>>>()?;
    Ok(PyList::new(py, items)?.unbind())
}

/// Which tickets a cancel ended, and which must be aborted.
#[pyclass(frozen, get_all, module = "expresslane._scheduler")]
pub(crate) struct CancelResult {
    removed: Vec<u64>,
    in_flight: Vec<u64>,
}

impl From<core::Cancelled> for CancelResult {
    fn from(cancelled: core::Cancelled) -> Self {
        let raw = |tickets: Vec<core::TicketId>| tickets.into_iter().map(|ticket| ticket.0).collect();
        Self { removed: raw(cancelled.removed), in_flight: raw(cancelled.in_flight) }
    }
}
