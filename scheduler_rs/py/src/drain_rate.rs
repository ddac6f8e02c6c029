//! The core's measure of how fast things end, for what the driver bounds itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

/// How fast things end.
#[pyclass(frozen, module = "expresslane._scheduler")]
pub(crate) struct DrainRate(Mutex<expresslane_scheduler::DrainRate>);

#[pymethods]
impl DrainRate {
    #[new]
    fn new() -> Self {
        Self(Mutex::default())
    }

    /// So many more have ended.
    #[pyo3(signature = (now_ns, ended = 1))]
    fn record(&self, now_ns: u64, ended: u64) {
        self.lock().record(now_ns, ended);
    }

    /// Ends per second; 0.0 before the first.
    fn per_s(&self, now_ns: u64) -> f64 {
        self.lock().per_s(now_ns)
    }

    /// Nanoseconds in which `places` more will have ended.
    fn retry_after_ns(&self, now_ns: u64, places: u32) -> u64 {
        self.lock().retry_after(now_ns, places as usize).as_nanos() as u64
    }
}

impl DrainRate {
    fn lock(&self) -> MutexGuard<'_, expresslane_scheduler::DrainRate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
