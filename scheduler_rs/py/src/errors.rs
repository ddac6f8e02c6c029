//! The exceptions, and the one table from the core's errors to them.

use expresslane_scheduler::Error;
use pyo3::exceptions::PyException;
use pyo3::{PyErr, create_exception};

create_exception!(
    expresslane._scheduler,
    SchedulerError,
    PyException,
    "Base of everything this module raises."
);
create_exception!(
    expresslane._scheduler,
    InvalidConfigError,
    SchedulerError,
    "A policy name, limit or backend description that makes no sense; nothing was applied."
);
create_exception!(
    expresslane._scheduler,
    BatchTooLargeError,
    SchedulerError,
    "The batch alone is larger than the queue, or would wait too long: it can never fit. args = (message, bound)."
);
create_exception!(
    expresslane._scheduler,
    QueueFullError,
    SchedulerError,
    "The batch does not fit now: args = (message, retry_after_ns, bound)."
);
create_exception!(
    expresslane._scheduler,
    AboveLimitError,
    SchedulerError,
    "A prompt is larger than the tokens per minute of its tenant or of every backend of its model."
);
create_exception!(expresslane._scheduler, UnknownTicketError, SchedulerError, "The ticket is not in flight.");

/// Which bound a batch does not fit in, by the parameter of `Scheduler`.
const PLACES: &str = "queue_limit";
const WAIT: &str = "queue_limit_ns";

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
pub(crate) fn to_py(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::InvalidConfig { .. } => InvalidConfigError::new_err(message),
        Error::BatchTooLarge { .. } => BatchTooLargeError::new_err((message, PLACES)),
        Error::BatchTooLong { .. } => BatchTooLargeError::new_err((message, WAIT)),
        Error::AboveLimit { .. } => AboveLimitError::new_err(message),
        Error::QueueFull { retry_after_ns, .. } => QueueFullError::new_err((message, retry_after_ns, PLACES)),
        Error::WaitTooLong { retry_after_ns, .. } => QueueFullError::new_err((message, retry_after_ns, WAIT)),
        Error::UnknownTicket { .. } => UnknownTicketError::new_err(message),
    }
}
