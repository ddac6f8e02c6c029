//! `report`: a folder of figures and tables.

use crate::{csv, refusal, try_run};
use serde_json::Value;
use std::path::PathBuf;

/// A report is a folder of figures and one text with tables; its commands give its numbers.
#[test]
fn report() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report");
    let out = folder.display();
    let line =
        format!("report --out {out} --seeds 1 --requests 150 --thresholds 512 --tenants synthetic:mixed");
    let printed = try_run(&line).unwrap();
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let figures = ["caps", "loads", "policies"].map(|figure| format!("mixed-chunk512-{figure}.svg"));
    assert_eq!(names[1..4], figures);
    assert!(names[0] == "README.md" && names[4] == "tenants.svg" && names.len() == 5);
    assert_eq!(printed.lines().count(), 5);
    let text = std::fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(names[1..].iter().all(|name| text.contains(name.as_str())));
    let command = "expresslane-sim compare --trace synthetic:mixed --engine llama2-70b-a100-tp4 --load 0.85 --threshold 512 \
                   --requests 150 --seeds 1";
    let (_, tables) = text.split_once(&format!("    {command}\n")).unwrap();
    let json = format!("{} --json", command.trim_start_matches("expresslane-sim "));
    let json: Value = serde_json::from_str(&try_run(&json).unwrap()).unwrap();
    let mean_s = json["rows"][4]["ttft_mean_s"].as_f64().unwrap();
    let line = tables.lines().find(|line| line.starts_with("| hrrn |")).unwrap();
    let cell: f64 = line.split(" | ").nth(1).unwrap().parse().unwrap();
    assert!((cell / mean_s - 1.0).abs() < 0.01, "{cell} in the table, {mean_s} by the command");
}

/// A report that cannot be made leaves nothing behind.
#[test]
fn report_refused() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("no-report");
    let line = format!("report --out {} --requests 50 synthetic:mixed no-such-file.csv", folder.display());
    assert!(try_run(&line).unwrap_err().to_string().contains("no-such-file.csv"));
    assert!(!folder.exists());
}

/// Workloads whose files in the report would be the same are refused before anything is simulated.
#[test]
fn report_of_equal_names() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("equal-names");
    let [first, second] = ["one", "two"].map(|name| {
        std::fs::create_dir_all(folder.join(name)).unwrap();
        csv(&format!("equal-names/{name}/x.csv"), std::iter::once("0,1,1".to_owned()))
    });
    let (out, first, second) = (folder.join("out"), first.display(), second.display());
    let of = |what: &str| refusal(&format!("report --out {} {what}", out.display()));
    let error = of(&format!("{first} {second}"));
    assert_eq!(error, format!("<TRACES>... {second}: would be called x in the report, as {first} is"));
    assert!(of(&format!("{first} {first}")).contains("x.csv: is there twice"));
    assert!(of(&format!("--thresholds 512,512 {first}")).contains("x-chunk512"));
    assert!(!out.exists());
}
