//! Who makes trouble, and how: each adversary is a mix of events and of what they are about.

use crate::dice::Dice;
use crate::reference::{
    BatchTerms, BreakerTerms, End, Late, Order, Request, Rules, SECOND, Said, Server, Sharing, Used,
};
use crate::scenario::{Event, Step};

const MS: u64 = SECOND / 1_000;
const BATCHES: u64 = 6;
const MODELS: u32 = 3;
pub(crate) const BACKENDS: u32 = 3;
const DURATIONS: [u64; 7] = [0, MS, 10 * MS, SECOND, 5 * SECOND, 30 * SECOND, 61 * SECOND];
const SIZES: [u32; 12] = [0, 1, 60, 64, 500, 512, 1_000, 2_048, 4_096, 5_000, 20_000, 100_000];

/// Most tokens in a step and of one prompt in it, small ones too, so that few prompts fill a step.
const ENGINES: [(u32, (u32, u32)); 5] =
    [(4, (0, 0)), (1, (2_048, 0)), (2, (2_048, 512)), (2, (256, 64)), (1, (4_096, 1_024))];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adversary {
    /// A little of everything.
    Everything,
    /// Short prompts without end, few long ones.
    EndlessShorts,
    /// Prompts and batches cancelled as fast as they come.
    CancelStorm,
    /// Backends that go down and come up, with other models each time.
    FlappingBackends,
    /// Caps, lanes and budgets that fall under what is in flight.
    ShrinkingCaps,
    /// First token, finish, cancel, retry and timeout of few prompts, several before each poll.
    Races,
    /// Batches held, moved on and released.
    SlowReaders,
    /// Attempts that fail, back off, and go elsewhere.
    Retries,
    /// Sequential prompts between others.
    Barriers,
    /// Requests and tokens per minute, pauses.
    Limits,
    /// Many tenants, large and small batches, least shares.
    Tenants,
    /// Providers that turn away what they are sent.
    RateLimits,
    /// Policies that change while prompts wait.
    ChangingPolicies,
    /// Engines that work in chunks, with lanes left open and many prompts at once.
    Chunks,
    /// Answers enough that times and budgets are learned from them.
    Learning,
    /// Engines that hold fewer models than they serve.
    FewModels,
    /// Backends that fail, are left alone and tried again.
    Breakers,
    /// Many tenants and large batches, of which only backends and the tenants' limits keep anything back.
    Shares,
    /// Providers that say what is left of their limits, this way and that.
    Providers,
}

/// What a kind of event weighs.
#[derive(Clone, Copy)]
enum Kind {
    Submit,
    FirstToken,
    Finish,
    Retry,
    Blame,
    TurnedAway,
    Said,
    Cancel,
    CancelBatch,
    Hold,
    Lift,
    Update,
    Pause,
    Avoid,
    LimitTenant,
    SetOrder,
    Rearm,
    Advance,
    ToDeadline,
    TooLate,
    Nothing,
}

impl Adversary {
    pub(crate) const ALL: [Self; 19] = [
        Self::Everything,
        Self::EndlessShorts,
        Self::CancelStorm,
        Self::FlappingBackends,
        Self::ShrinkingCaps,
        Self::Races,
        Self::SlowReaders,
        Self::Retries,
        Self::Barriers,
        Self::Limits,
        Self::Tenants,
        Self::RateLimits,
        Self::ChangingPolicies,
        Self::Chunks,
        Self::Learning,
        Self::Breakers,
        Self::FewModels,
        Self::Shares,
        Self::Providers,
    ];

    /// Most steps of a random trace.
    pub(crate) fn steps_max(self) -> usize {
        match self {
            // Most of what it does is about a prompt in flight, and few are.
            Self::Races => 300,
            _ => 120,
        }
    }

