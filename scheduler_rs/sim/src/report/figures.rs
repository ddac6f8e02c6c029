//! The figures of a workload.

use super::sections::{Runs, row};
use crate::compare::{Comparison, Conditions};
use crate::figure::curves::Curves;
use crate::figure::ranges::Ranges;
use crate::figure::{Caption, label};
use crate::row::Row;
use crate::source::{credit, short_name};

/// Drawn in the figures over load: a plain cap that does not bind is no different from none, and the policies that go by
/// size lie close together.
const SHOWN: [&str; 3] = ["passthrough", "edf", "hrrn"];

fn caption(title: String, of: &Conditions, load: bool) -> Caption {
    let chunk = match of.engine.long_prefill_token_threshold {
        0 => "no chunk threshold".to_owned(),
        tokens => format!("chunks of {tokens} tokens"),
    };
    let load = if load { format!(", load {}", of.load) } else { String::new() };
    let mut lines = vec![
        format!("SIMULATED: {} on {}, {chunk}{load}", short_name(&of.trace), of.engine.name),
        format!("{} requests x {} seeds, length noise {}", of.requests, of.seeds, of.noise_sigma),
    ];
    lines.extend(credit(short_name(&of.trace)).map(|source| format!("Workload: {source}")));
    Caption { title, lines }
}

/// Times to first token under each policy, short and long prompts apart.
pub(super) fn policies(busy: &Comparison) -> Ranges {
    let conditions = &busy.conditions;
    let short = label(f64::from(conditions.short_tokens));
    let ends = |from: Option<f64>, to: Option<f64>| from.zip(to).map(|(from, to)| [from, to]);
    let of = |row: &Row| {
        let short = ends(row.short_ttft_p50_s, row.short_ttft_p99_s);
        (row.policy.to_owned(), vec![short, ends(row.long_ttft_p50_s, row.long_ttft_p99_s)])
    };
    Ranges {
        caption: caption("Time to first token by policy".to_owned(), conditions, true),
        axis: "time to first token, seconds (logarithmic)".to_owned(),
        ends: ["P50", "P99"],
        series: vec![format!("up to {short} tokens"), format!("above {short} tokens")],
        rows: busy.rows.iter().map(of).collect(),
    }
}

/// The short prompts' P99 over load.
pub(super) fn loads(runs: &Runs) -> Curves {
    let conditions = &runs.busy().conditions;
    let points = |policy: &str| {
        let at = |(load, comparison): &(f64, Comparison)| {
            row(comparison, policy).and_then(|row| row.short_ttft_p99_s).map(|p99_s| [*load, p99_s])
        };
        runs.sweep.iter().filter_map(at).collect::<Vec<_>>()
    };
    let short = label(f64::from(conditions.short_tokens));
    let title = format!("P99 time to first token of prompts up to {short} tokens");
    Curves {
        caption: caption(title, conditions, false),
        x_axis: "load: offered rate over the engine's saturation rate".to_owned(),
        y_axis: "seconds (logarithmic)".to_owned(),
        logarithmic: true,
        series: SHOWN
            .iter()
            .map(|policy| (policy.to_string(), points(policy)))
            .filter(|series| !series.1.is_empty())
            .collect(),
    }
}

/// The mean over the cap.
pub(super) fn caps(runs: &Runs) -> Curves {
    let points = |policy: &str| {
        let at = |(cap, comparison): &(u32, Comparison)| {
            row(comparison, policy).and_then(|row| row.ttft_mean_s).map(|mean_s| [f64::from(*cap), mean_s])
        };
        runs.caps.iter().filter_map(at).collect::<Vec<_>>()
    };
    let conditions = &runs.busy().conditions;
    let most = conditions.engine.max_num_seqs;
    Curves {
        caption: caption("Mean time to first token by cap".to_owned(), conditions, true),
        x_axis: format!("cap: most prompts in flight (the engine runs {most} at once)"),
        y_axis: "seconds (logarithmic)".to_owned(),
        logarithmic: true,
        series: ["passthrough", "cap-fcfs", "hrrn"]
            .map(|policy| (policy.to_owned(), points(policy)))
            .to_vec(),
    }
}
