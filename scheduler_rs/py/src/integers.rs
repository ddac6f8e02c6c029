//! Arguments that are integers: one that is negative or too large is refused with the name of its field.
//!
//! Times and numbers of tickets, batches, tenants and backends are not among them: nobody sets these, a wrong one is a
//! defect.

use crate::errors::InvalidConfigError;
use expresslane_scheduler::Prompt;
use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;

/// What one integer of it may have.
pub(crate) trait Integers {
    const BITS: u32;
}

impl Integers for u32 {
    const BITS: u32 = u32::BITS;
}

impl Integers for u64 {
    const BITS: u32 = u64::BITS;
}

impl<T: Integers> Integers for Option<T> {
    const BITS: u32 = T::BITS;
}

impl Integers for Vec<(u32, u32)> {
    const BITS: u32 = u32::BITS;
}

impl Integers for (u32, u32, u32) {
    const BITS: u32 = u32::BITS;
}

/// One function for each argument, because an extractor is not told which argument it reads.
macro_rules! arguments {
    ($($field:ident: $type:ty),* $(,)?) => {
        $(pub(crate) fn $field(value: &Bound<'_, PyAny>) -> PyResult<$type> {
            named(stringify!($field), value)
        })*
    };
}

arguments! {
    model: Option<u32>,
    prompt_class: Option<u32>,
    queue_limit: u32,
    queue_limit_ns: u64,
    in_flight_limit: u32,
    no_backend_timeout_ns: u64,
    max_wait_ns: u64,
    cap: u32,
    models: Vec<(u32, u32)>,
    max_loaded_models: u32,
    absence_timeout_ns: u64,
    long_threshold_tokens: u32,
    long_slots: Option<u32>,
    short_budget_tokens: Option<u32>,
    engine_step_tokens: u32,
    engine_chunk_tokens: u32,
    first_token_timeout_ns: u64,
    idle_timeout_ns: u64,
    attempt_timeout_ns: u64,
    requests_per_min: u32,
    tokens_per_min: u64,
    breaker_min_samples: u32,
    breaker_window_ns: u64,
    breaker_open_ns: u64,
    breaker_open_max_ns: u64,
    breaker_probes: u32,
    queue_timeout_ns: u64,
    deadline_ns: u64,
    weight: u32,
    usage: Option<(u32, u32, u32)>,
    tokens: u32,
}

/// (model, class, tokens, queue timeout, index, output tokens, sequential, deadline for the first token)
type PromptTuple = (u32, u32, u32, u64, u32, u32, bool, u64);

/// The fields of a prompt that are integers, with their places and bits.
const PROMPT_FIELDS: [(usize, &str, u32); 7] = [
    (0, "model", 32),
    (1, "class", 32),
    (2, "tokens", 32),
    (3, "queue_timeout_ns", 64),
    (4, "index", 32),
    (5, "output_tokens", 32),
    (7, "ttft_deadline_ns", 64),
];

pub(crate) fn prompts(value: &Bound<'_, PyAny>) -> PyResult<Vec<Prompt>> {
    let tuples: Vec<PromptTuple> = value.extract().map_err(|error: PyErr| match wrong_field(value) {
        Some((field, bits, item)) => refusal(error, field, bits, &item),
        None => error,
    })?;
    Ok(tuples.into_iter().map(prompt).collect())
}

/// The first field of all prompts that is out of range: only looked for once it is known that there is one.
fn wrong_field<'py>(prompts: &Bound<'py, PyAny>) -> Option<(&'static str, u32, Bound<'py, PyAny>)> {
    for prompt in prompts.try_iter().ok()? {
        let prompt = prompt.ok()?;
        for (at, field, bits) in PROMPT_FIELDS {
            let item = prompt.get_item(at).ok()?;
            let fits =
                if bits == 32 { item.extract::<u32>().map(drop) } else { item.extract::<u64>().map(drop) };
            if fits.is_err() {
                return Some((field, bits, item));
            }
        }
    }
    None
}

fn prompt(fields: PromptTuple) -> Prompt {
    let (model, class, tokens, queue_timeout_ns, index, output_tokens, sequential, ttft_deadline_ns) = fields;
    Prompt { model, class, tokens, queue_timeout_ns, index, output_tokens, sequential, ttft_deadline_ns }
}

fn named<'py, T: Integers + FromPyObjectOwned<'py>>(field: &str, value: &Bound<'py, PyAny>) -> PyResult<T> {
    value.extract::<T>().map_err(|error| refusal(error.into(), field, T::BITS, value))
}

/// What has no range, because it is no integer at all, is told as it is.
fn refusal(error: PyErr, field: &str, bits: u32, value: &Bound<'_, PyAny>) -> PyErr {
    if !error.is_instance_of::<PyOverflowError>(value.py()) {
        return error;
    }
    // Python prints no integer of thousands of digits.
    let shown = value
        .str()
        .map_or_else(|_| "...".to_owned(), |text| text.to_string_lossy().chars().take(80).collect());
    InvalidConfigError::new_err(format!("{field} = {shown}: must be at least 0 and fit {bits} bits"))
}