    /// How often it does what, over what all of them do.
    fn weights(self) -> Vec<(u32, Kind)> {
        let mut weights = vec![
            (12, Kind::Submit),
            (12, Kind::FirstToken),
            (12, Kind::Finish),
            (3, Kind::Retry),
            (1, Kind::Blame),
            (1, Kind::TurnedAway),
            (2, Kind::Cancel),
            (1, Kind::CancelBatch),
            (1, Kind::Hold),
            (1, Kind::Lift),
            (1, Kind::Update),
            (1, Kind::Pause),
            (1, Kind::Avoid),
            (1, Kind::SetOrder),
            (1, Kind::Rearm),
            (8, Kind::Advance),
            (4, Kind::ToDeadline),
            (1, Kind::TooLate),
            (1, Kind::Nothing),
        ];
        weights.extend(match self {
            Self::Shares => vec![(3, Kind::LimitTenant)],
            Self::Everything => vec![(1, Kind::LimitTenant)],
            Self::Tenants => vec![(4, Kind::LimitTenant)],
            Self::EndlessShorts => vec![(20, Kind::Submit), (12, Kind::FirstToken), (12, Kind::Finish)],
            Self::CancelStorm => vec![(20, Kind::Cancel), (6, Kind::CancelBatch), (12, Kind::Submit)],
            Self::FlappingBackends | Self::ShrinkingCaps => vec![(20, Kind::Update)],
            Self::Races => vec![(12, Kind::Cancel), (12, Kind::Rearm), (8, Kind::TooLate), (6, Kind::Retry)],
            Self::SlowReaders => vec![(12, Kind::Hold), (8, Kind::Lift)],
            Self::Retries => vec![(30, Kind::Retry), (8, Kind::Avoid), (10, Kind::ToDeadline)],
            Self::Barriers => vec![(8, Kind::Retry), (8, Kind::Finish)],
            Self::Limits => {
                vec![(8, Kind::Pause), (20, Kind::ToDeadline), (10, Kind::Submit), (12, Kind::LimitTenant)]
            }
            Self::FewModels => vec![(12, Kind::Submit), (12, Kind::Finish), (4, Kind::Blame)],
            Self::Breakers => vec![(25, Kind::Blame), (12, Kind::Submit), (8, Kind::ToDeadline)],
            Self::Chunks => vec![(20, Kind::Submit), (8, Kind::FirstToken)],
            Self::Learning => vec![(12, Kind::Submit), (40, Kind::FirstToken), (40, Kind::Finish)],
            Self::RateLimits => vec![(20, Kind::TurnedAway), (20, Kind::Finish), (30, Kind::Submit)],
            Self::ChangingPolicies => vec![(12, Kind::SetOrder), (8, Kind::Submit)],
            Self::Providers => {
                vec![(25, Kind::Said), (12, Kind::Submit), (8, Kind::ToDeadline), (8, Kind::Finish)]
            }
        });
        if self == Self::Shares {
            weights.retain(|(_, kind)| !matches!(kind, Kind::Hold | Kind::Lift));
            weights.extend([(12, Kind::Submit), (8, Kind::Finish)]);
        }
        weights
    }

    pub(crate) fn rules(self, dice: &mut Dice) -> Rules {
        let shared = match self {
            Self::Tenants => vec![Sharing::TenantBatch],
            Self::Shares => vec![Sharing::TenantBatch, Sharing::TenantBatch, Sharing::Tenant],
            _ => vec![Sharing::None, Sharing::Tenant, Sharing::TenantBatch],
        };
        let has_shares = dice.one_in(if self == Self::Tenants { 2 } else { 6 });
        let has_budget = dice.one_in(if self == Self::Retries { 2 } else { 6 });
        Rules {
            order: match self {
                Self::Learning => dice.pick(&[Order::Hrrn, Order::Lars, Order::Sjf, Order::Ljf]),
                _ => dice.pick(&Order::ALL),
            },
            sharing: dice.pick(&shared),
            queue_limit: dice.weighted(&[(1, 5), (6, 40)]),
            in_flight_limit: dice.weighted(&[(4, 0), (1, 1), (1, 5)]),
            no_backend_timeout_ns: dice.pick(&[0, SECOND, 10 * SECOND]),
            max_wait_ns: dice.weighted(&[(4, 0), (1, 10 * MS), (1, 5 * SECOND)]),
            class_min_shares: if has_shares { [0.0, 0.2, 0.1] } else { [0.0; 3] },
            cost_includes_output: dice.one_in(3),
            retry_ratio: if has_budget { dice.pick(&[0.05, 0.5]) } else { 0.0 },
        }
    }

