//! What `poll` and `cancel` return.

use crate::convert::{expiry_reason, overdue_reason};
use expresslane_scheduler as core;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

/// Work waits for this limit of a backend or of a tenant.
#[pyclass(frozen, get_all, module = "expresslane._scheduler")]
pub(crate) struct Limited {
    backend: Option<u32>,
    model: Option<u32>,
    tenant: Option<u32>,
    limit: &'static str,
    reset_at_ns: u64,
}

/// What `poll` decided. A thousand dispatches may come of one poll, so they are three columns of integers: an object or a
/// tuple for each would cost more to make, to read and to be looked at by the garbage collector.
#[pyclass(frozen, get_all, module = "expresslane._scheduler")]
pub(crate) struct Decisions {
    dispatches: Py<PyTuple>,
    expired: Py<PyList>,
    overdue: Py<PyList>,
    limited: Py<PyList>,
}

impl Decisions {
    pub(crate) fn new(py: Python<'_>, decisions: core::Decisions) -> PyResult<Self> {
        let released = &decisions.dispatches;
        let columns = [
            PyList::new(py, released.iter().map(|dispatch| dispatch.ticket.0))?,
            PyList::new(py, released.iter().map(|dispatch| dispatch.backend))?,
            PyList::new(py, released.iter().map(|dispatch| dispatch.attempt))?,
        ];
        let dispatches = PyTuple::new(py, columns)?.unbind();
        let expired =
            decisions.expired.into_iter().map(|expired| (expired.ticket.0, expiry_reason(expired.reason)));
        let overdue =
            decisions.overdue.into_iter().map(|overdue| (overdue.ticket.0, overdue_reason(overdue.reason)));
        let limited = decisions.limited.into_iter().map(|limited| {
            let (backend, model, tenant) = match limited.holder {
                core::Holder::Backend(backend) => (Some(backend), None, None),
                core::Holder::Model(backend, model) => (Some(backend), Some(model), None),
                core::Holder::Tenant(tenant) => (None, None, Some(tenant)),
            };
            Limited { backend, model, tenant, limit: limited.kind.name(), reset_at_ns: limited.reset_at_ns }
        });
        Ok(Self {
            dispatches,
            expired: PyList::new(py, expired)?.unbind(),
            overdue: PyList::new(py, overdue)?.unbind(),
            limited: PyList::new(py, limited)?.unbind(),
        })
    }
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
