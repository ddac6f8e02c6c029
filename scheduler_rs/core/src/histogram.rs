//! A histogram with fixed bounds, cumulative since start.

/// Upper bounds of the buckets; one more bucket lies above the last.
pub const BOUNDS_NS: [u64; 21] = {
    const MS: u64 = 1_000_000;
    [
        5 * MS,
        10 * MS,
        20 * MS,
        40 * MS,
        60 * MS,
        80 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        750 * MS,
        1_000 * MS,
        2_500 * MS,
        5_000 * MS,
        7_500 * MS,
        10_000 * MS,
        20_000 * MS,
        40_000 * MS,
        60_000 * MS,
        120_000 * MS,
        300_000 * MS,
        600_000 * MS,
    ]
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    pub(crate) counts: [u64; BOUNDS_NS.len() + 1],
    pub(crate) sum_ns: u128,
}

impl Histogram {
    pub(crate) fn record(&mut self, value_ns: u64) {
        self.counts[BOUNDS_NS.partition_point(|&bound| bound < value_ns)] += 1;
        self.sum_ns += u128::from(value_ns);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.iter().all(|&count| count == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bound is the largest value of its own bucket.
    #[test]
    fn bounds_are_inclusive() {
        let mut histogram = Histogram::default();
        for value_ns in [0, BOUNDS_NS[0], BOUNDS_NS[0] + 1, BOUNDS_NS[20], u64::MAX] {
            histogram.record(value_ns);
        }
        assert_eq!(histogram.counts[..2], [2, 1]);
        assert_eq!(histogram.counts[20..], [1, 1]);
        assert!(BOUNDS_NS.is_sorted());
    }
}