    pub(crate) fn server(self, dice: &mut Dice) -> Server {
        let mut models = Vec::new();
        for model in 0..MODELS {
            if !dice.one_in(if matches!(self, Self::Learning | Self::FewModels) { 8 } else { 3 }) {
                models.push((model, dice.weighted(&[(3, 0), (1, 1), (1, 3)])));
            }
        }
        let is_limited = dice.one_in(if self == Self::Limits { 1 } else { 5 });
        let timeouts: &[u64] = if self == Self::Races { &[0, SECOND] } else { &[0, 0, 5 * SECOND] };
        let engines = if self == Self::Chunks { &ENGINES[2..4] } else { &ENGINES[..] };
        let (engine_step_tokens, engine_chunk_tokens) = dice.weighted(engines);
        // Half of them leave the lanes to the scheduler, as nearly everybody does.
        let is_open = self == Self::Chunks || dice.one_in(2);
        let budget = dice.pick(&[0, 64, 1_024, 2_048, 8_192]);
        // A budget below a chunk is refused.
        let budget = if budget == 0 { 0 } else { budget.max(engine_step_tokens) };
        Server {
            cap: match self {
                Self::RateLimits => dice.between(4, 12),
                Self::Chunks => dice.between(4, 20),
                Self::ShrinkingCaps => dice.between(1, 8),
                Self::Learning => dice.between(1, 2),
                _ => dice.between(1, 5),
            } as u32,
            models,
            max_loaded_models: match self {
                Self::FewModels => dice.between(1, 2) as u32,
                _ => dice.weighted(&[(6, 0), (1, 1), (1, 2)]),
            },
            available: !dice.one_in(if self == Self::FlappingBackends { 2 } else { 8 }),
            absence_timeout_ns: match self {
                Self::FlappingBackends | Self::Breakers => dice.pick(&[0, 5 * SECOND, 30 * SECOND]),
                _ => dice.weighted(&[(6, 0), (1, 5 * SECOND)]),
            },
            long_threshold_tokens: match self {
                Self::Chunks => dice.pick(&[64, 512]),
                _ => dice.pick(&[0, 512, 4_096, 16_384]),
            },
            long_slots: (!is_open).then(|| dice.below(3) as u32),
            short_budget_tokens: (!is_open).then_some(budget),
            engine_step_tokens,
            engine_chunk_tokens,
            lanes: self == Self::Chunks || !dice.one_in(3),
            prefill_tokens_per_s: dice.pick(&[1_000.0, 5_000.0]),
            first_token_timeout_ns: dice.pick(timeouts),
            idle_timeout_ns: dice.pick(timeouts),
            attempt_timeout_ns: dice.pick(&[0, 20 * SECOND]),
            requests_per_min: if is_limited { dice.pick(&[0, 2, 10]) } else { 0 },
            tokens_per_min: if is_limited { dice.pick(&[0, 3_000, 30_000]) } else { 0 },
            breaker: dice.one_in(if self == Self::Breakers { 1 } else { 4 }).then(|| breaker(dice)),
            ramp: dice.one_in(if self == Self::RateLimits { 1 } else { 2 }),
        }
    }

    pub(crate) fn step(self, word: u64) -> Step {
        let dice = &mut Dice::new(word);
        let polls = !dice.one_in(if self == Self::Races { 2 } else { 12 });
        Step { event: self.event(dice), polls }
    }

    fn event(self, dice: &mut Dice) -> Event {
        let batch = dice.below(BATCHES);
        let backend = dice.below(u64::from(BACKENDS)) as u32;
        let pick = dice.word();
        match dice.weighted(&self.weights()) {
            Kind::Submit => self.submit(batch, dice),
            Kind::FirstToken => Event::FirstToken(pick),
            Kind::Finish => {
                let successes = if self == Self::Learning { 30 } else { 4 };
                let end = dice.weighted(&[
                    (successes, End::Success),
                    (1, End::Failed),
                    (1, End::Cancelled),
                    (1, End::Expired),
                ]);
                let usage = Used {
                    uncached: dice.pick(&SIZES),
                    output: dice.below(3_000) as u32,
                    cached: if dice.one_in(2) { dice.pick(&SIZES) } else { 0 },
                };
                Event::Finish { pick, end, usage: dice.one_in(2).then_some(usage) }
            }
            Kind::Retry => {
                let delay_ns = if self == Self::Shares { 0 } else { dice.pick(&DURATIONS) };
                let (exclude_backend, moves, asked) = (dice.one_in(3), dice.one_in(2), dice.one_in(3));
                Event::Retry { pick, delay_ns, exclude_backend, not_run: dice.one_in(2), moves, asked }
            }
            Kind::TurnedAway => {
                Event::TurnedAway { pick, pause_ns: dice.pick(&DURATIONS), asked: dice.one_in(2) }
            }
            Kind::Blame => Event::Blame(pick),
            Kind::Said => {
                let mut said = |amounts: &[u64], limits: &[u64]| {
                    let reset_ns = dice.pick(&DURATIONS);
                    Said { amount: dice.pick(amounts), limit: dice.pick(limits), reset_ns }
                };
                let requests = said(&[0, 1, 2, 3, 5, 20], &[0, 0, 1, 2, 5]);
                let tokens = said(&[0, 500, 1_500, 3_000, 30_000], &[0, 0, 400, 3_000]);
                let (first, second) = (dice.one_in(3), dice.one_in(3));
                Event::Said {
                    pick,
                    requests: (!first).then_some(requests),
                    tokens: (!second).then_some(tokens),
                }
            }
            Kind::Cancel => Event::Cancel(pick),
            Kind::CancelBatch => Event::CancelBatch(batch),
            Kind::Hold => Event::Hold { batch, horizon: dice.below(12) as u32 },
            Kind::Lift => Event::Lift(batch),
            Kind::Update => Event::Update { backend, server: self.server(dice) },
            Kind::Pause => {
                let model = dice.below(u64::from(MODELS)) as u32;
                let for_ns = dice.pick(&DURATIONS);
                Event::Pause { backend, model: dice.one_in(2).then_some(model), for_ns }
            }
            Kind::Avoid => {
                let model = dice.below(u64::from(MODELS)) as u32;
                Event::Avoid { backend, model, for_ns: dice.pick(&DURATIONS) }
            }
            Kind::LimitTenant => Event::LimitTenant {
                tenant: dice.below(4) as u32,
                requests_per_min: dice.pick(&[0, 2, 10]),
                tokens_per_min: dice.pick(&[0, 3_000, 30_000]),
            },
            Kind::SetOrder => {
                let class = dice.one_in(2).then_some(dice.below(3) as u32);
                let model = dice.one_in(2).then_some(dice.below(u64::from(MODELS)) as u32);
                let order = match self {
                    // What stands in the order of its deadline is to go by its arrival, and back.
                    Self::ChangingPolicies if dice.one_in(2) => dice.pick(&[Order::Edf, Order::Fcfs]),
                    _ => dice.pick(&Order::ALL),
                };
                Event::SetOrder { class, model, order: (!dice.one_in(3)).then_some(order) }
            }
            Kind::Rearm => {
                let deadline = dice.pick(&[Late::FirstToken, Late::Idle, Late::Attempt]);
                Event::Rearm { pick, deadline, in_ns: dice.pick(&DURATIONS) }
            }
            Kind::Advance => Event::Advance(dice.pick(&DURATIONS)),
            Kind::ToDeadline => Event::ToDeadline,
            Kind::TooLate => Event::TooLate(pick),
            Kind::Nothing => Event::Nothing,
        }
    }

