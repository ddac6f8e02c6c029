//! How far the service of two backlogged contenders may be apart.

/// What a contender has had, by its own count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Service {
    pub(crate) tokens: u64,
    pub(crate) weight: u32,
}

impl Service {
    /// Per share.
    pub(crate) fn per_weight(self) -> f64 {
        self.tokens as f64 / f64::from(self.weight.max(1))
    }
}

/// Most virtual tokens per share between two contenders that have both been backlogged since they were equal.
///
/// The next release goes to the one that has had least, estimates of what is in flight included, or stays with the one
/// that has its turn until this has had `quantum_tokens` more. So by that count one is ahead by at most the quantum and
/// one charge. What is in flight may turn out to cost nothing (the other one's) or as much as the largest charge (its
/// own): one charge for each of `slots`, at either.
pub(crate) fn fairness_gap_bound(quantum_tokens: u64, largest_charge: u64, slots: u32) -> f64 {
    (quantum_tokens + (2 * u64::from(slots) + 1) * largest_charge) as f64
}
