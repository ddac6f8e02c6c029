//! The text of a report: headings, commands, tables.

use super::sections::{Runs, row};
use crate::cli::{REQUESTS, SEEDS};
use crate::compare::{Choice, Comparison};
use crate::row::Row;
use crate::source::{Source, credit, short_name};
use serde_json::Value;
use std::fmt::Write;

/// The default policy, which stands against pass-through.
const OURS: &str = "hrrn";

pub(super) const TENANTS: &str = "\n## Two tenants\n\n![service gap](tenants.svg)\n\nChecked by:\n\n    \
                                  expresslane-sim validate\n";

pub(super) fn head(title: &str) -> String {
    format!(
        "# {title}\n\nSIMULATED: modelled engines, not real ones; `make figures` writes this file. Times to first token \
         are in seconds from arrival, over all seeds; makespans are means. Each table stands below the command that gives \
         its numbers; `expresslane-sim` is `cargo run --release -p expresslane-sim --`, `TRACES` the folder of the \
         recorded workloads.\n"
    )
}

pub(super) fn section(choice: &Choice, runs: &Runs, files: &str) -> String {
    let name = short_name(&choice.trace);
    let threshold = match choice.engine.long_prefill_token_threshold {
        0 => "no chunk threshold in the engine".to_owned(),
        tokens => format!("chunks of at most {tokens} tokens in the engine"),
    };
    let mut text = format!("\n## {name}, {threshold}\n\n");
    let saturation = &runs.busy().conditions.saturation;
    let most = &runs.busy().conditions;
    write!(
        text,
        "{} requests, {} of them up to {} tokens; `{}` saturates at {:.3} requests/s \
         ({:.0} prompt and {:.0} output tokens/s).\n\n",
        most.requests,
        most.short_requests,
        most.short_tokens,
        most.engine.name,
        saturation.requests_per_s,
        saturation.prompt_tokens_per_s,
        saturation.output_tokens_per_s
    )
    .expect("a string takes everything");
    if let Some(source) = credit(name) {
        write!(text, "Workload: {source}.\n\n").expect("a string takes everything");
    }
    for figure in ["policies", "loads", "caps"] {
        writeln!(text, "![{name}: {figure}]({files}-{figure}.svg)").expect("a string takes everything");
    }
    for (load, comparison) in runs.tables() {
        let command = command(choice, *load, None);
        write!(text, "\n    {command}\n\n{}", policies(comparison)).expect("a string takes everything");
    }
    write!(text, "\n`{OURS}` over `passthrough` in the tables above:\n\n{}", ratios(runs))
        .expect("a string takes everything");
    let command = command(choice, super::BUSY, Some("CAP"));
    write!(text, "\nMean time to first token by cap, seconds:\n\n    {command}\n\n{}", caps(runs))
        .expect("a string takes everything");
    text
}

fn command(choice: &Choice, load: f64, cap: Option<&str>) -> String {
    let trace = match choice.source {
        Source::Recorded(_) => format!("TRACES/{}.csv", short_name(&choice.trace)),
        Source::Synthetic(_) => choice.trace.clone(),
    };
    let engine = &choice.engine;
    let mut command =
        format!("expresslane-sim compare --trace {trace} --engine {} --load {load}", engine.name);
    if engine.long_prefill_token_threshold > 0 {
        write!(command, " --threshold {}", engine.long_prefill_token_threshold)
            .expect("a string takes everything");
    }
    if let Some(requests) = choice.source.drawn().filter(|&requests| requests != REQUESTS) {
        write!(command, " --requests {requests}").expect("a string takes everything");
    }
    if choice.seeds != SEEDS {
        write!(command, " --seeds {}", choice.seeds).expect("a string takes everything");
    }
    if let Some(cap) = cap {
        write!(command, " --policies passthrough,cap-fcfs,hrrn --cap {cap}")
            .expect("a string takes everything");
    }
    command
}

fn table(header: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule: Vec<String> = header.iter().map(|_| "---".to_owned()).collect();
    let rows: String = rows.map(|row| line(&row)).collect();
    line(header) + &line(&rule) + &rows
}

fn policies(comparison: &Comparison) -> String {
    let records: Vec<Value> = comparison.rows.iter().map(|row| serde_json::json!(row)).collect();
    let Some(Value::Object(first)) = records.first() else { return String::new() };
    let header: Vec<String> = first.keys().map(|name| name.replace("ttft_", "")).collect();
    let cells =
        |record: &Value| first.keys().map(|name| crate::table::cell(&record[name.as_str()])).collect();
    table(&header, records.iter().map(cells))
}

type Field = fn(&Row) -> Option<f64>;

/// What do-no-harm is about.
const FIELDS: [(&str, Field); 6] = [
    ("mean", |row| row.ttft_mean_s),
    ("P50", |row| row.ttft_p50_s),
    ("P99", |row| row.ttft_p99_s),
    ("short P99", |row| row.short_ttft_p99_s),
    ("long P99", |row| row.long_ttft_p99_s),
    ("makespan", |row| row.makespan_s),
];

fn ratios(runs: &Runs) -> String {
    let header = ["load"].into_iter().chain(FIELDS.map(|field| field.0)).map(str::to_owned);
    let of = |(load, comparison): &(f64, Comparison)| {
        let ratio = |field: Field| {
            let ours = row(comparison, OURS).and_then(field);
            let theirs = row(comparison, "passthrough").and_then(field);
            ours.zip(theirs).map_or("-".to_owned(), |(ours, theirs)| format!("{:.3}", ours / theirs))
        };
        [load.to_string()].into_iter().chain(FIELDS.map(|field| ratio(field.1))).collect()
    };
    table(&header.collect::<Vec<_>>(), runs.tables().map(of))
}

fn caps(runs: &Runs) -> String {
    let Some((_, first)) = runs.caps.first() else { return String::new() };
    let policies = first.rows.iter().map(|row| row.policy.to_owned());
    let header = ["cap".to_owned()].into_iter().chain(policies);
    let of = |(cap, comparison): &(u32, Comparison)| {
        let means =
            comparison.rows.iter().map(|row| row.ttft_mean_s.map_or("-".to_owned(), |s| format!("{s:.2}")));
        [cap.to_string()].into_iter().chain(means).collect()
    };
    table(&header.collect::<Vec<_>>(), runs.caps.iter().map(of))
}
