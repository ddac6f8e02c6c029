//! The command line's arguments, and what they mean.

mod help;
mod numbers;

use crate::Error;
use crate::compare::{Choice, LOADS, NOISE_SIGMA_MAX, SEEDS_MAX};
use crate::core_bench::{CYCLES_MAX, QUEUED_MAX, QUEUED_MIN, TENANTS_MAX};
use crate::engine::catalog;
use crate::engine::spec::{EngineSpec, MS_MAX};
use crate::gate::{Limits, Told};
use crate::harm;
use crate::policy::Contestant;
use crate::report::Report;
use crate::source::Source;
use crate::workload::deadlines::Deadlines;
use crate::workload::synthetic::REQUESTS_MAX;
use clap::{Args, Parser, Subcommand};
use numbers::{real, whole};
use std::path::PathBuf;

/// Drives the scheduler against modelled engines.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The same workload under several policies: a row each.
    Compare(CompareArgs),
    /// Figures and tables of workloads at several loads and caps, as a folder of files.
    Report(ReportArgs),
    /// The highest rate that an engine sustains on a workload.
    Saturation(SaturationArgs),
    /// Checks against theory and recorded runs: target, ours, tolerance, verdict. Fails when one of them does.
    Validate(ValidateArgs),
    /// What the default settings are held to: no harm to made-up workloads, nor to recorded ones. Fails when it is broken.
    ///
    /// Each line is a ratio to pass-through. Where ordering is known to lose, the line says so; it may not lose more.
    Harm(HarmArgs),
    /// Fits an engine's step costs to a recorded vLLM run.
    Fit(FitArgs),
    /// What a prompt costs in the scheduling core on this machine: time per cycle, memory per waiting prompt.
    ///
    /// A cycle is one prompt's whole way: its share of a batch's submit and of the poll after it, first token and poll,
    /// finish and poll; one in ten is cancelled while it waits instead. The queue stays as full as it was, with three
    /// classes, four backends and log-normal lengths. For half the time the backends' long lanes are held full, one
    /// prompt without a first token in each, so that all long prompts that wait are passed over: `long_lane_full` is the
    /// share measured.
    ///
    /// `bytes_per_ticket` is the heap that all tickets add, for each, where their batches and tenants are known: to a
    /// core with those batches open, one prompt waiting in each. `bytes_total_per_ticket` is what they add to a core
    /// that knows only its backends, so that it counts batches, tenants and flows too: most where each tenant has one
    /// prompt. `bytes_fixed` is what such a core takes by itself.
    CoreBench(CoreBenchArgs),
}

/// What is compared unless the user says otherwise.
const POLICIES: &str = "passthrough,cap-fcfs,sjf,sjf-aged,hrrn,lars,edf";
const NOISE_SIGMA: f64 = 0.3;
const SHORT_TOKENS: u32 = 4_096;
pub(crate) const SEEDS: u64 = 5;
pub(crate) const REQUESTS: usize = 4_000;

#[derive(Args, Debug)]
pub(crate) struct WorkloadArgs {
    #[arg(long, help = help::workload())]
    pub(crate) trace: String,
    /// Requests in a synthetic workload, at most a million.
    #[arg(long, default_value_t = REQUESTS, value_parser = whole(2..=REQUESTS_MAX), allow_negative_numbers = true)]
    pub(crate) requests: usize,
}

#[derive(Args, Debug)]
pub(crate) struct EngineArgs {
    #[arg(long, help = help::engine())]
    pub(crate) engine: String,
    /// Most tokens of one prompt in an engine's step (vLLM: long-prefill-token-threshold); 0 = no limit.
    #[arg(
        long,
        visible_alias = "long-prefill-token-threshold",
        default_value_t = 0,
        value_parser = whole(0..=u32::MAX),
        allow_negative_numbers = true
    )]
    pub(crate) threshold: u32,
    /// Most sequences that run in the engine at once.
    #[arg(long, value_parser = whole(1..=u32::MAX as usize), allow_negative_numbers = true)]
    pub(crate) max_num_seqs: Option<usize>,
    /// Most tokens in a step of the engine.
    #[arg(long, value_parser = whole(1..=u32::MAX), allow_negative_numbers = true)]
    pub(crate) max_num_batched_tokens: Option<u32>,
    /// Tokens that the engine's KV cache holds.
    #[arg(long, value_parser = whole(1..=u64::MAX), allow_negative_numbers = true)]
    pub(crate) kv_tokens: Option<u64>,
    /// Network time to the engine and back, at most an hour.
    #[arg(long, value_parser = real(0.0..=MS_MAX), allow_negative_numbers = true)]
    pub(crate) rtt_ms: Option<f64>,
    /// Step costs a,b,c,d,e in milliseconds: prefill a + b n + c n^2, decode d + e batch; an hour
    /// each at most.
    #[arg(long, value_delimiter = ',', num_args = 1, value_name = "A,B,C,D,E", value_parser = real(0.0..=MS_MAX), allow_hyphen_values = true)]
    pub(crate) costs_ms: Option<Vec<f64>>,
}

