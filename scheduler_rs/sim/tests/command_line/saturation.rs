//! `saturation`: the highest rate that an engine keeps up with.

use crate::{csv, program, try_run};
use serde_json::Value;
use std::io::Write;
use std::process::Stdio;

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

/// A rate that is no number is refused: one request more in a step that has room for it takes no time.
#[test]
fn no_saturation() {
    let path = csv("one.csv", std::iter::once("0,1,1".to_owned()));
    let line = format!(
        "saturation --engine llama2-70b-a100-tp4 --costs-ms 40,0,0,40,1 --max-num-seqs 300 --trace {}",
        path.display()
    );
    let error = try_run(&line).unwrap_err().to_string();
    assert!(error.starts_with("--costs-ms 40,0,0,40,1: one more copy of so small a workload"), "{error}");
}

/// A workload may come through a pipe, and the search for its saturation says what it is at.
#[test]
fn piped() {
    let mut program = program("saturation --engine llama2-70b-a100-tp4 --trace /dev/stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let rows = "arrival_s,prompt_tokens,output_tokens\n0,1000,10\n1,2000,10\n";
    program.stdin.take().unwrap().write_all(rows.as_bytes()).unwrap();
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"requests_per_s"), "{output:?}");
    assert_eq!(output.stderr, b"saturation: /dev/stdin on llama2-70b-a100-tp4\n");
}
