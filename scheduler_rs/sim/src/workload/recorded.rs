//! A recorded workload: CSV with `arrival_s,prompt_tokens,output_tokens`, and what else it knows of
//! each request: whose it is (`tenant` or `session`), its `class`, its `prefix_hashes` (not used: the modelled engines
//! have no prefix cache).

use super::{Request, Workload};
use crate::error::written;
use crate::{Error, file};
use std::collections::BTreeMap;
use std::path::Path;

const COLUMNS: [&str; 3] = ["arrival_s", "prompt_tokens", "output_tokens"];
const EXTRA_COLUMNS: [&str; 4] = ["class", "prefix_hashes", "session", "tenant"];
const CLASSES: [&str; 3] = ["interactive", "standard", "batch"];
/// More than any engine holds, and far from overflow.
pub(crate) const TOKENS_MAX: u32 = 100_000_000;
const SPAN_MIN_S: f64 = 1e-6;

pub(crate) fn read(path: &Path) -> Result<Workload, Error> {
    parse(&file::text(path)?).map_err(|(line, reason)| Error::Row { path: path.to_owned(), line, reason })
}

/// The workload, or the first bad line and what is wrong with it.
fn parse(text: &str) -> Result<Workload, (usize, String)> {
    // Spreadsheets begin their files with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Many programs end them with a blank line.
    let text = text.trim_end();
    let mut lines = (1..).zip(text.lines());
    let (_, header) = lines.next().ok_or((1, "the file is empty".to_owned()))?;
    let columns = Columns::named(header).map_err(|reason| (1, reason))?;
    let mut requests = Vec::new();
    let mut tenants = BTreeMap::new();
    for (line, row) in lines {
        let (request, tenant) = columns.request(row).map_err(|reason| (line, reason))?;
        let next = tenants.len() as u32;
        let tenant = tenant.map_or(0, |name| *tenants.entry(name).or_insert(next));
        requests.push(Request { tenant, ..request });
    }
    if requests.is_empty() {
        return Err((1, "there are no rows below the header".to_owned()));
    }
    check_span(&requests).map_err(|(at, reason)| (at + 2, reason))?;
    let mut workload = Workload {
        tenants: tenants.len() as u32,
        has_sessions_only: !columns.names.contains(&"tenant"),
        ..Workload::open(requests)
    };
    workload.sort();
    Ok(workload)
}

/// Time is stretched to the load. What lies closer together than this cannot be, and is not in seconds.
fn check_span(requests: &[Request]) -> Result<(), (usize, String)> {
    let arrivals = || requests.iter().map(|request| request.arrival_s);
    let (first_s, last_s) = (arrivals().fold(f64::INFINITY, f64::min), arrivals().fold(0.0, f64::max));
    if last_s <= first_s || last_s - first_s >= SPAN_MIN_S {
        return Ok(());
    }
    let last = arrivals().position(|at_s| at_s >= last_s).unwrap_or(0);
    Err((
        last,
        format!(
            "all arrivals lie within {} s, but not at one moment: arrival_s is in seconds",
            written(SPAN_MIN_S)
        ),
    ))
}

/// Where in a row what stands.
struct Columns<'a> {
    names: Vec<&'a str>,
    class: Option<usize>,
    tenant: Option<usize>,
}

impl<'a> Columns<'a> {
    fn named(header: &'a str) -> Result<Self, String> {
        let names: Vec<&str> = header.trim_end().split(',').map(str::trim).collect();
        let (extra, first) = (names.iter().skip(3), names.iter().take(3));
        let mut once: Vec<&str> = extra.copied().filter(|name| EXTRA_COLUMNS.contains(name)).collect();
        once.sort_unstable();
        once.dedup();
        if first.ne(&COLUMNS) || once.len() + 3 != names.len() {
            return Err(format!(
                "the columns must be {}, then any of {}, each once, not {header:?}",
                COLUMNS.join(","),
                EXTRA_COLUMNS.join(", ")
            ));
        }
        let find = |of| names.iter().position(|name| *name == of);
        Ok(Self { class: find("class"), tenant: find("tenant").or(find("session")), names })
    }

