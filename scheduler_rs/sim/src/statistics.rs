//! Means, quantiles, fairness and overtakes of samples.

pub(crate) fn mean(samples: &[f64]) -> Option<f64> {
    (!samples.is_empty()).then(|| samples.iter().sum::<f64>() / samples.len() as f64)
}

/// The smallest sample that at least this share does not exceed; `sorted` ascends.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// Jain's index: 1 when all are equal, 1/n when one has everything.
pub(crate) fn jain(shares: &[f64]) -> f64 {
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares == 0.0 { 1.0 } else { shares.iter().sum::<f64>().powi(2) / (shares.len() as f64 * squares) }
}

/// How many later arrivals got ahead of the one that was overtaken most.
///
/// `turns` are (when it came, when it got its turn), ascending by the first; who came at the same time overtakes nobody.
pub(crate) fn overtakes_max(turns: &[(u64, u64)]) -> u64 {
    let mut order: Vec<u64> = turns.iter().map(|turn| turn.1).collect();
    order.sort_unstable();
    order.dedup();
    let mut later = Counts::new(order.len());
    let mut most = 0;
    for peers in turns.chunk_by(|a, b| a.0 == b.0).rev() {
        let ranks = || peers.iter().map(|turn| order.partition_point(|&at| at < turn.1));
        most = ranks().map(|rank| later.below(rank)).max().unwrap_or(0).max(most);
        ranks().for_each(|rank| later.add(rank));
    }
    most
}

/// A Fenwick tree: how many were added below a rank.
struct Counts(Vec<u64>);

impl Counts {
    fn new(ranks: usize) -> Self {
        Self(vec![0; ranks + 1])
    }

    fn add(&mut self, rank: usize) {
        let mut at = rank + 1;
        while at < self.0.len() {
            self.0[at] += 1;
            at += at & at.wrapping_neg();
        }
    }

    fn below(&self, rank: usize) -> u64 {
        let (mut at, mut sum) = (rank, 0);
        while at > 0 {
            sum += self.0[at];
            at &= at - 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Nearest rank: the median of three is the second, of nothing there is none.
    #[test]
    fn quantiles() {
        let sorted = [1.0, 2.0, 3.0];
        assert_eq!([0.0, 0.5, 0.99].map(|share| quantile(&sorted, share)), [Some(1.0), Some(2.0), Some(3.0)]);
        assert_eq!((quantile(&[], 0.5), mean(&[]), mean(&sorted)), (None, None, Some(2.0)));
    }

    /// Equal shares are fair, one owner is not.
    #[test]
    fn fairness() {
        assert!((jain(&[2.0, 2.0, 2.0]) - 1.0).abs() < 1e-12);
        assert!((jain(&[5.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-12);
    }

    proptest! {
        /// The tree counts what a plain double loop counts.
        #[test]
        fn overtakes(mut turns in prop::collection::vec((0_u64..20, 0_u64..20), 0..60)) {
            turns.sort_unstable();
            let naive = turns.iter().map(|a| turns.iter().filter(|b| b.0 > a.0 && b.1 < a.1).count() as u64);
            prop_assert_eq!(overtakes_max(&turns), naive.max().unwrap_or(0));
        }
    }
}