#[derive(Args, Debug)]
struct SeedArgs {
    /// Runs with so many different seeds.
    #[arg(long, default_value_t = SEEDS, value_parser = whole(1..=SEEDS_MAX), allow_negative_numbers = true)]
    seeds: u64,
    /// The first seed; the others follow it.
    #[arg(long, default_value_t = 1, value_parser = whole(0..=u64::MAX), allow_negative_numbers = true)]
    first_seed: u64,
}

#[derive(Args, Debug)]
pub(crate) struct SaturationArgs {
    #[command(flatten)]
    pub(crate) workload: WorkloadArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) workload: WorkloadArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Offered rate over the engine's saturation rate on this workload; of a closed loop, users over max-num-seqs. From
    /// 0.001 to 1000.
    #[arg(long, value_parser = real(LOADS), allow_negative_numbers = true)]
    pub(crate) load: f64,
    #[arg(long, value_delimiter = ',', default_value = POLICIES, help = help::policies())]
    pub(crate) policies: Vec<String>,
    /// The scheduler's cap; unless given, what the engine runs at once.
    #[arg(long, value_parser = whole(1..=u32::MAX), allow_negative_numbers = true)]
    pub(crate) cap: Option<u32>,
    /// Most long prompts in prefill; 0 = no limit; unless given, what follows from the short ones in prefill and
    /// from the engine's step and chunk.
    #[arg(long, value_parser = whole(0..=u32::MAX), allow_negative_numbers = true)]
    pub(crate) long_lane: Option<u32>,
    /// A prompt of more tokens goes into the long lane; 0 = none does.
    #[arg(long, value_parser = whole(0..=u32::MAX), allow_negative_numbers = true)]
    pub(crate) long_threshold: Option<u32>,
    /// Most tokens of short prompts in prefill; 0 = no limit; unless given, learned.
    #[arg(long, value_parser = whole(0..=u32::MAX), allow_negative_numbers = true)]
    pub(crate) budget: Option<u32>,
    /// What the scheduler is told of the engine's step and, by comma, its chunk (`ENGINE_STEP_TOKENS`,
    /// `ENGINE_CHUNK_TOKENS`); 0 = nothing; unless given, the truth.
    #[arg(long, value_name = "STEP[,CHUNK]", allow_hyphen_values = true)]
    pub(crate) told: Option<String>,
    /// Switches the scheduler's lanes off.
    #[arg(long, conflicts_with_all = ["long_lane", "long_threshold", "budget"])]
    pub(crate) no_lanes: bool,
    /// Between whom the scheduler shares the engine: none, tenant, `tenant_batch`; unless given, the scheduler's default
    /// for a trace with tenants, and none for one with sessions, which may be conversations.
    #[arg(long)]
    pub(crate) fairness: Option<String>,
    /// For lars and edf: the first token is wanted within so many seconds, for all prompts or for short and for long
    /// ones (SHORT,LONG); 0 = no deadline.
    #[arg(long, value_delimiter = ',', num_args = 1, value_name = "SECONDS", value_parser = real(0.0..=Deadlines::MOST_S), allow_hyphen_values = true)]
    pub(crate) ttft_deadline: Option<Vec<f64>>,
    #[command(flatten)]
    seeds: SeedArgs,
    /// Sigma of the log-normal noise on what the scheduler is told of lengths; 0 = none.
    #[arg(long, num_args = 0..=1, default_value_t = NOISE_SIGMA, default_missing_value = "0.3", value_parser = real(0.0..=NOISE_SIGMA_MAX), allow_negative_numbers = true)]
    pub(crate) noise: f64,
    /// Prompts of at most so many tokens are reported as short.
    #[arg(long, default_value_t = SHORT_TOKENS, value_parser = whole(0..=u32::MAX), allow_negative_numbers = true)]
    pub(crate) short: u32,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// Workloads: CSV files or `synthetic:MIX[-ARRIVALS]`, as for compare.
    #[arg(required = true)]
    traces: Vec<String>,
    /// The folder for the files; it is made if there is none.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// With the figure of two tenants that share an engine.
    #[arg(long)]
    tenants: bool,
    /// The heading.
    #[arg(long, default_value = "Scheduling, compared")]
    title: String,
    #[arg(long, default_value = "llama2-70b-a100-tp4", help = help::engine())]
    engine: String,
    /// The engine's chunk thresholds: every workload is reported for each; 0 = none.
    #[arg(long, value_delimiter = ',', default_value = "0,512", value_parser = whole(0..=u32::MAX), allow_hyphen_values = true)]
    thresholds: Vec<u32>,
    /// Runs with so many different seeds.
    #[arg(long, default_value_t = SEEDS, value_parser = whole(1..=SEEDS_MAX), allow_negative_numbers = true)]
    seeds: u64,
    /// Requests in a synthetic workload, at most a million.
    #[arg(long, default_value_t = REQUESTS, value_parser = whole(2..=REQUESTS_MAX), allow_negative_numbers = true)]
    requests: usize,
}

