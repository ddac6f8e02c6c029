//! One row of a comparison: what a policy did to a workload, over all seeds.

use crate::engine::spec::EngineSpec;
use crate::statistics::{jain, mean, overtakes_max, quantile};
use crate::workload::{Request, Workload};
use crate::world::{Record, Run};
use serde::Serialize;

/// Samples of all seeds are pooled; makespan and Jain's index are means over the seeds. Null: there was none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) policy: &'static str,
    pub(crate) ttft_mean_s: Option<f64>,
    pub(crate) ttft_p50_s: Option<f64>,
    pub(crate) ttft_p99_s: Option<f64>,
    pub(crate) short_ttft_p50_s: Option<f64>,
    pub(crate) short_ttft_p99_s: Option<f64>,
    pub(crate) long_ttft_p50_s: Option<f64>,
    pub(crate) long_ttft_p99_s: Option<f64>,
    pub(crate) long_ttft_max_s: Option<f64>,
    /// Time to first token over that of the prompt alone.
    pub(crate) slowdown_p99: Option<f64>,
    /// Time per output token after the first.
    pub(crate) tpot_p99_s: Option<f64>,
    /// First arrival to last token.
    pub(crate) makespan_s: Option<f64>,
    pub(crate) completed: usize,
    pub(crate) rejected: usize,
    /// Over tenants, where the workload has any, else over requests: of mean 1 / slowdown.
    pub(crate) jain: Option<f64>,
    /// By first token.
    pub(crate) overtakes_max: u64,
}

/// Samples of one policy.
#[derive(Default)]
pub(crate) struct Samples {
    short_s: Vec<f64>,
    long_s: Vec<f64>,
    slowdowns: Vec<f64>,
    tpots_s: Vec<f64>,
    makespans_s: Vec<f64>,
    jains: Vec<f64>,
    rejected: usize,
    overtakes_max: u64,
}

impl Samples {
    /// One run's.
    pub(crate) fn of(workload: &Workload, run: &Run, engine: &EngineSpec, short_tokens: u32) -> Self {
        let mut samples = Self::default();
        samples.add(workload, run, engine, short_tokens);
        samples
    }

    pub(crate) fn append(&mut self, mut of: Self) {
        self.short_s.append(&mut of.short_s);
        self.long_s.append(&mut of.long_s);
        self.slowdowns.append(&mut of.slowdowns);
        self.tpots_s.append(&mut of.tpots_s);
        self.makespans_s.append(&mut of.makespans_s);
        self.jains.append(&mut of.jains);
        self.rejected += of.rejected;
        self.overtakes_max = self.overtakes_max.max(of.overtakes_max);
    }

    fn add(&mut self, workload: &Workload, run: &Run, engine: &EngineSpec, short_tokens: u32) {
        let mut turns = Vec::with_capacity(run.records.len());
        let mut speeds = vec![(0.0, 0_u32); workload.tenants as usize];
        let mut done_ns = 0;
        for (request, record) in workload.requests.iter().zip(&run.records) {
            if record.rejected {
                self.rejected += 1;
                continue;
            }
            let slowdown = self.add_request(request, record, engine, short_tokens);
            turns.push((record.arrival_ns, record.first_token_ns));
            done_ns = done_ns.max(record.done_ns);
            if workload.tenants == 0 {
                speeds.push((slowdown.recip(), 1));
            } else {
                let (sum, count) = &mut speeds[request.tenant as usize];
                (*sum, *count) = (*sum + slowdown.recip(), *count + 1);
            }
        }
        turns.sort_unstable();
        self.overtakes_max = self.overtakes_max.max(overtakes_max(&turns));
        if let Some((first_ns, _)) = turns.first() {
            self.makespans_s.push((done_ns - first_ns) as f64 / 1e9);
        }
        speeds.retain(|speed| speed.1 > 0);
        let shares: Vec<f64> = speeds.iter().map(|(sum, count)| sum / f64::from(*count)).collect();
        self.jains.push(jain(&shares));
    }

    /// Returns its slowdown.
    fn add_request(
        &mut self,
        request: &Request,
        record: &Record,
        engine: &EngineSpec,
        short_tokens: u32,
    ) -> f64 {
        let ttft_s = record.ttft_s();
        let is_short = request.prompt_tokens <= short_tokens;
        if is_short { &mut self.short_s } else { &mut self.long_s }.push(ttft_s);
        if request.output_tokens > 1 {
            self.tpots_s.push((record.total_s() - ttft_s) / f64::from(request.output_tokens - 1));
        }
        let slowdown = ttft_s / engine.isolated_ttft_s(request.prompt_tokens);
        self.slowdowns.push(slowdown);
        slowdown
    }

    pub(crate) fn row(self, policy: &'static str) -> Row {
        let sorted = |mut samples: Vec<f64>| {
            samples.sort_by(f64::total_cmp);
            samples
        };
        let all = sorted([self.short_s.as_slice(), &self.long_s].concat());
        let (short, long) = (sorted(self.short_s), sorted(self.long_s));
        Row {
            policy,
            ttft_mean_s: mean(&all),
            ttft_p50_s: quantile(&all, 0.5),
            ttft_p99_s: quantile(&all, 0.99),
            short_ttft_p50_s: quantile(&short, 0.5),
            short_ttft_p99_s: quantile(&short, 0.99),
            long_ttft_p50_s: quantile(&long, 0.5),
            long_ttft_p99_s: quantile(&long, 0.99),
            long_ttft_max_s: long.last().copied(),
            slowdown_p99: quantile(&sorted(self.slowdowns), 0.99),
            tpot_p99_s: quantile(&sorted(self.tpots_s), 0.99),
            makespan_s: mean(&self.makespans_s),
            completed: all.len(),
            rejected: self.rejected,
            jain: mean(&self.jains),
            overtakes_max: self.overtakes_max,
        }
    }
}
