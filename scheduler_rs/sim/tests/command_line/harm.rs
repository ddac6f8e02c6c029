//! `harm`: what the defaults are held to.

use crate::{csv, try_run};
use serde_json::Value;
use std::collections::BTreeSet;

/// What the defaults are held to: figures of every case at both loads, of engines with and without chunks, told or not.
#[test]
fn harm() {
    let arrivals = (0..60).map(|at| format!("{at},{},10", 100 + at * 150));
    let trace = csv("harm.csv", arrivals);
    let text = try_run(&format!("harm --requests 60 --seeds 1 --json {}", trace.display())).unwrap();
    let checks: Value = serde_json::from_str(&text).unwrap();
    let checks = checks.as_array().unwrap();
    let of_trace: Vec<&Value> = checks.iter().filter(|check| check["workload"] == "harm").collect();
    // Too few of each length for a figure of their own.
    assert_eq!(of_trace.len(), 2 * 3 * 4);
    assert_eq!(checks.len(), (33 + 1) * of_trace.len());
    let settings: BTreeSet<_> =
        checks.iter().map(|check| (check["chunk"].as_u64(), check["told"].as_bool())).collect();
    assert_eq!(
        settings,
        [(0, true), (512, false), (512, true)].map(|(of, told)| (Some(of), Some(told))).into()
    );
    for check in checks {
        assert!(check["target"].as_f64().unwrap() > 1.0 && check["ours"].as_f64().unwrap() > 0.0, "{check}");
        assert!(["ok", "known", "failed"].contains(&check["verdict"].as_str().unwrap()), "{check}");
    }
    assert!(try_run("harm missing.csv").unwrap_err().to_string().contains("missing.csv"));
}
