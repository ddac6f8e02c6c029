//! Doing what the command line says.

use crate::cli::{Cli, Command, CompareArgs, ReportArgs, SaturationArgs};
use crate::core_bench::{core_bench, plain};
use crate::saturation::Saturation;
use crate::source::Source;
use crate::{Error, fit, harm, table, validate};
use serde::Serialize;
use std::io::Write;

/// Writes the result to `out`; false when a check failed.
pub fn run(cli: &Cli, out: &mut impl Write) -> Result<bool, Error> {
    match &cli.command {
        Command::Compare(args) => compare(args, out)?,
        Command::Saturation(args) => saturation(args, out)?,
        Command::Report(args) => report(args, out)?,
        Command::Fit(args) => write_json(&fit::fit(&args.run)?, out)?,
        Command::CoreBench(args) if args.plain => plain(out)?,
        Command::CoreBench(args) => core_bench(args, out)?,
        Command::Harm(args) => {
            let checks = harm::checks(&args.choices()?)?;
            if args.json {
                write_json(&checks, out)?;
            } else {
                write!(out, "{}", table::render(&checks))?;
                writeln!(out, "SIMULATED  {}", harm::summary(&checks))?;
            }
            return Ok(checks.iter().all(harm::Check::is_sound));
        }
        Command::Validate(args) => {
            let checks = validate::checks(args.profiles.as_deref())?;
            if args.json {
                write_json(&checks, out)?;
            } else {
                write!(out, "{}", table::render(&checks))?;
                writeln!(out, "{}", validate::summary(&checks))?;
            }
            return Ok(checks.iter().all(validate::Check::is_sound));
        }
    }
    Ok(true)
}

fn compare(args: &CompareArgs, out: &mut impl Write) -> Result<(), Error> {
    let comparison = args.choice()?.run()?;
    if args.json {
        return write_json(&comparison, out);
    }
    let conditions = &comparison.conditions;
    writeln!(
        out,
        "SIMULATED  {}: {} requests x {} seeds at {}/s, load {} of saturation {}/s on {}",
        conditions.trace,
        conditions.requests,
        conditions.seeds,
        rate(conditions.offered_requests_per_s),
        conditions.load,
        rate(conditions.saturation.requests_per_s),
        conditions.engine.name,
    )?;
    write!(out, "{}", table::render(&comparison.rows))?;
    Ok(())
}

/// With four digits that count, however slow the engine is.
fn rate(per_s: f64) -> String {
    if per_s < 0.01 { format!("{per_s:.3e}") } else { format!("{per_s:.4}") }
}

fn saturation(args: &SaturationArgs, out: &mut impl Write) -> Result<(), Error> {
    let engine = args.engine.spec()?;
    let source = Source::open(&args.workload.trace, args.workload.requests)?;
    eprintln!("saturation: {} on {}", args.workload.trace, engine.name);
    let saturation = Saturation::measure(&source.typical(), &engine)?;
    if args.json {
        return write_json(&saturation, out);
    }
    write!(out, "{}", table::render(&[saturation]))?;
    Ok(())
}

fn report(args: &ReportArgs, out: &mut impl Write) -> Result<(), Error> {
    for name in args.report()?.write(&args.out)? {
        writeln!(out, "{}", args.out.join(name).display())?;
    }
    Ok(())
}

fn write_json(value: &impl Serialize, out: &mut impl Write) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).expect("results are plain data");
    writeln!(out, "{text}")?;
    Ok(())
}