#[derive(Args, Debug)]
pub(crate) struct HarmArgs {
    /// Recorded workloads, CSV files as for compare, beside the made-up ones.
    traces: Vec<String>,
    #[arg(long, default_value = "llama2-70b-a100-tp4", help = help::engine())]
    engine: String,
    /// Requests in a synthetic workload, at most a million.
    #[arg(long, default_value_t = REQUESTS, value_parser = whole(2..=REQUESTS_MAX), allow_negative_numbers = true)]
    requests: usize,
    #[command(flatten)]
    seeds: SeedArgs,
    /// What the scheduler is told of the engine's step and chunk in all cases, true or not; limits of what is known are
    /// for what it is told otherwise.
    #[arg(long, value_name = "STEP[,CHUNK]", allow_hyphen_values = true)]
    told: Option<String>,
    /// JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ValidateArgs {
    /// The folder with the recorded vLLM runs, without which their checks are skipped.
    #[arg(long, value_name = "DIR")]
    pub(crate) profiles: Option<PathBuf>,
    /// JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct FitArgs {
    /// A recorded run: a JSON object a line.
    #[arg(long)]
    pub(crate) run: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct CoreBenchArgs {
    /// How many prompts wait, by comma.
    #[arg(long, value_delimiter = ',', default_value = "1000,100000,1000000", value_parser = whole(QUEUED_MIN..=QUEUED_MAX), allow_hyphen_values = true)]
    pub(crate) queued: Vec<usize>,
    /// For how many tenants, by comma.
    #[arg(long, value_delimiter = ',', default_value = "1,1000", value_parser = whole(1..=TENANTS_MAX), allow_hyphen_values = true)]
    pub(crate) tenants: Vec<u32>,
    /// Cycles in each of the fifteen rounds; unless given, 100,000.
    #[arg(long, value_parser = whole(1..=CYCLES_MAX), allow_negative_numbers = true)]
    pub(crate) cycles: Option<usize>,
    /// One class, one tenant and no cancels at 100,000 instead, under several policies: one line of JSON.
    #[arg(long, conflicts_with_all = ["queued", "tenants", "cycles", "json"])]
    pub(crate) plain: bool,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

impl EngineArgs {
    pub(crate) fn spec(&self) -> Result<EngineSpec, Error> {
        let mut spec = catalog::engine(&self.engine)?;
        spec.long_prefill_token_threshold = self.threshold;
        if let Some(costs) = &self.costs_ms {
            spec.cost = costs.as_slice().try_into()?;
        }
        spec.max_num_seqs = self.max_num_seqs.unwrap_or(spec.max_num_seqs);
        spec.kv_tokens = self.kv_tokens.unwrap_or(spec.kv_tokens);
        spec.rtt_ms = self.rtt_ms.unwrap_or(spec.rtt_ms);
        spec.max_num_batched_tokens = self.max_num_batched_tokens.unwrap_or(spec.max_num_batched_tokens);
        spec.check()?;
        Ok(spec)
    }
}

impl ReportArgs {
    pub(crate) fn report(&self) -> Result<Report, Error> {
        let contestants = POLICIES.split(',').map(Contestant::named).collect::<Result<Vec<_>, _>>()?;
        let mut choices = Vec::new();
        for trace in &self.traces {
            let source = Source::open(trace, self.requests)?;
            for &threshold in &self.thresholds {
                let engine = catalog::engine(&self.engine)?;
                let engine = EngineSpec { long_prefill_token_threshold: threshold, ..engine };
                let choice = with_defaults(trace, &source, engine, &contestants);
                choices.push(Choice { seeds: self.seeds, ..choice });
            }
        }
        let report = Report { choices, title: self.title.clone(), with_tenants: self.tenants };
        report.check()?;
        Ok(report)
    }
}

impl HarmArgs {
    pub(crate) fn choices(&self) -> Result<Vec<Choice>, Error> {
        let contestants =
            harm::CONTESTANTS.map(Contestant::named).into_iter().collect::<Result<Vec<_>, _>>()?;
        let always = self.told.as_deref().map(told).transpose()?;
        let made_up = harm::MADE_UP.map(|name| format!("synthetic:{name}"));
        let mut choices = Vec::new();
        for trace in made_up.iter().chain(&self.traces) {
            let source = Source::open(trace, self.requests)?;
            for setting in harm::SETTINGS {
                let engine = catalog::engine(&self.engine)?;
                let engine = EngineSpec { long_prefill_token_threshold: setting.chunk(), ..engine };
                let mut choice = with_defaults(trace, &source, engine, &contestants);
                choice.limits.told = always.unwrap_or_else(|| setting.told(&choice.engine));
                choices.push(Choice { seeds: self.seeds.seeds, first_seed: self.seeds.first_seed, ..choice });
            }
        }
        Ok(choices)
    }
}

/// What nobody has chosen otherwise; the load is to be chosen.
fn with_defaults(trace: &str, source: &Source, engine: EngineSpec, contestants: &[Contestant]) -> Choice {
    Choice {
        trace: trace.to_owned(),
        source: source.clone(),
        limits: Limits { fairness: source.fairness(), ..Limits::defaults(&engine) },
        engine,
        contestants: contestants.to_vec(),
        load: 1.0,
        deadlines: Deadlines::DEFAULT,
        seeds: SEEDS,
        first_seed: 1,
        noise_sigma: NOISE_SIGMA,
        short_tokens: SHORT_TOKENS,
    }
}

fn told(given: &str) -> Result<Told, Error> {
    let tokens: Option<Vec<u32>> = given.split(',').map(|part| part.parse().ok()).collect();
    let told = match tokens.as_deref() {
        Some(&[step_tokens]) => Told { step_tokens, chunk_tokens: 0 },
        Some(&[step_tokens, chunk_tokens]) => Told { step_tokens, chunk_tokens },
        _ => return Err(Error::value("--told", &given, "must be STEP or STEP,CHUNK")),
    };
    if told.chunk_tokens > told.step_tokens {
        let rule =
            format!("the chunk must be at most the step ({}), which must then be given", told.step_tokens);
        return Err(Error::value("--told", &given, rule));
    }
    Ok(told)
}

impl CompareArgs {
    pub(crate) fn choice(&self) -> Result<Choice, Error> {
        let engine = self.engine.spec()?;
        let contestants = self.policies.iter().map(|name| Contestant::named(name.trim()));
        let contestants = contestants.collect::<Result<Vec<_>, _>>()?;
        let twice = contestants.iter().enumerate().find(|(at, of)| contestants[..*at].contains(of));
        if let Some((_, twice)) = twice {
            return Err(Error::value("--policies", &twice.name(), "is there twice"));
        }
        if let Some(budget) = self.budget.filter(|budget| (1..engine.chunk()).contains(budget)) {
            let rule = format!("is below one chunk of the engine ({} tokens); 0 = no limit", engine.chunk());
            return Err(Error::value("--budget", &budget, rule));
        }
        let defaults = Limits::defaults(&engine);
        let told = self.told.as_deref().map_or(Ok(defaults.told), told)?;
        let source = Source::open(&self.workload.trace, self.workload.requests)?;
        let limits = Limits {
            cap: self.cap.unwrap_or(defaults.cap),
            lanes: defaults.lanes && !self.no_lanes,
            long_lane: self.long_lane.or(defaults.long_lane),
            long_threshold_tokens: self.long_threshold.unwrap_or(defaults.long_threshold_tokens),
            short_budget_tokens: self.budget.or(defaults.short_budget_tokens),
            told,
            fairness: self.fairness.as_deref().map_or(Ok(source.fairness()), str::parse)?,
        };
        let deadlines = self.ttft_deadline.as_deref();
        Ok(Choice {
            source,
            trace: self.workload.trace.clone(),
            engine,
            limits,
            contestants,
            load: self.load,
            deadlines: deadlines.map_or(Ok(Deadlines::DEFAULT), Deadlines::from_seconds)?,
            seeds: self.seeds.seeds,
            first_seed: self.seeds.first_seed,
            noise_sigma: self.noise,
            short_tokens: self.short,
        })
    }
}
