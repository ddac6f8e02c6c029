//! A recorded workload: CSV with `arrival_s,prompt_tokens,output_tokens[,prefix_hashes|session]`.

use super::{Request, Workload};
use crate::Error;
use std::collections::BTreeMap;
use std::path::Path;

const COLUMNS: [&str; 3] = ["arrival_s", "prompt_tokens", "output_tokens"];
const EXTRA_COLUMNS: [&str; 2] = ["prefix_hashes", "session"];
/// More than any engine holds, and far from overflow.
const TOKENS_MAX: u32 = 100_000_000;

pub(crate) fn read(path: &Path) -> Result<Workload, Error> {
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    parse(&text).map_err(|(line, reason)| Error::Row { path: path.to_owned(), line, reason })
}

/// The workload, or the first bad line and what is wrong with it.
fn parse(text: &str) -> Result<Workload, (usize, String)> {
    let mut lines = (1..).zip(text.lines());
    let (_, header) = lines.next().ok_or((1, "the file is empty".to_owned()))?;
    let has_sessions = check_header(header).map_err(|reason| (1, reason))?;
    let mut requests = Vec::new();
    let mut tenants = BTreeMap::new();
    for (line, row) in lines {
        let (mut request, extra) = parse_row(row).map_err(|reason| (line, reason))?;
        if has_sessions {
            let next = tenants.len() as u32;
            request.tenant = *tenants.entry(extra).or_insert(next);
        }
        requests.push(request);
    }
    if requests.is_empty() {
        return Err((1, "there are no rows below the header".to_owned()));
    }
    let mut workload = Workload { tenants: tenants.len() as u32, ..Workload::open(requests) };
    workload.sort();
    Ok(workload)
}

/// Whether the fourth column names a tenant.
fn check_header(header: &str) -> Result<bool, String> {
    let columns: Vec<&str> = header.trim_end().split(',').map(str::trim).collect();
    let extra = columns.get(3).copied();
    if columns.len() > 4
        || columns.iter().take(3).ne(&COLUMNS)
        || extra.is_some_and(|extra| !EXTRA_COLUMNS.contains(&extra))
    {
        return Err(format!(
            "the columns must be {}, then at most one of {}, not {header:?}",
            COLUMNS.join(","),
            EXTRA_COLUMNS.join(", ")
        ));
    }
    Ok(extra == Some("session"))
}

fn parse_row(row: &str) -> Result<(Request, &str), String> {
    let mut fields = row.trim_end().splitn(4, ',');
    let mut field = |name: &str| fields.next().map(str::trim).ok_or(format!("{name} is missing"));
    let arrival = field("arrival_s")?;
    let arrival_s: f64 = arrival.parse().map_err(|_| format!("arrival_s {arrival:?} is not a number"))?;
    if !(arrival_s.is_finite() && arrival_s >= 0.0) {
        return Err(format!("arrival_s {arrival:?} must be finite and at least 0"));
    }
    let prompt = tokens("prompt_tokens", field("prompt_tokens")?)?;
    let output = tokens("output_tokens", field("output_tokens")?)?;
    Ok((Request::new(arrival_s, prompt, output), fields.next().unwrap_or_default().trim()))
}

fn tokens(name: &str, field: &str) -> Result<u32, String> {
    match field.parse() {
        Ok(tokens) if tokens <= TOKENS_MAX => Ok(tokens),
        _ => Err(format!("{name} {field:?} is not a whole number from 0 to {TOKENS_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All shapes of the format are read; sessions become tenants.
    #[test]
    fn shapes() {
        let plain = parse("arrival_s,prompt_tokens,output_tokens\n0,374,44\n4.3,396,109\n").unwrap();
        assert_eq!(plain.requests[1], Request::new(4.3, 396, 109));
        assert_eq!(plain.tenants, 0);
        let hashes = parse("arrival_s,prompt_tokens,output_tokens,prefix_hashes\n0,1024,1,0 1\n").unwrap();
        assert_eq!((hashes.requests[0].prompt_tokens, hashes.tenants), (1_024, 0));
        let rows = "arrival_s,prompt_tokens,output_tokens,session\n0,1,1,a\n1,1,1,b\n2,1,1,a\n";
        let sessions = parse(rows).unwrap();
        let tenants: Vec<u32> = sessions.requests.iter().map(|request| request.tenant).collect();
        assert_eq!((tenants, sessions.tenants), (vec![0, 1, 0], 2));
    }

    /// Rows out of order are put into order.
    #[test]
    fn order() {
        let workload = parse("arrival_s,prompt_tokens,output_tokens\n5,2,2\n1,1,1\n").unwrap();
        assert_eq!(workload.requests[0], Request::new(1.0, 1, 1));
    }

    /// A bad row is named by its line and what is wrong with it.
    #[test]
    fn bad_rows() {
        let cases = [
            ("", 1, "empty"),
            ("arrival_s,prompt_tokens,output_tokens\n", 1, "no rows"),
            ("time,in,out\n0,1,1\n", 1, "arrival_s,prompt_tokens,output_tokens"),
            ("arrival_s,prompt_tokens,output_tokens,color\n0,1,1,red\n", 1, "prefix_hashes, session"),
            (
                "arrival_s,prompt_tokens,output_tokens\n0,1,1\nsoon,1,1\n",
                3,
                "arrival_s \"soon\" is not a number",
            ),
            ("arrival_s,prompt_tokens,output_tokens\n-1,1,1\n", 2, "at least 0"),
            ("arrival_s,prompt_tokens,output_tokens\nNaN,1,1\n", 2, "finite"),
            ("arrival_s,prompt_tokens,output_tokens\n0,12.5,1\n", 2, "prompt_tokens \"12.5\""),
            ("arrival_s,prompt_tokens,output_tokens\n0,1\n", 2, "output_tokens is missing"),
            ("arrival_s,prompt_tokens,output_tokens\n0,1,-4\n", 2, "output_tokens \"-4\""),
            ("arrival_s,prompt_tokens,output_tokens\n0,1,1\n\n0,1,1\n", 3, "arrival_s \"\""),
        ];
        for (text, line, reason) in cases {
            let (at, why) = parse(text).unwrap_err();
            assert!(at == line && why.contains(reason), "{text:?} gave line {at}: {why}");
        }
    }
}
