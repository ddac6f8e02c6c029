//! The least share of the service that a class gets under those above it.

use crate::CLASSES;

/// A class is owed its share of every release of a higher class that it could have had instead, and goes first while
/// it is owed anything: over any stretch in which it has work that could go, it gets its share less one prompt.
#[derive(Debug)]
pub(crate) struct ClassShares {
    shares: [f64; CLASSES],
    owed: [f64; CLASSES],
}

impl ClassShares {
    pub(crate) fn new(shares: [f64; CLASSES]) -> Self {
        Self { shares, owed: [0.0; CLASSES] }
    }

    pub(crate) fn has_any(&self) -> bool {
        self.shares.iter().any(|&share| share > 0.0)
    }

    pub(crate) fn has_share(&self, class: u8) -> bool {
        self.shares[usize::from(class)] > 0.0
    }

    pub(crate) fn is_owed(&self, class: u8) -> bool {
        self.owed[usize::from(class)] > 0.0
    }

    /// A class could have gone instead of what was charged `tokens`.
    pub(crate) fn passed_over(&mut self, class: u8, tokens: u64) {
        let class = usize::from(class);
        self.owed[class] += self.shares[class] * tokens as f64;
    }

    /// A class went before its turn.
    pub(crate) fn repaid(&mut self, class: u8, tokens: u64) {
        let class = usize::from(class);
        self.owed[class] -= (1.0 - self.shares[class]) * tokens as f64;
    }
}
