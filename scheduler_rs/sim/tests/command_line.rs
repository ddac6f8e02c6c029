//! The command line from end to end: what it prints for good input and how it refuses bad input.

use clap::Parser;
use expresslane_sim::{Cli, Error, run};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn try_run(line: &str) -> Result<String, Error> {
    let words = std::iter::once("expresslane-sim").chain(line.split_whitespace());
    let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
    let mut out = Vec::new();
    run(&cli, &mut out)?;
    Ok(String::from_utf8(out).expect("output is text"))
}

/// Why a line is refused, by the parser or after it.
fn refusal(line: &str) -> String {
    let words = std::iter::once("expresslane-sim").chain(line.split_whitespace());
    match Cli::try_parse_from(words) {
        Err(error) => error.to_string(),
        Ok(cli) => run(&cli, &mut Vec::new()).expect_err(line).to_string(),
    }
}

/// The program itself, for what only a process has.
fn program(line: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_expresslane-sim"));
    program.args(line.split_whitespace());
    program
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

/// The core's cost: a row for each size and number of tenants, at least 60 buckets, memory within its bound.
#[test]
fn core_bench() {
    let text = try_run("core-bench --queued 2000 --tenants 1,20 --cycles 500 --json").unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["conditions"]["classes"], &json["conditions"]["backends"]), (&3.into(), &4.into()));
    let rows = json["rows"].as_array().unwrap();
    let tenants: Vec<&Value> = rows.iter().map(|row| &row["tenants"]).collect();
    assert_eq!(tenants, [1, 20]);
    for row in rows {
        assert!(row["cycle_ns"].as_u64().unwrap() > 0);
        assert!(row["nonempty_buckets_min"].as_u64().unwrap() >= 60, "{row}");
        let [fixed, total, per_ticket] = ["bytes_fixed", "bytes_total_per_ticket", "bytes_per_ticket"]
            .map(|column| row[column].as_i64().unwrap());
        assert!((100..=256).contains(&per_ticket), "{row}");
        // Batches, tenants and their flows come on top; the ticket itself is in both.
        assert!((160..=512).contains(&total), "{row}");
        assert!((4_096..=65_536).contains(&fixed), "{row}");
    }
    let table = try_run("core-bench --queued 200 --tenants 3 --cycles 10").unwrap();
    assert!(table.starts_with("queued  tenants  cycle_ns"), "{table}");
}

/// Whatever the size and the tenants: the long lanes are full half the time, and lengths fill at least 60 buckets.
#[test]
fn core_bench_mix() {
    let text = try_run("core-bench --queued 1000,20000 --tenants 1,1000 --cycles 2048 --json").unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert!((0.4..=0.6).contains(&row["long_lane_full"].as_f64().unwrap()), "{row}");
        assert!(row["nonempty_buckets_min"].as_u64().unwrap() >= 60, "{row}");
    }
}

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
    assert_eq!(checks.len(), 27 * of_trace.len());
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

/// Bad input is refused in words that say what would be right.
#[test]
fn refusals() {
    let chat = "--trace synthetic:chat";
    let cases = [
        (
            "--load 1 --policies lifo",
            "unknown policy \"lifo\": there is passthrough, cap-fcfs, edf, fcfs, hrrn",
        ),
        ("--load 1 --fairness users", "must be one of"),
        ("--load 1 --ttft-deadline 1,2.5,3", "--ttft-deadline 1,2.5,3: must be SECONDS or SHORT,LONG"),
        ("--load 1 --budget 100", "--budget 100: is below one chunk of the engine (2048 tokens)"),
        (
            "--load 1 --max-num-seqs 4096",
            "--max-num-batched-tokens 2048: must be at least --max-num-seqs (4096)",
        ),
        (
            "--load 1 --max-num-batched-tokens 300 --threshold 512",
            "--threshold 512: is more than --max-num-batched-tokens (300)",
        ),
        ("--load 1 --threshold 4096", "--threshold 4096: is more than --max-num-batched-tokens (2048)"),
        ("--load 1 --told 512,2048", "--told 512,2048: the chunk must be at most the step (512)"),
        (
            "--load 1 --told 0,512",
            "--told 0,512: the chunk must be at most the step (0), which must then be given",
        ),
        ("--load 1 --told 1,2,3", "--told 1,2,3: must be STEP or STEP,CHUNK"),
        ("--load 1 --told 512,x", "--told 512,x: must be STEP or STEP,CHUNK"),
        ("--load 1 --told -1", "--told -1: must be STEP or STEP,CHUNK"),
        ("--load 1 --policies hrrn,sjf,hrrn", "--policies hrrn: is there twice"),
        ("--load 1 --costs-ms 1,2.5", "--costs-ms 1,2.5: must be five numbers A,B,C,D,E"),
        ("--load 1 --costs-ms 0,0,0,40,1", "--costs-ms 0,0,0,40,1: prefill must take time"),
        ("--load 1 --kv-tokens 500", "--kv-tokens 500: is too little for "),
        ("--load 1 --kv-tokens 1", "--kv-tokens 1: holds none of the workload's requests"),
        ("--load 1 --costs-ms 1e-300,0,0,0,0", "--costs-ms 1e-300,0,0,0,0: prefill must take time"),
    ];
    for (more, words) in cases {
        let line = format!("compare --engine llama2-70b-a100-tp4 {chat} {more} --requests 50");
        let error = try_run(&line).expect_err(&line).to_string();
        assert!(error.contains(words), "{more} gave {error:?}");
    }
    assert!(
        error("--load 1 --trace synthetic:chess")
            .contains("bimodal, chat, code, heavy, mixed, rag, two-peaks, wide")
    );
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
        error.ends_with("bad.csv:3: prompt_tokens \"ten\" is not a whole number from 1 to 100000000"),
        "{error}"
    );
}

