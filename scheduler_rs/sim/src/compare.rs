//! A comparison: the same seeded workloads under each policy.

use crate::Error;
use crate::engine::spec::EngineSpec;
use crate::gate::Limits;
use crate::parallel;
use crate::policy::Contestant;
use crate::progress;
use crate::row::{Row, Samples};
use crate::saturation::Saturation;
use crate::source::Source;
use crate::workload::deadlines::Deadlines;
use crate::world;
use serde::Serialize;
use std::ops::RangeInclusive;

/// Outside of these arrivals are all alike: each alone, or all at once.
pub(crate) const LOADS: RangeInclusive<f64> = 1e-3..=1e3;
/// What is seen of all seeds is held in memory.
pub(crate) const SEEDS_MAX: u64 = 1_000;
pub(crate) const NOISE_SIGMA_MAX: f64 = 3.0;

/// Everything that a comparison depends on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Conditions {
    /// Always true: what a modelled engine gives, not a real one.
    pub(crate) simulated: bool,
    pub(crate) trace: String,
    /// In each seed's run.
    pub(crate) requests: usize,
    pub(crate) short_requests: usize,
    pub(crate) short_tokens: u32,
    pub(crate) seeds: u64,
    pub(crate) first_seed: u64,
    pub(crate) noise_sigma: f64,
    pub(crate) jitter_s: f64,
    pub(crate) load: f64,
    pub(crate) saturation: Saturation,
    /// `load` times the saturation's rate; of a closed loop only the users count.
    pub(crate) offered_requests_per_s: f64,
    pub(crate) closed_loop_users: usize,
    pub(crate) engine: EngineSpec,
    /// Of the scheduler; `cap-fcfs` has the cap alone.
    pub(crate) limits: Limits,
    /// For the policies that go by them.
    pub(crate) ttft_deadlines: Deadlines,
    pub(crate) prefill_tokens_per_s: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Comparison {
    pub(crate) conditions: Conditions,
    pub(crate) rows: Vec<Row>,
}

/// What the user chose, in numbers that the command line has checked.
#[derive(Clone)]
pub(crate) struct Choice {
    pub(crate) trace: String,
    pub(crate) source: Source,
    pub(crate) engine: EngineSpec,
    pub(crate) limits: Limits,
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) load: f64,
    pub(crate) deadlines: Deadlines,
    pub(crate) seeds: u64,
    pub(crate) first_seed: u64,
    pub(crate) noise_sigma: f64,
    pub(crate) short_tokens: u32,
}

impl Choice {
    /// Each contestant's over all seeds.
    fn samples(&self, per_s: f64, users: usize) -> Result<Vec<Samples>, Error> {
        let seeds: Vec<u64> = (0..self.seeds).map(|at| self.first_seed.wrapping_add(at)).collect();
        let of_seed = |seed: &u64| {
            let mut workload = self.source.seeded(*seed, per_s, users, self.noise_sigma);
            self.deadlines.apply(&mut workload, self.short_tokens);
            let of = |contestant| {
                let run = world::run(&workload, &self.engine, contestant, &self.limits)?;
                Ok(Samples::of(&workload, &run, &self.engine, self.short_tokens))
            };
            self.contestants.iter().map(of).collect::<Result<Vec<_>, Error>>()
        };
        let mut pooled: Vec<Samples> = self.contestants.iter().map(|_| Samples::default()).collect();
        for samples in parallel::map(&self.trace, &seeds, of_seed) {
            pooled.iter_mut().zip(samples?).for_each(|(pooled, samples)| pooled.append(samples));
        }
        Ok(pooled)
    }

    pub(crate) fn run(&self) -> Result<Comparison, Error> {
        self.engine.check()?;
        let typical = self.source.typical();
        progress::show(&format!("{}: the saturation rate", self.trace));
        let saturation = Saturation::measure(&typical, &self.engine);
        progress::clear();
        let saturation = saturation?;
        let per_s = self.load * saturation.requests_per_s;
        let users = ((self.load * self.engine.max_num_seqs as f64).round() as usize).max(1);
        let samples = self.samples(per_s, users)?;
        let rows = self.contestants.iter().zip(samples).map(|(of, samples)| samples.row(of.name()));
        let short = typical.requests.iter().filter(|request| request.prompt_tokens <= self.short_tokens);
        Ok(Comparison {
            conditions: Conditions {
                simulated: true,
                trace: self.trace.clone(),
                requests: typical.requests.len(),
                short_requests: short.count(),
                short_tokens: self.short_tokens,
                seeds: self.seeds,
                first_seed: self.first_seed,
                noise_sigma: self.noise_sigma,
                jitter_s: self.source.jitter_s(),
                load: self.load,
                saturation,
                offered_requests_per_s: per_s,
                closed_loop_users: users,
                engine: self.engine.clone(),
                limits: self.limits,
                ttft_deadlines: self.deadlines,
                prefill_tokens_per_s: self.engine.prefill_tokens_per_s(),
            },
            rows: rows.collect(),
        })
    }
}
