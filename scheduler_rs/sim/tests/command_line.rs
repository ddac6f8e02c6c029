//! The command line from end to end: what it prints for good input and how it refuses bad input.

use clap::Parser;
use expresslane_sim::{Cli, Error, run};
use serde_json::Value;
use std::path::PathBuf;

fn try_run(line: &str) -> Result<String, Error> {
    let words = std::iter::once("expresslane-sim").chain(line.split_whitespace());
    let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
    let mut out = Vec::new();
    run(&cli, &mut out)?;
    Ok(String::from_utf8(out).expect("output is text"))
}

fn compare(more: &str) -> Result<String, Error> {
    try_run(&format!("compare --engine llama2-70b-a100-tp4 --requests 300 --seeds 2 {more}"))
}

fn error(more: &str) -> String {
    compare(more).expect_err(more).to_string()
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("the folder for temporary files can be written");
    path
}

fn csv(name: &str, rows: impl Iterator<Item = String>) -> PathBuf {
    let header = std::iter::once("arrival_s,prompt_tokens,output_tokens".to_owned());
    file(name, &header.chain(rows).collect::<Vec<_>>().join("\n"))
}

/// One JSON object: all conditions, and a row with every field for each policy, in order.
#[test]
fn json() {
    let text =
        compare("--trace synthetic:mixed --load 0.8 --policies passthrough,cap-fcfs,hrrn --json").unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["conditions"]["engine"]["name"], "llama2-70b-a100-tp4");
    assert_eq!(json["conditions"]["limits"]["cap"], 256);
    let rows = json["rows"].as_array().unwrap();
    let policies: Vec<&str> = rows.iter().map(|row| row["policy"].as_str().unwrap()).collect();
    assert_eq!(policies, ["passthrough", "cap-fcfs", "hrrn"]);
    let fields = [
        "policy",
        "ttft_mean_s",
        "ttft_p50_s",
        "ttft_p99_s",
        "short_ttft_p50_s",
        "short_ttft_p99_s",
        "long_ttft_p50_s",
        "long_ttft_p99_s",
        "long_ttft_max_s",
        "slowdown_p99",
        "tpot_p99_s",
        "makespan_s",
        "completed",
        "rejected",
        "jain",
        "overtakes_max",
    ];
    for row in rows {
        assert!(row.as_object().unwrap().keys().eq(fields));
        assert_eq!((&row["completed"], &row["rejected"]), (&600.into(), &0.into()));
    }
}

/// The same seeds give the same bytes; other noise does not.
#[test]
fn deterministic() {
    for kind in ["poisson", "bursts", "closed", "batch"] {
        let line = format!("--trace synthetic:wide-{kind} --load 0.9 --json");
        assert_eq!(compare(&line).unwrap(), compare(&line).unwrap());
        assert_ne!(compare(&line).unwrap(), compare(&format!("{line} --noise 0")).unwrap());
    }
}

/// A mix of lengths is what ordering is for: short prompts are far better off.
#[test]
fn ordering_helps() {
    let line =
        "--trace synthetic:mixed --load 0.9 --threshold 512 --long-lane 3 --policies passthrough,hrrn --json";
    let json: Value = serde_json::from_str(&compare(line).unwrap()).unwrap();
    let p99 = |row: usize| json["rows"][row]["short_ttft_p99_s"].as_f64().unwrap();
    assert!(p99(0) > 2.0 * p99(1), "{} against {}", p99(0), p99(1));
}

/// A recorded workload is read, scaled to the load and jittered; a table is aligned text.
#[test]
fn recorded() {
    let path = csv("recorded.csv", (0..200).map(|at| format!("{at},{},20", 100 + at * 37 % 5_000)));
    let text = compare(&format!("--trace {} --load 0.5", path.display())).unwrap();
    assert!(text.contains("200 requests x 2 seeds") && text.contains("\nsjf-aged "));
}

/// The saturation rate does not depend on how the recorded arrivals were spread.
#[test]
fn saturation() {
    let of = |gap: usize| {
        let rows = (0..50).map(|at| format!("{},1000,10", at * gap));
        let path = csv(&format!("saturation-{gap}.csv"), rows);
        let line = format!("saturation --engine llama2-70b-h100-tp8 --json --trace {}", path.display());
        let json: Value = serde_json::from_str(&try_run(&line).unwrap()).unwrap();
        json["requests_per_s"].as_f64().unwrap()
    };
    assert!((of(1) - of(100)).abs() < 1e-9 && of(1) > 1.0);
}

/// Bad input is refused in words that say what would be right.
#[test]
fn refusals() {
    let chat = "--trace synthetic:chat";
    let cases = [
        ("--load 0", "--load 0: must be above 0"),
        ("--load -1", "--load -1: must be above 0"),
        (
            "--load 1 --policies lifo",
            "unknown policy \"lifo\": there is passthrough, cap-fcfs, edf, fcfs, hrrn",
        ),
        ("--load 1 --cap 0", "--cap 0: must be at least 1"),
        ("--load 1 --budget 100", "--budget 100: is below one chunk of the engine (2048 tokens)"),
        (
            "--load 1 --max-num-seqs 4096",
            "--max-num-batched-tokens 2048: must be at least --max-num-seqs (4096)",
        ),
        ("--load 1 --max-num-batched-tokens 300 --threshold 512", "is below one chunk (--threshold 512)"),
        ("--load 1 --seeds 0", "--seeds 0"),
        ("--load 1 --noise -0.5", "--noise -0.5: must be from 0 to 3"),
        ("--load 1 --costs-ms 1,2", "five numbers"),
        ("--load 1 --kv-tokens 1", "--kv-tokens 1: holds none of the workload's requests"),
        ("--load 1 --rtt-ms -1", "--rtt-ms -1"),
    ];
    for (more, words) in cases {
        let line = format!("compare --engine llama2-70b-a100-tp4 --requests 50 {chat} {more}");
        let error = try_run(&line).expect_err(&line).to_string();
        assert!(error.contains(words), "{more} gave {error:?}");
    }
    assert!(error("--load 1 --trace synthetic:chess").contains("bimodal, chat, heavy, mixed, wide"));
    assert!(error("--load 1 --trace no-such-file.csv").contains("no-such-file.csv"));
    let engine = try_run("saturation --trace synthetic:chat --engine gpt").unwrap_err().to_string();
    assert!(engine.contains("unknown engine \"gpt\"") && engine.contains("llama3.1-8b-rtx4090"));
}

/// A bad row is named by file, line and reason.
#[test]
fn bad_rows() {
    let path = file("bad.csv", "arrival_s,prompt_tokens,output_tokens\n0,10,10\n1,ten,10\n");
    let error = error(&format!("--load 1 --trace {}", path.display()));
    assert!(
        error.ends_with("bad.csv:3: prompt_tokens \"ten\" is not a whole number from 0 to 100000000"),
        "{error}"
    );
}