    fn submit(self, batch: u64, dice: &mut Dice) -> Event {
        let count = match self {
            Self::Tenants | Self::Shares => dice.weighted(&[(3, 1), (2, 6), (1, 17), (1, 20)]),
            Self::Races => 1,
            _ => dice.weighted(&[(3, 1), (3, 3), (1, 7), (1, 12)]),
        };
        let is_uniform = dice.one_in(3);
        let first = self.request(dice);
        let requests = (0..count).map(|index| {
            let request = if is_uniform { first } else { self.request(dice) };
            Request { index, ..request }
        });
        let requests = requests.collect();
        let deadline_in_ns = if dice.one_in(8) { dice.pick(&DURATIONS[1..]) } else { 0 };
        let terms = BatchTerms {
            queue_timeout_ns: if dice.one_in(4) { dice.pick(&DURATIONS) } else { 0 },
            deadline_ns: 0,
            tenant: dice.below(4) as u32,
            weight: dice.below(4) as u32,
        };
        Event::Submit { batch, requests, terms, deadline_in_ns }
    }

    fn request(self, dice: &mut Dice) -> Request {
        let size = dice.pick(&SIZES);
        let is_sequential = self != Self::Shares && dice.one_in(if self == Self::Barriers { 3 } else { 25 });
        Request {
            // In most of a backend's slots, so that what is turned away comes in bursts.
            model: if self == Self::RateLimits && !dice.one_in(4) {
                0
            } else {
                dice.below(u64::from(MODELS)) as u32
            },
            class: dice.weighted(&[(1, 0), (3, 1), (1, 2)]),
            tokens: match self {
                Self::EndlessShorts if !dice.one_in(10) => size.min(512),
                // Mostly of one bucket, where deadlines and arrivals tell them apart.
                Self::ChangingPolicies if !dice.one_in(4) => 500,
                _ => size,
            },
            output_tokens: dice.below(2_000) as u32,
            queue_timeout_ns: if dice.one_in(6) { dice.pick(&DURATIONS) } else { 0 },
            index: 0,
            sequential: is_sequential,
            ttft_deadline_ns: if dice.one_in(if self == Self::ChangingPolicies { 1 } else { 3 }) {
                dice.pick(&DURATIONS)
            } else {
                0
            },
        }
    }
}

/// Quick to open, so that few failures do.
fn breaker(dice: &mut Dice) -> BreakerTerms {
    BreakerTerms {
        error_ratio: dice.pick(&[0.01, 0.5, 1.0]),
        min_samples: dice.between(1, 4) as u32,
        window_ns: dice.pick(&[SECOND, 7 * SECOND, 30 * SECOND]),
        open_ns: dice.pick(&[MS, SECOND, 5 * SECOND]),
        open_max_ns: dice.pick(&[5 * SECOND, 60 * SECOND]),
        probes: dice.between(1, 3) as u32,
    }
}
