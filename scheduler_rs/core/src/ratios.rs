//! How far estimates were off: histograms of estimated over actual, cumulative since start.

use crate::{CLASSES, RatioName};

/// Upper bounds of the buckets, 1 = exact; one more bucket lies above the last.
pub const RATIO_BOUNDS: [f64; 14] =
    [0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0];

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RatioHistogram {
    pub(crate) counts: [u64; RATIO_BOUNDS.len() + 1],
    pub(crate) sum: f64,
}

/// By name and class.
#[derive(Debug, Default)]
pub(crate) struct Ratios([[RatioHistogram; CLASSES]; RatioName::ALL.len()]);

impl Ratios {
    /// Nothing is noted where the actual value is 0: any estimate is infinitely far off.
    pub(crate) fn record(&mut self, name: RatioName, class: u8, estimated: f64, actual: f64) {
        if actual > 0.0 {
            let ratio = estimated / actual;
            let histogram = &mut self.0[name as usize][usize::from(class)];
            histogram.counts[RATIO_BOUNDS.partition_point(|&bound| bound < ratio)] += 1;
            histogram.sum += ratio;
        }
    }

    /// Those that hold anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RatioName, u32, &RatioHistogram)> {
        let all = RatioName::ALL.into_iter().flat_map(|name| {
            (0..).zip(&self.0[name as usize]).map(move |(class, histogram)| (name, class, histogram))
        });
        all.filter(|(_, _, histogram)| histogram.counts.iter().any(|&count| count > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ratio falls into the bucket whose bound it does not exceed; what nothing compares to is left out.
    #[test]
    fn buckets() {
        let mut ratios = Ratios::default();
        for (estimated, actual) in [(100.0, 100.0), (1.0, 10.0), (1_000.0, 1.0), (5.0, 0.0)] {
            ratios.record(RatioName::Prefill, 1, estimated, actual);
        }
        let all: Vec<_> = ratios.iter().collect();
        let &[(RatioName::Prefill, 1, histogram)] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((histogram.counts[7], histogram.counts[0], histogram.counts[14]), (1, 1, 1));
        assert!((histogram.sum - 1_001.1).abs() < 1e-9);
    }
}