/// A workload that cannot be read is refused in words: no name, a device without an end, times that cannot be seconds.
#[test]
fn no_workloads() {
    let words = ["expresslane-sim", "saturation", "--engine", "llama2-70b-a100-tp4", "--trace", ""];
    let unnamed = run(&Cli::try_parse_from(words).unwrap(), &mut Vec::new()).unwrap_err().to_string();
    assert_eq!(unnamed, "a workload \"\": must name a CSV file, or synthetic:MIX[-ARRIVALS]");
    assert_eq!(error("--load 1 --trace /dev/zero"), "/dev/zero: is neither a regular file nor a pipe");
    let path = csv("at-once.csv", (0..3).map(|at| format!("{at}e-320,10,10")));
    let error = error(&format!("--load 1 --trace {}", path.display()));
    assert!(
        error.contains("at-once.csv:4: all arrivals lie within 1e-6 s, but not at one moment"),
        "{error}"
    );
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

/// Recorded runs that cannot be read are refused at once, before any check is made.
#[test]
fn validate_refused() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("no-profiles");
    let line = format!("validate --profiles {}", folder.display());
    let output = program(&line).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("no-profiles/vllm-run-rtx4090") && !error.contains("validate: 1 of"), "{error}");
}

/// `--help` lists the engines, mixes and policies, and says what those are that are not the scheduler's.
#[test]
fn help() {
    let help = refusal("compare --help").split_whitespace().collect::<Vec<_>>().join(" ");
    let parts = [
        "llama2-70b-a100-tp4, llama2-70b-a100-tp8",
        "bimodal, chat, code",
        "poisson, bursts, closed",
        "`passthrough`: everything goes straight to the engine",
        "`cap-fcfs`: the scheduler as a plain cap",
        "edf, fcfs, hrrn, lars, ljf, sjf, sjf-aged",
    ];
    for part in parts {
        assert!(help.contains(part), "{part} is not in {help}");
    }
}

/// What the command line cannot mean is refused before anything is read, in words that say what is allowed: no policy is
/// tuned without its lanes, no number is out of its range, no flag is passed over.
#[test]
fn misused() {
    let cases = [
        ("--no-lanes --budget 4096", "'--no-lanes' cannot be used with"),
        ("--no-lanes --long-lane 2", "'--no-lanes' cannot be used with"),
        ("--no-lanes --long-threshold 2", "'--no-lanes' cannot be used with"),
    ];
    let compare = "compare --trace synthetic:chat --engine x";
    for (more, words) in cases {
        let error = refusal(&format!("{compare} --load 1 {more}"));
        assert!(error.contains(words), "{more} gave {error:?}");
    }
    let numbers = [
        ("--load", "0", "a number from 0.001 to 1000"),
        ("--load", "-1", "a number from 0.001 to 1000"),
        ("--load", "1e300", "a number from 0.001 to 1000"),
        ("--load", "NaN", "a number from 0.001 to 1000"),
        ("--load", "much", "a number from 0.001 to 1000"),
        ("--noise", "-0.5", "a number from 0 to 3"),
        ("--rtt-ms", "1e16", "a number from 0 to 3600000"),
        ("--costs-ms", "-1,2,3,4,5", "a number from 0 to 3600000"),
        ("--costs-ms", "1,0,0,1e300,0", "a number from 0 to 3600000"),
        ("--ttft-deadline", "NaN,2", "a number from 0 to 86400"),
        ("--cap", "0", "a whole number from 1 to 4294967295"),
        ("--cap", "-1", "a whole number from 1 to 4294967295"),
        ("--seeds", "0", "a whole number from 1 to 1000"),
        ("--seeds", "18446744073709551615", "a whole number from 1 to 1000"),
        ("--requests", "1", "a whole number from 2 to 1000000"),
        ("--requests", "4000000000", "a whole number from 2 to 1000000"),
        ("--kv-tokens", "-5", "a whole number from 1 to 18446744073709551615"),
        ("--max-num-seqs", "0", "a whole number from 1 to 4294967295"),
        ("--max-num-batched-tokens", "0", "a whole number from 1 to 4294967295"),
        ("--threshold", "2.5", "a whole number from 0 to 4294967295"),
    ];
    for (flag, value, allowed) in numbers {
        let error = refusal(&format!("{compare} {flag} {value}"));
        let one = value.split(',').find(|one| error.contains(&format!("invalid value '{one}' for '{flag}")));
        assert!(
            one.is_some() && error.contains(&format!(": must be {allowed}")),
            "{flag} {value} gave {error:?}"
        );
    }
    for (more, words) in [
        ("--queued 5", "from 100 to "),
        ("--tenants 0", "from 1 to 100000"),
        ("--plain --queued 1000", "'--plain' cannot be used with '--queued"),
        ("--plain --tenants 1", "'--plain' cannot be used with '--tenants"),
        ("--plain --cycles 1", "'--plain' cannot be used with '--cycles"),
        ("--plain --json", "'--plain' cannot be used with '--json"),
    ] {
        let error = refusal(&format!("core-bench {more}"));
        assert!(error.contains(words), "{more} gave {error:?}");
    }
}
