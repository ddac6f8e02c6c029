//! A set of token buckets as a bitmap.

use crate::token_buckets::COUNT;

const WORDS: usize = COUNT.div_ceil(64);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BucketSet([u64; WORDS]);

impl BucketSet {
    pub(crate) const EMPTY: Self = Self([0; WORDS]);

    /// The first `count` buckets.
    pub(crate) fn first(count: u8) -> Self {
        let mut words = [0; WORDS];
        for (word, start) in words.iter_mut().zip((0_u8..).step_by(64)) {
            *word = match count.saturating_sub(start) {
                bits @ 0..64 => (1 << bits) - 1,
                _ => u64::MAX,
            };
        }
        Self(words)
    }

    pub(crate) fn all() -> Self {
        Self::first(COUNT as u8)
    }

    pub(crate) fn insert(&mut self, bucket: u8) {
        self.0[usize::from(bucket / 64)] |= 1 << (bucket % 64);
    }

    pub(crate) fn remove(&mut self, bucket: u8) {
        self.0[usize::from(bucket / 64)] &= !(1 << (bucket % 64));
    }

    pub(crate) fn contains(self, bucket: u8) -> bool {
        self.0[usize::from(bucket / 64)] >> (bucket % 64) & 1 == 1
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Self::EMPTY
    }

    pub(crate) fn union(mut self, other: Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word |= other;
        }
        self
    }

    pub(crate) fn intersection(mut self, other: Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word &= other;
        }
        self
    }

    pub(crate) fn difference(mut self, other: Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word &= !other;
        }
        self
    }

    /// Calls `visit` with each bucket in it, ascending: plain loops, because this is the heart of every choice.
    #[inline]
    pub(crate) fn for_each(self, mut visit: impl FnMut(u8)) {
        for (mut word, start) in self.0.into_iter().zip((0_u8..).step_by(64)) {
            while word != 0 {
                visit(start + word.trailing_zeros() as u8);
                word &= word - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(set: BucketSet) -> Vec<u8> {
        let mut buckets = Vec::new();
        set.for_each(|bucket| buckets.push(bucket));
        buckets
    }

    /// `first(n)` holds exactly the buckets below n, also at word borders.
    #[test]
    fn first_is_a_prefix() {
        for count in [0, 1, 63, 64, 65, 127, 128, COUNT as u8] {
            assert!(list(BucketSet::first(count)).into_iter().eq(0..count), "count {count}");
        }
    }

    /// Set algebra agrees with membership of the single buckets.
    #[test]
    fn algebra() {
        let mut set = BucketSet::EMPTY;
        for bucket in [0, 63, 64, 100, 147] {
            set.insert(bucket);
        }
        set.remove(100);
        assert_eq!(list(set), [0, 63, 64, 147]);
        assert!(set.contains(64) && !set.contains(100));
        assert_eq!(list(set.intersection(BucketSet::first(64))), [0, 63]);
        assert_eq!(list(set.difference(BucketSet::first(64))), [64, 147]);
        assert_eq!(list(set.union(BucketSet::first(2))), [0, 1, 63, 64, 147]);
        assert!(set.difference(set).is_empty());
    }
}
