//! A recorded run of a real engine: for each request its lengths and when the engine did what.

use crate::error::written;
use crate::workload::recorded::TOKENS_MAX;
use crate::{Error, file};
use serde::Deserialize;
use std::path::Path;

/// Three centuries, which the simulator's clock in nanoseconds can hold.
const TIME_MAX_S: f64 = 1e10;

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
    parse(&file::text(path)?).map_err(|(line, reason)| Error::Row { path: path.to_owned(), line, reason })
}

/// The requests, or the first bad line and what is wrong with it.
fn parse(text: &str) -> Result<Vec<RecordedRequest>, (usize, String)> {
    let rows = (1..).zip(text.lines()).filter(|(_, row)| !row.trim().is_empty());
    let mut requests = rows
        .map(|(line, row)| request(row).map_err(|reason| (line, reason)))
        .collect::<Result<Vec<_>, _>>()?;
    if requests.is_empty() {
        return Err((1, "there are no requests".to_owned()));
    }
    requests.sort_by(|a, b| a.queued_ts.total_cmp(&b.queued_ts));
    Ok(requests)
}

fn request(row: &str) -> Result<RecordedRequest, String> {
    let request: RecordedRequest = serde_json::from_str(row).map_err(|error| {
        // It counts lines within the row.
        let (what, column) = (error.to_string(), error.column());
        format!("{}, column {column}", what.split(" at line ").next().unwrap_or(&what))
    })?;
    for (name, tokens) in [("input_toks", request.input_toks), ("output_toks", request.output_toks)] {
        if !(1..=TOKENS_MAX).contains(&tokens) {
            return Err(format!("{name} {tokens} must be from 1 to {TOKENS_MAX}"));
        }
    }
    let times = [
        ("queued_ts", request.queued_ts),
        ("scheduled_ts", request.scheduled_ts),
        ("first_token_ts", request.first_token_ts),
        ("last_token_ts", request.last_token_ts),
    ];
    for (name, at_s) in times {
        if !(0.0..=TIME_MAX_S).contains(&at_s) {
            return Err(format!("{name} {} must be from 0 to {} s", written(at_s), written(TIME_MAX_S)));
        }
    }
    if !times.is_sorted_by_key(|(_, at_s)| at_s) {
        return Err("the times are not in order".to_owned());
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(change: (&str, &str)) -> String {
        let row = r#"{"input_toks": 12, "output_toks": 5, "queued_ts": 1.0, "scheduled_ts": 1.5, "first_token_ts": 2.0, "last_token_ts": 3.0}"#;
        assert!(change.0.is_empty() || row.contains(change.0), "{change:?}");
        row.replace(change.0, change.1)
    }

    /// Requests are put in order of time; blank lines say nothing.
    #[test]
    fn order() {
        let text =
            format!("{}\n\n{}\n", row(("\"queued_ts\": 1.0", "\"queued_ts\": 1.2")), row(("1.0", "0.9")));
        let times: Vec<f64> = parse(&text).unwrap().iter().map(|request| request.queued_ts).collect();
        assert_eq!(times, [0.9, 1.2]);
        assert_eq!(parse("\n \n").unwrap_err(), (1, "there are no requests".to_owned()));
    }

    /// A row that no engine can have recorded is named by its line and what is wrong with it.
    #[test]
    fn bad_rows() {
        let cases = [
            (("12", "4000000000"), "input_toks 4000000000 must be from 1 to 100000000"),
            (("12", "0"), "input_toks 0 must be from 1 to 100000000"),
            (("\"output_toks\": 5", "\"output_toks\": 0"), "output_toks 0 must be from 1 to 100000000"),
            (("12", "4294967296"), "invalid value: integer `4294967296`, expected u32, column "),
            (("12", "-1"), "invalid value: integer `-1`, expected u32, column "),
            (("3.0", "1e300"), "last_token_ts 1e300 must be from 0 to 1e10 s"),
            (("1.0", "-1e300"), "queued_ts -1e300 must be from 0 to 1e10 s"),
            (("1.5", "2.5"), "the times are not in order"),
            (("\"output_toks\": 5, ", ""), "missing field `output_toks`, column "),
            (("}", ""), "EOF while parsing an object, column "),
        ];
        for (change, reason) in cases {
            let (line, why) = parse(&format!("{}\n{}", row(("2.0", "2.1")), row(change))).unwrap_err();
            assert!(line == 2 && why.starts_with(reason), "{change:?} gave line {line}: {why}");
        }
    }
}
