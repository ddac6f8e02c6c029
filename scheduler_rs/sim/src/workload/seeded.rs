//! What a seed changes: the random stream, the noise on length estimates, the jitter of arrivals.

use super::Workload;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};

/// One seed has independent streams for independent purposes: the same on every machine.
pub(crate) fn rng(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// How far a seeded copy of a workload is from the original.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Perturbation {
    /// Sigma of the log-normal factor on what the scheduler is told of each length; 0 = it knows.
    pub(crate) noise_sigma: f64,
    /// Arrivals move by up to this much either way.
    pub(crate) jitter_s: f64,
}

impl Perturbation {
    const NOISE_STREAM: u64 = 1;
    const JITTER_STREAM: u64 = 2;

    pub(crate) fn apply(&self, workload: &mut Workload, seed: u64) {
        if self.noise_sigma > 0.0 {
            let factor = LogNormal::new(0.0, self.noise_sigma).expect("the sigma is finite");
            let mut rng = rng(seed, Self::NOISE_STREAM);
            for request in &mut workload.requests {
                let estimate = f64::from(request.prompt_tokens) * factor.sample(&mut rng);
                request.estimate_tokens = estimate.round().clamp(1.0, 1e9) as u32;
            }
        }
        if self.jitter_s > 0.0 {
            let mut rng = rng(seed, Self::JITTER_STREAM);
            for request in &mut workload.requests {
                let by_s = rng.random_range(-self.jitter_s..=self.jitter_s);
                request.arrival_s = (request.arrival_s + by_s).max(0.0);
            }
            workload.sort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Request;

    fn perturbed(seed: u64) -> Workload {
        let requests = (0..2_000).map(|at| Request::new(f64::from(at) * 0.1, 1_000, 1)).collect();
        let mut workload = Workload::open(requests);
        Perturbation { noise_sigma: 0.3, jitter_s: 1.0 }.apply(&mut workload, seed);
        workload
    }

    /// Seeds differ, one seed repeats, the noise has its sigma and the truth stays.
    #[test]
    fn seeds() {
        let workload = perturbed(1);
        assert_eq!(workload.requests, perturbed(1).requests);
        assert_ne!(workload.requests, perturbed(2).requests);
        let logs: Vec<f64> =
            workload.requests.iter().map(|request| (f64::from(request.estimate_tokens) / 1e3).ln()).collect();
        let sigma = (logs.iter().map(|log| log * log).sum::<f64>() / logs.len() as f64).sqrt();
        assert!((0.28..0.32).contains(&sigma));
        assert!(workload.requests.iter().all(|request| request.prompt_tokens == 1_000));
        assert!(workload.requests.is_sorted_by_key(|request| request.arrival_s));
    }
}
