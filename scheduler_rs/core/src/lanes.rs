//! The two prefill lanes of a backend: a few long prompts at a time, and a token budget for the short ones.

use crate::BackendConfig;
use crate::estimates::Curve;
use crate::lane_defaults::{LongLimit, short_budget};
use crate::opening::Opening;
use crate::ticket::Lane;
use crate::token_buckets::{COUNT, bucket_of, count_within, edge};

/// The share of the short budget that may pass a prompt that does not fit. Little: what is in prefill keeps the engine
/// busy while room is made, and each budget that passes is seconds to the larger prompts, of which the policy knows
/// nothing.
const BYPASS_DIVISOR: u32 = 16;

/// What is known of how the backend works.
#[derive(Clone, Copy, Debug, Default)]
struct Engine {
    /// Most tokens in a step.
    step: u64,
    /// Most tokens of one prompt in a step; 0 = no limit of its own.
    chunk: u64,
    /// The caller has left the short budget open.
    fill_step: bool,
}

#[derive(Debug)]
pub(crate) struct Lanes {
    limited: bool,
    long_limit: LongLimit,
    short_budget: u32,
    /// How many buckets are short.
    short_count: u8,
    long_in_prefill: u32,
    /// Long and short.
    in_prefill: u32,
    /// In prefill and in decode.
    in_flight: u32,
    short_tokens: u64,
    engine: Engine,
    /// Buckets whose lane has room for one more prompt.
    open: Opening,
}

impl Lanes {
    pub(crate) fn new(config: &BackendConfig, prefill: &Curve) -> Self {
        let mut lanes = Self {
            limited: false,
            long_limit: LongLimit::new(config),
            short_budget: 0,
            short_count: 0,
            long_in_prefill: 0,
            in_prefill: 0,
            in_flight: 0,
            short_tokens: 0,
            engine: Engine::default(),
            open: Opening::CLOSED,
        };
        lanes.configure(config, prefill);
        lanes
    }

    /// New limits; what is in prefill stays charged as it was.
    pub(crate) fn configure(&mut self, config: &BackendConfig, prefill: &Curve) {
        self.limited = config.lanes;
        self.long_limit = LongLimit::new(config);
        self.short_budget = short_budget(config, prefill);
        self.engine = Engine {
            step: u64::from(config.engine_step_tokens),
            chunk: u64::from(config.engine_chunk_tokens),
            fill_step: config.short_budget_tokens.is_none(),
        };
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
        self.in_prefill += 1;
        match lane {
            Lane::Short => self.short_tokens += u64::from(charge),
            Lane::Long => self.long_in_prefill += 1,
        }
        self.refresh();
    }

    pub(crate) fn give_back(&mut self, lane: Lane, charge: u32) {
        self.in_prefill -= 1;
        match lane {
            Lane::Short => self.short_tokens -= u64::from(charge),
            Lane::Long => self.long_in_prefill -= 1,
        }
        self.refresh();
    }