    /// A row's request, and whose it is.
    fn request<'row>(&self, row: &'row str) -> Result<(Request, Option<&'row str>), String> {
        let fields: Vec<&str> = row.trim_end().split(',').map(str::trim).collect();
        if fields.len() > self.names.len() {
            return Err(format!("{} fields in {} columns", fields.len(), self.names.len()));
        }
        let field =
            |at: usize| fields.get(at).copied().ok_or_else(|| format!("{} is missing", self.names[at]));
        let arrival = field(0)?;
        let arrival_s: f64 = arrival.parse().map_err(|_| format!("arrival_s {arrival:?} is not a number"))?;
        if !(arrival_s.is_finite() && arrival_s >= 0.0) {
            return Err(format!("arrival_s {arrival:?} must be finite and at least 0"));
        }
        let mut request =
            Request::new(arrival_s, tokens(COLUMNS[1], field(1)?)?, tokens(COLUMNS[2], field(2)?)?);
        if let Some(at) = self.class {
            request.class = class(field(at)?)?;
        }
        Ok((request, self.tenant.map(field).transpose()?))
    }
}

/// At least one of each kind: an empty prompt and an answer without a first token have no time to first token.
fn tokens(name: &str, field: &str) -> Result<u32, String> {
    match field.parse() {
        Ok(tokens) if (1..=TOKENS_MAX).contains(&tokens) => Ok(tokens),
        _ => Err(format!("{name} {field:?} is not a whole number from 1 to {TOKENS_MAX}")),
    }
}

fn class(field: &str) -> Result<u32, String> {
    let found = (0..).zip(CLASSES).find(|(_, name)| *name == field);
    found.map(|(class, _)| class).ok_or_else(|| format!("class {field:?} is none of {}", CLASSES.join(", ")))
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
        assert_eq!((tenants, sessions.tenants, sessions.has_sessions_only), (vec![0, 1, 0], 2, true));
        let rows = "arrival_s,prompt_tokens,output_tokens,class,tenant\n0,1,1,interactive,x\n1,1,1,batch,y\n";
        let classes = parse(rows).unwrap();
        let who: Vec<(u32, u32)> =
            classes.requests.iter().map(|request| (request.class, request.tenant)).collect();
        assert_eq!((who, classes.tenants, classes.has_sessions_only), (vec![(0, 0), (2, 1)], 2, false));
    }

    /// A byte order mark is not part of the header.
    #[test]
    fn byte_order_mark() {
        let workload = parse("\u{feff}arrival_s,prompt_tokens,output_tokens\n0,2,2\n").unwrap();
        assert_eq!(workload.requests, [Request::new(0.0, 2, 2)]);
    }

    /// Blank lines at the end are none; in between they are rows without fields.
    #[test]
    fn blank_lines() {
        for end in ["", "\n", "\r\n", "\n\n", "\n \n\n"] {
            let workload = parse(&format!("arrival_s,prompt_tokens,output_tokens\n0,2,2{end}")).unwrap();
            assert_eq!(workload.requests, [Request::new(0.0, 2, 2)], "{end:?}");
        }
        assert_eq!(parse("arrival_s,prompt_tokens,output_tokens\n0,2,2\n\n1,1,1\n").unwrap_err().0, 3);
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
            (
                "arrival_s,prompt_tokens,output_tokens,color\n0,1,1,red\n",
                1,
                "class, prefix_hashes, session, tenant",
            ),
            ("arrival_s,prompt_tokens,output_tokens,tenant,tenant\n0,1,1,a,b\n", 1, "each once"),
            ("arrival_s,prompt_tokens,output_tokens,class\n0,1,1,urgent\n", 2, "class \"urgent\""),
            ("arrival_s,prompt_tokens,output_tokens,session\n0,1,1\n", 2, "session is missing"),
            ("arrival_s,prompt_tokens,output_tokens\n0,1,1,7\n", 2, "4 fields in 3 columns"),
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
            ("arrival_s,prompt_tokens,output_tokens\n0,0,4\n", 2, "prompt_tokens \"0\""),
            ("arrival_s,prompt_tokens,output_tokens\n0,1,1\n0,4,0\n", 3, "output_tokens \"0\""),
            ("arrival_s,prompt_tokens,output_tokens\n0,1,1\n\n0,1,1\n", 3, "arrival_s \"\""),
            (
                "arrival_s,prompt_tokens,output_tokens\n0,1,1\n1e-320,1,1\n0,1,1\n",
                3,
                "all arrivals lie within 1e-6 s, but not at one moment",
            ),
        ];
        for (text, line, reason) in cases {
            let (at, why) = parse(text).unwrap_err();
            assert!(at == line && why.contains(reason), "{text:?} gave line {at}: {why}");
        }
    }
}
