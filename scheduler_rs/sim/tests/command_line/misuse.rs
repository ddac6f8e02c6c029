//! What no command takes: workloads that cannot be read, options that mean nothing; and what help says.

use crate::{csv, error, file, refusal, try_run};
use clap::Parser;
use expresslane_sim::{Cli, run};

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
    let mixes = "bimodal, chat, code, documents-half, documents-1, documents-2, heavy, mixed, papers, rag, two-peaks, wide";
    assert!(error("--load 1 --trace synthetic:chess").contains(mixes));
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
