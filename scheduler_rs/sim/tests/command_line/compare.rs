//! `compare`: policies side by side on one workload.

use crate::{compare, csv, file, try_run};
use serde_json::Value;

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

/// Without deadlines `lars` is `hrrn`, byte for byte; with them it is not, and `edf` goes by them alone.
#[test]
fn deadlines() {
    let rows = |deadline: &str| {
        let line = format!(
            "--trace synthetic:mixed-bursts --load 0.9 --policies hrrn,lars,edf,fcfs --json {deadline}"
        );
        let json: Value = serde_json::from_str(&compare(&line).unwrap()).unwrap();
        [0, 1, 2, 3].map(|row| {
            let mut row = json["rows"][row].clone();
            row["policy"].take();
            row.to_string()
        })
    };
    let [hrrn, lars, edf, fcfs] = rows("--ttft-deadline 0");
    assert!(hrrn == lars && edf == fcfs && hrrn != fcfs);
    let [same, lars, edf, _] = rows("--ttft-deadline 1,100");
    assert!(same == hrrn && lars != hrrn && edf != fcfs);
}

/// With tenants, the one that asks for little is served as if it were alone; without, it waits with the others.
#[test]
fn tenants() {
    let row = |at: u32| {
        let tenant = if at.is_multiple_of(20) { "small" } else { "large" };
        format!("{},400,200,{tenant}", f64::from(at) * 0.1)
    };
    let header = "arrival_s,prompt_tokens,output_tokens,tenant".to_owned();
    let text = std::iter::once(header).chain((0..1_500).map(row)).collect::<Vec<_>>().join("\n");
    let path = file("tenants.csv", &text);
    let jain = |fairness: &str| {
        let line = format!(
            "--load 1.5 --policies fcfs --json --max-num-seqs 32 --trace {} --fairness {fairness}",
            path.display()
        );
        let json: Value = serde_json::from_str(&compare(&line).unwrap()).unwrap();
        json["rows"][0]["jain"].as_f64().unwrap()
    };
    assert!(jain("none") > 0.97, "both wait the same");
    assert!(jain("tenant_batch") < 0.7, "one waits, the other does not");
}

/// Other seeds are other workloads, and each seed is the same alone as among others.
#[test]
fn seeds() {
    let mean = |seeds: &str| {
        let line = format!(
            "compare --engine llama2-70b-a100-tp4 --requests 300 --trace synthetic:wide --load 0.8 --policies hrrn \
             --json {seeds}"
        );
        let json: Value = serde_json::from_str(&try_run(&line).unwrap()).unwrap();
        json["rows"][0]["ttft_mean_s"].as_f64().unwrap()
    };
    let [both, first, second] = ["--seeds 2", "--seeds 1", "--seeds 1 --first-seed 2"].map(mean);
    assert!((f64::midpoint(first, second) / both - 1.0).abs() < 1e-9 && (first - second).abs() > 1e-3);
}

/// A recorded workload is read, scaled to the load and jittered; a table is aligned text.
#[test]
fn recorded() {
    let path = csv("recorded.csv", (0..200).map(|at| format!("{at},{},20", 100 + at * 37 % 5_000)));
    let text = compare(&format!("--trace {} --load 0.5", path.display())).unwrap();
    assert!(text.contains("200 requests x 2 seeds") && text.contains("\nsjf-aged "));
}

/// A closed loop has as many users at work as it has requests, however many there may be.
#[test]
fn users_without_requests() {
    let engine = "--max-num-seqs 4294967295 --max-num-batched-tokens 4294967295";
    let line = format!("--trace synthetic:mixed-closed --load 1000 {engine} --policies passthrough --json");
    let json: Value = serde_json::from_str(&compare(&line).unwrap()).unwrap();
    assert_eq!(json["conditions"]["closed_loop_users"], 4_294_967_295_000_u64);
    assert_eq!(json["rows"][0]["completed"], 600);
}
