//! Turns for tickets that waited longer than `max_wait`, within their flow, for at most a tenth of its released tokens.

/// Ordinary tokens that must pass for each promoted one.
const ORDINARY_PER_PROMOTED: u64 = 9;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Promotion {
    max_wait_ns: u64,
}

impl Promotion {
    /// `max_wait_ns` 0 switches it off.
    pub(crate) fn new(max_wait_ns: u64) -> Self {
        Self { max_wait_ns }
    }

    pub(crate) fn is_on(self) -> bool {
        self.max_wait_ns > 0
    }

    pub(crate) fn is_overdue(self, wait_ns: u64) -> bool {
        self.is_on() && wait_ns > self.max_wait_ns
    }
}

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
