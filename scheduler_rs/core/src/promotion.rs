//! Turns for tickets that waited longer than `max_wait`, within their class, for at most a tenth of the released tokens.

use crate::CLASSES;

/// Ordinary tokens that must pass for each promoted one.
const ORDINARY_PER_PROMOTED: u64 = 9;

#[derive(Debug)]
pub(crate) struct Promotion {
    max_wait_ns: u64,
    /// Tokens of each class released while an overdue ticket of it could have gone instead.
    passed: [u64; CLASSES],
}

impl Promotion {
    /// `max_wait_ns` 0 switches it off.
    pub(crate) fn new(max_wait_ns: u64) -> Self {
        Self { max_wait_ns, passed: [0; CLASSES] }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.max_wait_ns > 0
    }

    pub(crate) fn is_overdue(&self, wait_ns: u64) -> bool {
        self.is_on() && wait_ns > self.max_wait_ns
    }

    pub(crate) fn affords(&self, class: u8, charge: u32) -> bool {
        self.passed[usize::from(class)] >= ORDINARY_PER_PROMOTED * u64::from(charge)
    }

    pub(crate) fn promoted(&mut self, class: u8, charge: u32) {
        self.passed[usize::from(class)] -= ORDINARY_PER_PROMOTED * u64::from(charge);
    }

    pub(crate) fn passed_over(&mut self, class: u8, charge: u32) {
        let passed = &mut self.passed[usize::from(class)];
        *passed = passed.saturating_add(u64::from(charge));
    }
}
