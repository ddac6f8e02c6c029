//! The named kinds of arrivals of a made-up workload.

use crate::Error;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, Gamma, Pareto};
use std::f64::consts::TAU;

/// How requests come; the mean rate is 1 a second where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// Everything at once.
    Batch,
    /// Gamma gaps with a squared variation of 8.
    Bursts,
    /// A fixed number of users without time to think.
    Closed,
    /// A Poisson process whose rate swings between a fifth and nine fifths of its mean, [`DAYS`] times.
    Diurnal,
    Poisson,
    /// Crowds at one moment, of a size with a power law: [`CROWD_SHAPE`], at most [`CROWD_MOST`].
    Storms,
    /// Sessions of [`TURNS`] requests, one after the other: each has what came before in its prompt.
    Turns,
}

const PROCESSES: [(&str, Process); 7] = [
    ("poisson", Process::Poisson),
    ("bursts", Process::Bursts),
    ("closed", Process::Closed),
    ("batch", Process::Batch),
    ("diurnal", Process::Diurnal),
    ("storms", Process::Storms),
    ("turns", Process::Turns),
];

const BURST_SQUARED_VARIATION: f64 = 8.0;
const DAYS: f64 = 3.0;
const SWING: f64 = 0.8;
const CROWD_SHAPE: f64 = 1.3;
const CROWD_MOST: f64 = 300.0;
/// Requests of a session.
pub(crate) const TURNS: usize = 12;
/// Between the requests of a session, in mean gaps of the whole workload.
const TURN_GAP: f64 = 40.0;

pub(crate) fn names() -> [&'static str; 7] {
    PROCESSES.map(|(name, _)| name)
}

impl Process {
    pub(crate) fn named(name: &str) -> Result<Self, Error> {
        let known = PROCESSES.iter().find(|(known, _)| *known == name);
        known.map(|(_, process)| *process).ok_or_else(|| Error::unknown("kind of arrivals", name, &names()))
    }

    /// So many times of arrival, in seconds; ascending, but for sessions, whose requests stand one after the other.
    pub(crate) fn times(self, count: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
        match self {
            Self::Batch | Self::Closed => vec![0.0; count],
            Self::Poisson => sums((0..count).map(|_| Exp1.sample(rng))),
            Self::Bursts => {
                let gaps = Gamma::new(1.0 / BURST_SQUARED_VARIATION, BURST_SQUARED_VARIATION);
                let gaps = gaps.expect("shape and scale are above 0");
                sums((0..count).map(|_| gaps.sample(rng)))
            }
            Self::Diurnal => {
                let day_s = count as f64 / DAYS;
                let even = sums((0..count).map(|_| Exp1.sample(rng)));
                even.into_iter().map(|expected| time_of(expected, day_s)).collect()
            }
            Self::Storms => storms(count, rng),
            Self::Turns => turns(count, rng),
        }
    }
}

fn sums(gaps: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut at_s = 0.0;
    let sum = |gap| {
        at_s += gap;
        at_s
    };
    gaps.map(sum).collect()
}

/// When so many requests are expected to have come: the inverse of `t + swing day / tau (1 - cos(tau t / day))`.
fn time_of(expected: f64, day_s: f64) -> f64 {
    let reach_s = SWING * day_s / TAU * 2.0;
    let (mut low, mut high) = (expected - reach_s, expected);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        let come = middle + SWING * day_s / TAU * (1.0 - (TAU * middle / day_s).cos());
        if come < expected { low = middle } else { high = middle }
    }
    high
}

fn storms(count: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let sizes = Pareto::new(1.0, CROWD_SHAPE).expect("scale and shape are above 0");
    let mut times = Vec::with_capacity(count);
    let mut at_s = 0.0;
    while times.len() < count {
        let size = sizes.sample(rng).floor().min(CROWD_MOST);
        let gap: f64 = Exp1.sample(rng);
        at_s += gap * size;
        times.extend(std::iter::repeat_n(at_s, size as usize));
    }
    times.truncate(count);
    times
}

fn turns(count: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let mut times = Vec::with_capacity(count);
    while times.len() < count {
        let mut at_s = rng.random::<f64>() * count as f64;
        for _ in 0..TURNS.min(count - times.len()) {
            times.push(at_s);
            let gap: f64 = Exp1.sample(rng);
            at_s += gap * TURN_GAP;
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::rng;

    fn times(name: &str) -> Vec<f64> {
        Process::named(name).unwrap().times(20_000, &mut rng(1, 0))
    }

    /// Gaps have mean 1 and the variation of their process.
    #[test]
    fn gaps() {
        for (name, variation) in [("poisson", 1.0), ("bursts", BURST_SQUARED_VARIATION)] {
            let times = times(name);
            let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            assert!((mean - 1.0).abs() < 0.08, "{name}: mean {mean}");
            assert!((variance / mean / mean / variation - 1.0).abs() < 0.15, "{name}: variance {variance}");
        }
    }

    /// Days have a busy and a quiet half, in the proportion of the swing, and the mean rate stays 1.
    #[test]
    fn diurnal() {
        let times = times("diurnal");
        let day_s = times.len() as f64 / DAYS;
        assert!(times.is_sorted() && (times[19_999] / 20_000.0 - 1.0).abs() < 0.02);
        let busy = times.iter().filter(|&&at_s| at_s % day_s < day_s / 2.0).count() as f64 / 20_000.0;
        assert!((busy - (0.5 + SWING / TAU * 2.0)).abs() < 0.01, "{busy}");
    }

    /// Crowds come at one moment, some of them large.
    #[test]
    fn storms_crowd() {
        let times = times("storms");
        let largest = times.chunk_by(|a, b| a.total_cmp(b).is_eq()).map(<[f64]>::len).max().unwrap();
        assert!((100..=300).contains(&largest), "{largest}");
    }

    /// The requests of a session follow each other.
    #[test]
    fn sessions() {
        let times = times("turns");
        assert_eq!(times.len(), 20_000);
        assert!(times.chunks(TURNS).all(<[f64]>::is_sorted));
    }
}
