//! Geometric token buckets: upper edges `round(2^(k/5))`, so every power of two is an edge.

use crate::TOKENS_MAX;

/// How many buckets cover 0 to [`TOKENS_MAX`] tokens.
pub const COUNT: usize = 148;

/// `2^(r/5)` in fixed point with 60 fraction bits: integers, so that the edges are the same on every machine.
const FIFTH_ROOTS: [u64; 5] = [
    1_152_921_504_606_846_976,
    1_324_359_035_782_591_639,
    1_521_289_045_828_922_437,
    1_747_502_224_418_692_204,
    2_007_352_930_543_411_233,
];

const EDGES: [u32; COUNT] = edges();

const fn edges() -> [u32; COUNT] {
    let mut edges = [0; COUNT];
    let mut filled = 0;
    let mut k = 0;
    while filled < COUNT {
        let scaled = (FIFTH_ROOTS[k % 5] as u128) << (k / 5);
        let edge = ((scaled + (1 << 59)) >> 60) as u32;
        if filled == 0 || edge > edges[filled - 1] {
            edges[filled] = edge;
            filled += 1;
        }
        k += 1;
    }
    edges
}

/// At most so many edges lie between a power of two and the next.
const PER_OCTAVE: usize = FIFTH_ROOTS.len();

/// For each power of two the first bucket with an edge that is no less, as long as an octave of buckets follows.
const OCTAVES: [u8; 32] = octaves();

const fn octaves() -> [u8; 32] {
    let mut octaves = [0; 32];
    let mut power = 0;
    while power < 32 {
        let mut first = 0;
        while first < COUNT - PER_OCTAVE && EDGES[first] < 1 << power {
            first += 1;
        }
        octaves[power] = first as u8;
        power += 1;
    }
    octaves
}

/// The bucket that holds a prompt of `tokens`; what lies above [`TOKENS_MAX`] falls into the last one.
#[must_use]
pub fn bucket_of(tokens: u32) -> u8 {
    let tokens = tokens.min(TOKENS_MAX);
    let first = OCTAVES[(tokens | 1).ilog2() as usize];
    let octave = &EDGES[usize::from(first)..][..PER_OCTAVE];
    first + octave.iter().filter(|&&edge| edge < tokens).count() as u8
}

/// The upper edge of a bucket: the largest prompt in it, and what every prompt in it is charged.
#[must_use]
pub fn edge(bucket: u8) -> u32 {
    EDGES[bucket as usize]
}

/// How many buckets have an edge of at most `tokens`.
#[must_use]
pub fn count_within(tokens: u64) -> u8 {
    EDGES.partition_point(|&edge| u64::from(edge) <= tokens) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Edges are the distinct values of round(2^(k/5)), ascending, up to the largest prompt.
    #[test]
    fn edges_are_geometric() {
        let mut expected: Vec<f64> = (0..=155).map(|k| (f64::from(k) / 5.0).exp2().round()).collect();
        expected.dedup();
        assert_eq!(EDGES.map(f64::from).as_slice(), expected);
        assert_eq!(EDGES[COUNT - 1], TOKENS_MAX);
    }

    /// Every power of two is an edge, so a limit that is a power of two is met exactly.
    #[test]
    fn powers_of_two_are_edges() {
        for exponent in 0..=31 {
            assert_eq!(edge(bucket_of(1 << exponent)), 1 << exponent);
        }
    }

    /// A bucket holds what is above the edge before it and not above its own.
    #[test]
    fn bucket_holds_its_range() {
        for bucket in 1..COUNT as u8 {
            assert_eq!(bucket_of(edge(bucket)), bucket);
            assert_eq!(bucket_of(edge(bucket - 1) + 1), bucket);
            assert_eq!(count_within(u64::from(edge(bucket))), bucket + 1);
        }
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u32::MAX), COUNT as u8 - 1);
        assert_eq!(count_within(0), 0);
    }
}
