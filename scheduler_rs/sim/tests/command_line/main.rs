//! The command line from end to end, a file for each command: what it prints for good input and how it refuses bad input.

mod compare;
mod core_bench;
mod harm;
mod misuse;
mod report;
mod saturation;
mod validate;

use clap::Parser;
use expresslane_sim::{Cli, Error, run};
use std::path::PathBuf;
use std::process::Command;

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
