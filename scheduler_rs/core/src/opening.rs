//! Which token buckets are let in: all below one and all from another one on, because a budget is short of the largest
//! short prompts first and a full long lane keeps all long ones.

use crate::token_buckets::COUNT;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) below: u8,
    pub(crate) from: u8,
}

impl Opening {
    pub(crate) const CLOSED: Self = Self { below: 0, from: COUNT as u8 };
    pub(crate) const ALL: Self = Self { below: COUNT as u8, from: COUNT as u8 };

    pub(crate) fn first(count: u8) -> Self {
        Self { below: count, ..Self::CLOSED }
    }

    pub(crate) fn contains(self, bucket: u8) -> bool {
        bucket < self.below || bucket >= self.from
    }

    /// Whether something in the span may be let in: always when one of its ends is.
    pub(crate) fn admits(self, span: Span) -> bool {
        span.low < self.below || span.high >= self.from
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self { below: self.below.max(other.below), from: self.from.min(other.from) }
    }
}

/// The lowest and the highest bucket that hold something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) low: u8,
    pub(crate) high: u8,
}

impl Span {
    pub(crate) fn union(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// Whether it reaches one of the ends of a span around it.
    pub(crate) fn reaches(self, around: Self) -> bool {
        self.low <= around.low || self.high >= around.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A span is admitted exactly when its lowest or its highest bucket is let in.
    #[test]
    fn ends_decide() {
        for opening in [Opening::CLOSED, Opening::ALL, Opening::first(5), Opening { below: 5, from: 9 }] {
            for low in 0..COUNT as u8 {
                for high in low..COUNT as u8 {
                    let by_ends = opening.contains(low) || opening.contains(high);
                    assert_eq!(opening.admits(Span { low, high }), by_ends);
                }
            }
        }
        assert_eq!(Opening::first(3).union(Opening { below: 1, from: 7 }), Opening { below: 3, from: 7 });
    }
}
