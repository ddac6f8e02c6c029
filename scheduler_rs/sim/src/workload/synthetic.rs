//! A made-up workload: a mix of lengths with one of four kinds of arrivals, named `MIX[-ARRIVALS]`.

use super::mix::Mix;
use super::{Arrivals, Request, Workload, rng};
use crate::Error;
use rand_distr::{Distribution, Exp1, Gamma};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    Poisson,
    /// Gamma gaps with a squared variation of 8.
    Bursts,
    /// A fixed number of users without time to think.
    Closed,
    /// Everything at once.
    Batch,
}

const PROCESSES: [(&str, Process); 4] = [
    ("poisson", Process::Poisson),
    ("bursts", Process::Bursts),
    ("closed", Process::Closed),
    ("batch", Process::Batch),
];
const BURST_SQUARED_VARIATION: f64 = 8.0;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Synthetic {
    mix: Mix,
    process: Process,
    requests: usize,
}

impl Synthetic {
    pub(crate) fn named(name: &str, requests: usize) -> Result<Self, Error> {
        let (mix, process) = name.split_once('-').unwrap_or((name, "poisson"));
        let names = PROCESSES.map(|(name, _)| name);
        let known = PROCESSES.iter().find(|(name, _)| *name == process);
        let &(_, process) = known.ok_or_else(|| Error::unknown("kind of arrivals", process, &names))?;
        if requests < 2 {
            return Err(Error::value("--requests", &requests, "must be at least 2"));
        }
        Ok(Self { mix: Mix::named(mix)?, process, requests })
    }

    /// A draw with mean rate 1 a second; a closed loop has as many users as given.
    pub(crate) fn draw(&self, seed: u64, users: usize) -> Workload {
        const LENGTHS: u64 = 11;
        const GAPS: u64 = 12;
        let (mut lengths, mut gaps) = (rng(seed, LENGTHS), rng(seed, GAPS));
        let bursts = Gamma::new(1.0 / BURST_SQUARED_VARIATION, BURST_SQUARED_VARIATION);
        let bursts = bursts.expect("shape and scale are above 0");
        let mut at_s = 0.0;
        let requests = (0..self.requests).map(|_| {
            at_s += match self.process {
                Process::Poisson => Exp1.sample(&mut gaps),
                Process::Bursts => bursts.sample(&mut gaps),
                Process::Closed | Process::Batch => 0.0,
            };
            let (prompt, output) = self.mix.draw(&mut lengths);
            Request::new(at_s, prompt, output)
        });
        let mut workload = Workload::open(requests.collect());
        if self.process == Process::Closed {
            workload.arrivals = Arrivals::Closed { users: users.max(1) };
        }
        workload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(name: &str) -> Workload {
        Synthetic::named(name, 20_000).unwrap().draw(1, 4)
    }

    /// Gaps have mean 1 and the variation of their process.
    #[test]
    fn gaps() {
        for (name, variation) in [("chat", 1.0), ("chat-bursts", BURST_SQUARED_VARIATION)] {
            let requests = draw(name).requests;
            let gaps: Vec<f64> =
                requests.windows(2).map(|pair| pair[1].arrival_s - pair[0].arrival_s).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            assert!((mean - 1.0).abs() < 0.08, "{name}: mean {mean}");
            assert!((variance / mean / mean / variation - 1.0).abs() < 0.15, "{name}: variance {variance}");
        }
    }

    /// A batch is there at once, a closed loop has its users, and a wrong name is told what there is.
    #[test]
    fn names() {
        assert!(draw("wide-batch").span_s() == 0.0);
        assert_eq!(draw("mixed-closed").arrivals, Arrivals::Closed { users: 4 });
        assert!(Synthetic::named("chess", 10).unwrap_err().to_string().contains("chat, mixed, wide"));
        let error = Synthetic::named("chat-storms", 10).unwrap_err().to_string();
        assert!(error.contains("poisson, bursts, closed, batch"));
    }
}
