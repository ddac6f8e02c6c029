//! The command line's arguments, and what they mean.

use crate::Error;
use crate::compare::Choice;
use crate::engine::catalog;
use crate::engine::spec::EngineSpec;
use crate::gate::Limits;
use crate::policy::Contestant;
use crate::source::Source;
use clap::{Args, Parser, Subcommand};
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
    /// The highest rate that an engine sustains on a workload.
    Saturation(SaturationArgs),
    /// Checks against theory and recorded runs: target, ours, tolerance, verdict. Fails when one of them does.
    Validate(ValidateArgs),
    /// Fits an engine's step costs to a recorded vLLM run.
    Fit(FitArgs),
    /// What a prompt costs in the scheduling core on this machine: time per cycle, memory per waiting prompt.
    ///
    /// A cycle is one prompt's whole way: its share of a batch's submit and of the poll after it, first token and poll,
    /// finish and poll; one in ten is cancelled while it waits instead. The queue stays as full as it was, with three
    /// classes, four backends, log-normal lengths and a long lane that is full half the time.
    CoreBench(CoreBenchArgs),
}

#[derive(Args, Debug)]
pub(crate) struct WorkloadArgs {
    /// A CSV file with `arrival_s,prompt_tokens,output_tokens[,prefix_hashes|session]`, or `synthetic:MIX[-ARRIVALS]`:
    /// chat, mixed, wide; poisson, bursts, closed, batch.
    #[arg(long)]
    pub(crate) trace: String,
    /// Requests in a synthetic workload.
    #[arg(long, default_value_t = 4_000)]
    pub(crate) requests: usize,
}

#[derive(Args, Debug)]
pub(crate) struct EngineArgs {
    /// An engine by name.
    #[arg(long)]
    pub(crate) engine: String,
    /// Most tokens of one prompt in an engine's step (vLLM: long-prefill-token-threshold); 0 = no limit.
    #[arg(long, visible_alias = "long-prefill-token-threshold", default_value_t = 0)]
    pub(crate) threshold: u32,
    /// Most sequences that run in the engine at once.
    #[arg(long)]
    pub(crate) max_num_seqs: Option<usize>,
    /// Most tokens in a step of the engine.
    #[arg(long)]
    pub(crate) max_num_batched_tokens: Option<u32>,
    /// Tokens that the engine's KV cache holds.
    #[arg(long)]
    pub(crate) kv_tokens: Option<u64>,
    /// Network time to the engine and back.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) rtt_ms: Option<f64>,
    /// Step costs a,b,c,d,e in milliseconds: prefill a + b n + c n^2, decode d + e batch.
    #[arg(long, value_delimiter = ',', num_args = 1, value_name = "A,B,C,D,E")]
    pub(crate) costs_ms: Option<Vec<f64>>,
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
    /// Offered rate over the engine's saturation rate on this workload; of a closed loop, users over max-num-seqs.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) load: f64,
    /// Policies, by comma: passthrough, cap-fcfs, and the scheduler's.
    #[arg(long, value_delimiter = ',', default_value = "passthrough,cap-fcfs,sjf,sjf-aged,hrrn")]
    pub(crate) policies: Vec<String>,
    /// The scheduler's cap; unless given, what the engine runs at once.
    #[arg(long)]
    pub(crate) cap: Option<u32>,
    /// Most long prompts in prefill; 0 = no limit; unless given, what follows from the engine's step and chunk.
    #[arg(long)]
    pub(crate) long_lane: Option<u32>,
    /// A prompt of more tokens goes into the long lane; 0 = none does.
    #[arg(long)]
    pub(crate) long_threshold: Option<u32>,
    /// Most tokens of short prompts in prefill; 0 = no limit; unless given, learned.
    #[arg(long)]
    pub(crate) budget: Option<u32>,
    /// Switches the scheduler's lanes off.
    #[arg(long)]
    pub(crate) no_lanes: bool,
    /// Runs with so many different seeds.
    #[arg(long, default_value_t = 5)]
    pub(crate) seeds: u64,
    /// Sigma of the log-normal noise on what the scheduler is told of lengths; 0 = none.
    #[arg(long, num_args = 0..=1, default_value_t = 0.3, default_missing_value = "0.3", allow_negative_numbers = true)]
    pub(crate) noise: f64,
    /// Prompts of at most so many tokens are reported as short.
    #[arg(long, default_value_t = 4_096)]
    pub(crate) short: u32,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ValidateArgs {
    /// The folder with the recorded vLLM runs; without it their checks are skipped.
    #[arg(long, default_value = "../shared/profiles")]
    pub(crate) profiles: PathBuf,
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
    #[arg(long, value_delimiter = ',', default_value = "1000,100000,1000000")]
    pub(crate) queued: Vec<usize>,
    /// For how many tenants, by comma.
    #[arg(long, value_delimiter = ',', default_value = "1,1000")]
    pub(crate) tenants: Vec<usize>,
    /// Cycles in each of the seven rounds; unless given, 100,000.
    #[arg(long)]
    pub(crate) cycles: Option<usize>,
    /// One class, one tenant and no cancels at 100,000 instead, under several policies: one line of JSON.
    #[arg(long)]
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
        if let Some(tokens) = self.max_num_batched_tokens {
            if tokens < self.threshold {
                let rule = format!("is below one chunk (--threshold {})", self.threshold);
                return Err(Error::value("--max-num-batched-tokens", &tokens, rule));
            }
            spec.max_num_batched_tokens = tokens;
        }
        spec.check()?;
        Ok(spec)
    }
}

impl CompareArgs {
    pub(crate) fn choice(&self) -> Result<Choice, Error> {
        let engine = self.engine.spec()?;
        let contestants = self.policies.iter().map(|name| Contestant::named(name.trim()));
        let contestants = contestants.collect::<Result<Vec<_>, _>>()?;
        if let Some(budget) = self.budget.filter(|budget| (1..engine.chunk()).contains(budget)) {
            let rule = format!("is below one chunk of the engine ({} tokens); 0 = no limit", engine.chunk());
            return Err(Error::value("--budget", &budget, rule));
        }
        let defaults = Limits::defaults(&engine);
        let limits = Limits {
            cap: self.cap.unwrap_or(defaults.cap),
            lanes: defaults.lanes && !self.no_lanes,
            long_lane: self.long_lane.or(defaults.long_lane),
            long_threshold_tokens: self.long_threshold.unwrap_or(defaults.long_threshold_tokens),
            short_budget_tokens: self.budget.or(defaults.short_budget_tokens),
        };
        Ok(Choice {
            source: Source::open(&self.workload.trace, self.workload.requests)?,
            trace: self.workload.trace.clone(),
            engine,
            limits,
            contestants,
            load: self.load,
            seeds: self.seeds,
            noise_sigma: self.noise,
            short_tokens: self.short,
        })
    }
}
