//! A recorded run of a real engine: for each request its lengths and when the engine did what.

use crate::Error;
use serde::Deserialize;
use std::path::Path;

/// Seconds of the engine's own clock.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct RecordedRequest {
    pub(crate) input_toks: u32,
    pub(crate) output_toks: u32,
    pub(crate) queued_ts: f64,
    pub(crate) scheduled_ts: f64,
    pub(crate) first_token_ts: f64,
    pub(crate) last_token_ts: f64,
}

/// The requests of a file with a JSON object a line, by when they were queued.
pub(crate) fn read(path: &Path) -> Result<Vec<RecordedRequest>, Error> {
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    let bad = |line, reason| Error::Row { path: path.to_owned(), line, reason };
    let rows = (1..).zip(text.lines()).filter(|(_, row)| !row.trim().is_empty());
    let mut requests = Vec::new();
    for (line, row) in rows {
        let request: RecordedRequest =
            serde_json::from_str(row).map_err(|error| bad(line, error.to_string()))?;
        let times = [request.queued_ts, request.scheduled_ts, request.first_token_ts, request.last_token_ts];
        if !times.is_sorted() || !times.iter().all(|time| time.is_finite()) {
            return Err(bad(line, "the times are not in order".to_owned()));
        }
        requests.push(request);
    }
    if requests.is_empty() {
        return Err(bad(1, "there are no requests".to_owned()));
    }
    requests.sort_by(|a, b| a.queued_ts.total_cmp(&b.queued_ts));
    Ok(requests)
}
