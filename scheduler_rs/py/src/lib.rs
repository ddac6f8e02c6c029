//! `expresslane._scheduler`: the Python face of `expresslane-scheduler`. No logic lives here.

mod convert;
mod decisions;
mod drain_rate;
mod errors;
mod integers;
mod scheduler;
mod snapshot;

use pyo3::prelude::*;

#[pymodule(name = "_scheduler", gil_used = false)]
mod module {
    #[pymodule_export]
    use crate::decisions::{CancelResult, Decisions, Limited};
    #[pymodule_export]
    use crate::drain_rate::DrainRate;
    #[pymodule_export]
    use crate::errors::{
        AboveLimitError, BatchTooLargeError, InvalidConfigError, QueueFullError, SchedulerError,
        UnknownTicketError,
    };
    #[pymodule_export]
    use crate::scheduler::Scheduler;
    #[pymodule_export]
    use crate::snapshot::{
        BackendSnapshot, BreakerSnapshot, Histogram, Ratio, Snapshot, TenantLimitSnapshot, TenantSnapshot,
    };

    use expresslane_scheduler::{Fairness, Policy, token_buckets};
    use pyo3::prelude::*;

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "the name in Python")]
    const debug_build: bool = cfg!(debug_assertions);

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "the name in Python")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// Names accepted as `policy`.
    #[pyfunction]
    fn policies() -> Vec<&'static str> {
        Policy::NAMES.to_vec()
    }

    /// Names accepted as `fairness`.
    #[pyfunction]
    fn fairness_modes() -> Vec<&'static str> {
        Fairness::NAMES.to_vec()
    }

    /// Upper edge of the token bucket that holds `tokens`.
    #[pyfunction]
    fn token_bucket_edge(#[pyo3(from_py_with = crate::integers::tokens)] tokens: u32) -> u32 {
        token_buckets::edge(token_buckets::bucket_of(tokens))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let public: Vec<String> = module.index()?.extract()?;
        module.setattr(
            "__all__",
            public.into_iter().filter(|name| !HIDDEN.contains(&name.as_str())).collect::<Vec<_>>(),
        )
    }

    const HIDDEN: [&str; 2] = ["__version__", "debug_build"];
}
