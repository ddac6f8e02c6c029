//! The command line of the simulator.

use clap::Parser;
use expresslane_sim::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    match expresslane_sim::run(&Cli::parse(), &mut std::io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("expresslane-sim: {error}");
            ExitCode::from(2)
        }
    }
}
