//! Turns for tickets that waited longer than `max_wait`, within their flow, for at most a tenth of its released tokens.

/// Ordinary tokens that must pass for each promoted one.
const ORDINARY_PER_PROMOTED: u64 = 9;

/// Tokens of a flow released while an overdue ticket of it could have gone instead.
#[derive(Debug, Default)]
pub(crate) struct PassedTokens(u64);

impl PassedTokens {
    pub(crate) fn afford(&self, charge: u32) -> bool {
        self.0 >= ORDINARY_PER_PROMOTED * u64::from(charge)
    }

    pub(crate) fn promoted(&mut self, charge: u32) {
        self.0 -= ORDINARY_PER_PROMOTED * u64::from(charge);
    }

    pub(crate) fn passed_over(&mut self, charge: u32) {
        self.0 = self.0.saturating_add(u64::from(charge));
    }
}
