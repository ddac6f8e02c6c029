//! The two prefill lanes of a backend: a few long prompts at a time, and a token budget for the short ones.

use crate::BackendConfig;
use crate::estimates::Curve;
use crate::lane_defaults::{long_slots, short_budget};
use crate::opening::Opening;
use crate::ticket::Lane;
use crate::token_buckets::{COUNT, bucket_of, count_within, edge};

#[derive(Debug)]
pub(crate) struct Lanes {
    limited: bool,
    long_slots: u32,
    short_budget: u32,
    /// How many buckets are short.
    short_count: u8,
    long_in_prefill: u32,
    short_tokens: u64,
    /// Buckets whose lane has room for one more prompt.
    open: Opening,
}

impl Lanes {
    pub(crate) fn new(config: &BackendConfig, prefill: &Curve) -> Self {
        let mut lanes = Self {
            limited: false,
            long_slots: 0,
            short_budget: 0,
            short_count: 0,
            long_in_prefill: 0,
            short_tokens: 0,
            open: Opening::CLOSED,
        };
        lanes.configure(config, prefill);
        lanes
    }

    /// New limits; what is in prefill stays charged as it was.
    pub(crate) fn configure(&mut self, config: &BackendConfig, prefill: &Curve) {
        self.limited = config.lanes;
        self.long_slots = long_slots(config);
        self.short_budget = short_budget(config, prefill);
        self.short_count = match config.long_threshold_tokens {
            0 => COUNT as u8,
            tokens => bucket_of(tokens) + 1,
        };
        self.refresh();
    }

    pub(crate) fn lane_of(&self, bucket: u8) -> Lane {
        if bucket < self.short_count { Lane::Short } else { Lane::Long }
    }

    pub(crate) fn take(&mut self, lane: Lane, charge: u32) {
        match lane {
            Lane::Short => {
                self.short_tokens += u64::from(charge);
                self.refresh_short();
            }
            Lane::Long => {
                self.long_in_prefill += 1;
                self.refresh_long();
            }
        }
    }

    pub(crate) fn give_back(&mut self, lane: Lane, charge: u32) {
        match lane {
            Lane::Short => {
                self.short_tokens -= u64::from(charge);
                self.refresh_short();
            }
            Lane::Long => {
                self.long_in_prefill -= 1;
                self.refresh_long();
            }
        }
    }

    pub(crate) fn open(&self) -> Opening {
        self.open
    }

    /// What is open to all others while the short lane is kept for one prompt.
    pub(crate) fn open_to_others(&self) -> Opening {
        Opening { below: 0, ..self.open }
    }

    /// The short budget can keep back the buckets below this one.
    pub(crate) fn budgeted(&self) -> u8 {
        if self.limited && self.short_budget > 0 { self.short_count } else { 0 }
    }

    pub(crate) fn short_budget(&self) -> u32 {
        self.short_budget
    }

    pub(crate) fn long_slots(&self) -> u32 {
        self.long_slots
    }

    pub(crate) fn short_tokens(&self) -> u64 {
        self.short_tokens
    }

    pub(crate) fn long_in_prefill(&self) -> u32 {
        self.long_in_prefill
    }

    fn refresh(&mut self) {
        self.open = Opening::ALL;
        self.refresh_short();
        self.refresh_long();
    }

    fn refresh_short(&mut self) {
        let room = u64::from(self.short_budget).saturating_sub(self.short_tokens);
        let is_free = !self.limited || self.short_budget == 0 || self.short_tokens == 0;
        // Most budgets have room for any short prompt most of the time.
        let fits_all = is_free || self.short_count == 0 || u64::from(edge(self.short_count - 1)) <= room;
        let below = if fits_all { self.short_count } else { count_within(room) };
        self.open.below = if self.limited { below } else { COUNT as u8 };
    }

    fn refresh_long(&mut self) {
        let takes_long = self.long_slots == 0 || self.long_in_prefill < self.long_slots;
        self.open.from = if takes_long && self.limited { self.short_count } else { COUNT as u8 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(config: &BackendConfig) -> Lanes {
        Lanes::new(config, &Curve::from_rate(config.prefill_tokens_per_s))
    }

    fn opens(lanes: &Lanes, tokens: u32) -> bool {
        lanes.open().contains(bucket_of(tokens))
    }

    /// The lanes have separate budgets: a full one leaves the other open.
    #[test]
    fn separate_budgets() {
        let config = BackendConfig {
            long_threshold_tokens: 4_096,
            short_budget_tokens: Some(8_192),
            ..BackendConfig::default()
        };
        let mut lanes = lanes(&config);
        lanes.take(Lane::Long, 100_000);
        assert!(!opens(&lanes, 5_000) && opens(&lanes, 4_096));
        lanes.take(Lane::Short, 8_192);
        assert!(!opens(&lanes, 1));
        lanes.give_back(Lane::Long, 100_000);
        assert!(opens(&lanes, 5_000) && !opens(&lanes, 1));
    }

    /// What fits exactly is let in; an oversize prompt passes alone.
    #[test]
    fn short_budget_edges() {
        let mut lanes =
            lanes(&BackendConfig { short_budget_tokens: Some(2_048), ..BackendConfig::default() });
        assert!(opens(&lanes, 4_096));
        lanes.take(Lane::Short, 1_024);
        assert!(opens(&lanes, 1_024) && !opens(&lanes, 1_025));
        lanes.give_back(Lane::Short, 1_024);
        assert!(opens(&lanes, 4_096));
    }

    /// Zero means no limit, and lanes that are switched off limit nothing but keep counting.
    #[test]
    fn no_limits() {
        let config =
            BackendConfig { long_slots: Some(0), short_budget_tokens: Some(0), ..BackendConfig::default() };
        for config in [config, BackendConfig { lanes: false, ..BackendConfig::default() }] {
            let mut lanes = lanes(&config);
            for _ in 0..100 {
                lanes.take(Lane::Long, 10_000);
                lanes.take(Lane::Short, 4_096);
            }
            assert!((0..COUNT as u8).all(|bucket| lanes.open().contains(bucket)));
            assert_eq!((lanes.long_in_prefill(), lanes.short_tokens()), (100, 409_600));
            assert_eq!(lanes.budgeted(), 0);
        }
    }

    /// A threshold is rounded up to an edge; zero makes nothing long.
    #[test]
    fn threshold() {
        let at = |tokens| lanes(&BackendConfig { long_threshold_tokens: tokens, ..BackendConfig::default() });
        assert_eq!(at(4_097).lane_of(bucket_of(4_700)), Lane::Short);
        assert_eq!(at(4_096).lane_of(bucket_of(4_097)), Lane::Long);
        assert_eq!(at(0).lane_of(COUNT as u8 - 1), Lane::Short);
        assert_eq!(at(u32::MAX).lane_of(COUNT as u8 - 1), Lane::Short);
    }
}