    /// So many prompts have a slot now, in prefill or past it.
    pub(crate) fn set_in_flight(&mut self, in_flight: u32) {
        self.in_flight = in_flight;
        if self.engine.chunk > 0 {
            self.refresh();
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

    /// How many tokens may pass a prompt that does not fit before room is kept for it.
    pub(crate) fn bypass_limit(&self) -> u32 {
        self.short_budget / BYPASS_DIVISOR
    }

    pub(crate) fn short_budget(&self) -> u32 {
        self.short_budget
    }

    /// Most long prompts in prefill; 0 = no limit.
    pub(crate) fn long_slots(&self) -> u32 {
        self.long_limit.most()
    }

    pub(crate) fn short_tokens(&self) -> u64 {
        self.short_tokens
    }

    pub(crate) fn long_in_prefill(&self) -> u32 {
        self.long_in_prefill
    }

    fn refresh(&mut self) {
        self.refresh_short();
        self.refresh_long();
    }

    fn refresh_short(&mut self) {
        self.open.below = if self.limited { self.short_below() } else { COUNT as u8 };
    }

    fn refresh_long(&mut self) {
        let takes_long = self.limited
            && self.long_limit.takes_one_more(self.long_in_prefill, self.short_tokens, self.others_in_step());
        self.open.from = if takes_long { self.short_count } else { COUNT as u8 };
    }

    /// The first bucket that the short lane has no room for.
    fn short_below(&self) -> u8 {
        let room = u64::from(self.short_budget).saturating_sub(self.short_tokens);
        let is_free = self.short_budget == 0 || self.short_tokens == 0 || self.short_count == 0;
        // Most budgets have room for any short prompt most of the time.
        let fits_all = is_free || u64::from(edge(self.short_count - 1)) <= room || self.step_has_room();
        if fits_all { self.short_count } else { count_within(room) }
    }

    /// What the engine's next step can use at most besides the chunks of long prompts: of each short one no more than a
    /// chunk, and a token for each prompt in decode.
    fn others_in_step(&self) -> u64 {
        let in_decode = self.in_flight.saturating_sub(self.in_prefill);
        let shorts = self.in_prefill - self.long_in_prefill;
        self.short_tokens.min(u64::from(shorts) * self.engine.chunk) + u64::from(in_decode)
    }

    /// Whether an engine that takes chunks has room for one more, so that a budget in tokens must not leave it idle: it
    /// takes many prompts to fill a step with a chunk of each.
    fn step_has_room(&self) -> bool {
        let Engine { step, chunk, fill_step } = self.engine;
        let long = u64::from(self.long_in_prefill) * chunk;
        fill_step && chunk > 0 && long + self.others_in_step() + chunk <= step
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

    fn chunked(short_budget_tokens: Option<u32>) -> Lanes {
        lanes(&BackendConfig {
            engine_step_tokens: 2_048,
            engine_chunk_tokens: 512,
            short_budget_tokens,
            ..BackendConfig::default()
        })
    }

    /// Where the engine works in chunks, short prompts and decodes take the place of further long ones in its step.
    #[test]
    fn long_prompts_by_chunk() {
        let mut lanes = chunked(None);
        lanes.take(Lane::Long, 60_000);
        lanes.take(Lane::Short, 4_096);
        lanes.take(Lane::Short, 4_096);
        lanes.set_in_flight(3);
        assert!(opens(&lanes, 60_000), "four chunks fit");
        lanes.set_in_flight(4);
        assert!(!opens(&lanes, 60_000), "not with a token for one in decode");
        lanes.give_back(Lane::Short, 4_096);
        assert!(opens(&lanes, 60_000));
        lanes.give_back(Lane::Short, 4_096);
        lanes.take(Lane::Long, 60_000);
        assert!(opens(&lanes, 60_000));
        lanes.take(Lane::Long, 60_000);
        assert!(!opens(&lanes, 60_000), "a quarter of the step is for others");
    }

    /// Each 65,536 tokens of short prompts in prefill let a further long prompt in, unless the caller said how many.
    #[test]
    fn long_prompts_by_short_tokens() {
        for (long_slots, takes_second) in [(None, true), (Some(1), false)] {
            let mut lanes = lanes(&BackendConfig { cap: 256, long_slots, ..BackendConfig::default() });
            lanes.take(Lane::Long, 20_000);
            lanes.take(Lane::Short, 65_535);
            assert!(!opens(&lanes, 20_000));
            lanes.take(Lane::Short, 1);
            assert_eq!(opens(&lanes, 20_000), takes_second);
            lanes.take(Lane::Long, 20_000);
            assert!(!opens(&lanes, 20_000), "not a third");
            lanes.give_back(Lane::Short, 1);
            lanes.give_back(Lane::Long, 20_000);
            assert!(!opens(&lanes, 20_000), "what is in prefill has shrunk");
        }
    }

    /// A budget that is left open never leaves such a step half empty; one that the caller gave is kept.
    #[test]
    fn short_prompts_by_chunk() {
        for (budget, goes_on) in [(None, true), (Some(4_096), false)] {
            let mut lanes = chunked(budget);
            for _ in 0..3 {
                lanes.take(Lane::Short, 20_000);
            }
            lanes.set_in_flight(3);
            assert_eq!(opens(&lanes, 8_192), goes_on, "three chunks of four, with {budget:?}");
            lanes.take(Lane::Short, 20_000);
            assert!(!opens(&lanes, 1), "the step is full, and so is the budget");
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
