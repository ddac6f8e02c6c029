//! Mean waits of a single server against Pollaczek-Khinchine (first come, first served) and Cobham (priorities).

use super::Check;
use crate::Error;
use crate::engine::catalog;
use crate::engine::spec::EngineSpec;
use crate::gate::Limits;
use crate::policy::Contestant;
use crate::workload::{Request, Workload, rng};
use crate::world;
use rand::RngExt;
use rand_distr::{Distribution, Exp1};

/// Utilisations, and how many requests each is measured on, in runs of [`RUN`].
pub(super) const FULL: [(f64, u64); 4] = [(0.3, 400_000), (0.6, 400_000), (0.8, 1_200_000), (0.9, 4_000_000)];
const RUN: u64 = 400_000;
const TOLERANCE: f64 = 0.03;

/// Prompt tokens, class and probability: service times with a squared variation of about 1.
const KINDS: [(u32, u32, f64); 3] = [(300, 0, 0.5), (2_000, 1, 0.3), (6_000, 2, 0.2)];

/// One prompt at a time, each in a single step, and no network: the service time is the prefill's `a + b n + c n^2`.
fn single_server() -> Result<EngineSpec, Error> {
    let engine = catalog::engine("llama2-70b-a100-tp4")?;
    Ok(EngineSpec { max_num_seqs: 1, max_num_batched_tokens: 65_536, rtt_ms: 0.0, ..engine })
}

/// Mean wait of each kind.
fn mean_waits(utilisation: f64, requests: u64, with_classes: bool) -> Result<[f64; 3], Error> {
    let engine = single_server()?;
    let per_s = utilisation / KINDS.iter().map(|kind| kind.2 * engine.isolated_ttft_s(kind.0)).sum::<f64>();
    let (mut sums, mut counts) = ([0.0; 3], [0_u64; 3]);
    for seed in 0..requests.div_ceil(RUN) {
        let mut rng = rng(seed, 21);
        let mut at_s = 0.0;
        let mut kinds = Vec::new();
        let requests = (0..requests.min(RUN)).map(|_| {
            let gap_s: f64 = Exp1.sample(&mut rng);
            at_s += gap_s / per_s;
            let draw = rng.random::<f64>();
            let kind = usize::from(draw >= KINDS[0].2) + usize::from(draw >= KINDS[0].2 + KINDS[1].2);
            kinds.push(kind);
            let class = if with_classes { KINDS[kind].1 } else { 1 };
            Request { class, ..Request::new(at_s, KINDS[kind].0, 1) }
        });
        let workload = Workload::open(requests.collect());
        let limits = Limits { cap: 1, ..Limits::defaults(&engine) };
        let run = world::run(&workload, &engine, &Contestant::CapFcfs, &limits)?;
        for (record, kind) in run.records.iter().zip(kinds) {
            sums[kind] += record.ttft_s() - engine.isolated_ttft_s(KINDS[kind].0);
            counts[kind] += 1;
        }
    }
    Ok([0, 1, 2].map(|kind| sums[kind] / counts[kind] as f64))
}

/// The mean rest of the service that an arrival finds, and each kind's share of the utilisation.
fn residual_and_shares(utilisation: f64) -> Result<(f64, [f64; 3]), Error> {
    let engine = single_server()?;
    let service_s = KINDS.map(|kind| engine.isolated_ttft_s(kind.0));
    let moment = |power| (0..3).map(|kind| KINDS[kind].2 * service_s[kind].powi(power)).sum::<f64>();
    let per_s = utilisation / moment(1);
    let shares = [0, 1, 2].map(|kind| per_s * KINDS[kind].2 * service_s[kind]);
    Ok((per_s * moment(2) / 2.0, shares))
}

pub(super) fn pollaczek_khinchine(points: &[(f64, u64)]) -> Result<Vec<Check>, Error> {
    let check = |&(utilisation, requests): &(f64, u64)| {
        let target = residual_and_shares(utilisation)?.0 / (1.0 - utilisation);
        let waits = mean_waits(utilisation, requests, false)?;
        let ours = (0..3).map(|kind| KINDS[kind].2 * waits[kind]).sum();
        Ok(Check::new(format!("Pollaczek-Khinchine at {utilisation}: mean wait, s"), target, ours, TOLERANCE))
    };
    points.iter().map(check).collect()
}

pub(super) fn cobham(points: &[(f64, u64)]) -> Result<Vec<Check>, Error> {
    let mut checks = Vec::new();
    for &(utilisation, requests) in points {
        let (residual_s, shares) = residual_and_shares(utilisation)?;
        let waits = mean_waits(utilisation, requests, true)?;
        let mut above = 0.0;
        for (class, wait_s) in waits.into_iter().enumerate() {
            let up_to = above + shares[class];
            let target = residual_s / ((1.0 - above) * (1.0 - up_to));
            above = up_to;
            let name = format!("Cobham at {utilisation}, class {class}: mean wait, s");
            checks.push(Check::new(name, target, wait_s, TOLERANCE));
        }
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half busy, both formulas hold.
    #[test]
    fn theory() {
        let points = [(0.5, 60_000)];
        for check in [pollaczek_khinchine(&points).unwrap(), cobham(&points).unwrap()].concat() {
            assert!(check.is_sound(), "{check:?}");
        }
    }
}
