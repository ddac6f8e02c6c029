//! What the caller says: limits, backends, prompts. Plain values, checked before anything is applied.

use crate::{
    BackendId, BreakerConfig, CLASSES, Error, Fairness, ModelId, Policy, QUEUE_LIMIT_MAX, TOKENS_MAX,
    TenantId,
};

const MODELS_MAX: usize = 4_096;

/// The scheduler's own limits.
#[derive(Clone, Debug)]
pub struct Config {
    /// The order among waiting prompts of one class.
    pub policy: Policy,
    /// Most tickets waiting at once, 1 to [`QUEUE_LIMIT_MAX`].
    pub queue_limit: u32,
    /// Longest that a prompt may be foreseen to wait when it is submitted; 0 = no limit. It does not count while too
    /// little is known of the rate at which the model's prompts are released.
    pub queue_limit_ns: u64,
    /// Most tickets in flight over all backends; 0 = no limit.
    pub in_flight_limit: u32,
    /// How long work waits while every backend that it may go to is down; 0 = it expires at once. Longer for a backend
    /// with an `absence_timeout_ns`.
    pub no_backend_timeout_ns: u64,
    /// A ticket that waited longer is promoted; 0 = the policy's default.
    pub max_wait_ns: u64,
    /// Among whom the service of a class is shared before the policy orders.
    pub fairness: Fairness,
    /// For how many virtual tokens who is first stays first, and for at most four releases; 0 = until the next release.
    pub turn_tokens: u32,
    /// The least share of the released tokens that each class gets while it has work that could be released, whatever
    /// the classes above it have: 0 to 1 each, less than 1 in all; 0 = strictly after them.
    pub class_min_shares: [f64; CLASSES],
    /// Whether policies that go by size count the expected output with the prompt.
    pub cost_includes_output: bool,
    /// Most retries of a tenant per first attempt of its, beside a burst of ten; 0 = no limit.
    pub retry_ratio: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: Policy::Hrrn,
            queue_limit: 200_000,
            queue_limit_ns: 0,
            in_flight_limit: 0,
            no_backend_timeout_ns: 10_000_000_000,
            max_wait_ns: 0,
            fairness: Fairness::default(),
            turn_tokens: 8_192,
            class_min_shares: [0.0; CLASSES],
            cost_includes_output: false,
            retry_ratio: 0.0,
        }
    }
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !(1..=QUEUE_LIMIT_MAX).contains(&self.queue_limit) {
            let rule = format!("must be from 1 to {QUEUE_LIMIT_MAX}");
            return Err(Error::invalid("queue_limit", &self.queue_limit, rule));
        }
        let shares = self.class_min_shares;
        if shares.iter().any(|share| !(0.0..1.0).contains(share)) || shares.iter().sum::<f64>() >= 1.0 {
            let rule = "must be from 0 to 1 each, and less than 1 in all";
            return Err(Error::invalid("class_min_shares", &format!("{shares:?}"), rule));
        }
        if !(0.0..=1_000.0).contains(&self.retry_ratio) {
            return Err(Error::invalid("retry_ratio", &self.retry_ratio, "must be from 0 to 1000"));
        }
        self.policy.check()
    }
}

/// One model at one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelRoute {
    /// The model that is served.
    pub model: ModelId,
    /// Most tickets of this model in flight at this backend; 0 = no limit but the backend's own.
    pub cap: u32,
}

/// One backend: what it serves and how much it may be given.
#[derive(Clone, Debug)]
pub struct BackendConfig {
    /// Most tickets in flight, at least 1.
    pub cap: u32,
    /// The models it serves, each once.
    pub models: Vec<ModelRoute>,
    /// Most models with tickets in flight at once, as many as it holds in memory (Ollama: `OLLAMA_MAX_LOADED_MODELS`);
    /// models that wait for a place take turns of 16,384 tokens or 32 releases; 0 = no limit.
    pub max_loaded_models: u32,
    /// Whether it may be given work now.
    pub available: bool,
    /// How long work waits for it while it is not available, where that is longer than `no_backend_timeout_ns`: it has
    /// been there before, and may be starting again.
    pub absence_timeout_ns: u64,
    /// A prompt of more tokens is long; rounded up to a bucket edge; 0 = no prompt is long.
    pub long_threshold_tokens: u32,
    /// Most long prompts in prefill; 0 = no limit; none = 1 and a further one for each 65,536 charged tokens of short
    /// prompts in prefill; with `engine_chunk_tokens` also while the chunks of all long ones take at most three quarters
    /// of the engine's step and fit into it beside a chunk of each short prompt in prefill and a token for each in
    /// decode.
    pub long_slots: Option<u32>,
    /// Most charged tokens of short prompts in prefill, unless the lane is empty; 0 = no limit; none = learned: twice
    /// what is prefilled in a round trip and a step, and one chunk, at least 65,536 and 1,024 for each slot of the cap, at
    /// most 1,048,576; with `engine_chunk_tokens` more while the engine's step has room for one more chunk.
    pub short_budget_tokens: Option<u32>,
    /// Whether the two lanes limit anything.
    pub lanes: bool,
    /// Most tokens in a step of the engine (vLLM: `max_num_batched_tokens`); 0 = unknown.
    pub engine_step_tokens: u32,
    /// Most tokens of one prompt in a step (vLLM: `long_prefill_token_threshold`); 0 = no limit of its own.
    pub engine_chunk_tokens: u32,
    /// Assumed prefill rate, until the backend's own is learned.
    pub prefill_tokens_per_s: f64,
    /// From release to the first token; 0 = no limit.
    pub first_token_timeout_ns: u64,
    /// Between signs of life, from the first token on; 0 = no limit.
    pub idle_timeout_ns: u64,
    /// From release to the end of the attempt; 0 = no limit.
    pub attempt_timeout_ns: u64,
    /// Most releases within any 60 seconds; 0 = no limit.
    pub requests_per_min: u32,
    /// Most tokens, input and expected output, of the releases within any 60 seconds; 0 = no limit.
    pub tokens_per_min: u64,
    /// When it is left alone because it fails; none = never.
    pub breaker: Option<BreakerConfig>,
    /// Whether fewer prompts of a model are in flight after one was turned away: half of what was, then one more for each
    /// round of as many successes, up to its caps.
    pub ramp: bool,
}

impl Default for BackendConfig {
    fn default() -> Self {
        Self {
            cap: 1,
            models: Vec::new(),
            max_loaded_models: 0,
            available: true,
            absence_timeout_ns: 0,
            long_threshold_tokens: 16_384,
            long_slots: None,
            short_budget_tokens: None,
            lanes: true,
            engine_step_tokens: 0,
            engine_chunk_tokens: 0,
            prefill_tokens_per_s: 5_000.0,
            first_token_timeout_ns: 0,
            idle_timeout_ns: 0,
            attempt_timeout_ns: 0,
            requests_per_min: 0,
            tokens_per_min: 0,
            breaker: None,
            ramp: false,
        }
    }
}

impl BackendConfig {
    pub(crate) fn check(&self, backend: BackendId) -> Result<(), Error> {
        if self.cap == 0 {
            return Err(Error::invalid("cap", &0, format!("backend {backend} needs at least 1")));
        }
        check_rate("prefill_tokens_per_s", self.prefill_tokens_per_s)?;
        self.check_engine()?;
        self.breaker.as_ref().map_or(Ok(()), BreakerConfig::check)?;
        if self.models.len() > MODELS_MAX {
            let rule = format!("backend {backend} may serve at most {MODELS_MAX}");
            return Err(Error::invalid("models", &self.models.len(), rule));
        }
        let mut models: Vec<ModelId> = self.models.iter().map(|route| route.model).collect();
        models.sort_unstable();
        match models.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => {
                Err(Error::invalid("models", &pair[0], format!("listed twice for backend {backend}")))
            }
            None => Ok(()),
        }
    }

    fn check_engine(&self) -> Result<(), Error> {
        let (step, chunk) = (self.engine_step_tokens, self.engine_chunk_tokens);
        if chunk > step {
            let rule = format!("must be at most engine_step_tokens ({step}), which must then be given");
            return Err(Error::invalid("engine_chunk_tokens", &chunk, rule));
        }
        let largest = if chunk > 0 { chunk } else { step };
        match self.short_budget_tokens {
            Some(budget) if self.lanes && (1..largest).contains(&budget) => {
                let rule = format!("is below one chunk of the engine ({largest}); 0 = no limit");
                Err(Error::invalid("short_budget_tokens", &budget, rule))
            }
            _ => Ok(()),
        }
    }
}

pub(crate) fn check_rate(field: &'static str, per_s: f64) -> Result<(), Error> {
    if per_s.is_finite() && per_s >= 1e-3 {
        return Ok(());
    }
    Err(Error::invalid(field, &per_s, "must be finite and at least 0.001"))
}

/// One prompt to be queued.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prompt {
    /// Which model is to answer it.
    pub model: ModelId,
    /// 0 interactive, 1 standard, 2 batch.
    pub class: u32,
    /// Estimated uncached input tokens, at most [`TOKENS_MAX`].
    pub tokens: u32,
    /// Its own queue timeout, from the submit; 0 = none.
    pub queue_timeout_ns: u64,
    /// Its place in its batch, what a horizon goes by.
    pub index: u32,
    /// Expected output, at most [`TOKENS_MAX`]: its limit, or a better estimate. Fairness charges it twice until the
    /// real number is known.
    pub output_tokens: u32,
    /// Whether it starts only when all earlier prompts of its batch have ended, and later ones wait for its end.
    pub sequential: bool,
    /// Within which time from the submit its first token is wanted, for the policies `lars` and `edf`; 0 = none, at
    /// most [`TTFT_DEADLINE_MAX_NS`].
    pub ttft_deadline_ns: u64,
}

/// Largest value for [`Prompt::ttft_deadline_ns`]: a year.
pub const TTFT_DEADLINE_MAX_NS: u64 = 365 * 86_400 * 1_000_000_000;

impl Prompt {
    /// What its release counts for in a limit of tokens per minute.
    pub(crate) fn limited_tokens(&self) -> u64 {
        u64::from(self.tokens) + u64::from(self.output_tokens)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.class as usize >= CLASSES {
            return Err(Error::invalid("class", &self.class, "must be 0, 1 or 2"));
        }
        if self.index == u32::MAX {
            return Err(Error::invalid("index", &self.index, "must be smaller"));
        }
        if self.tokens > TOKENS_MAX {
            return Err(Error::invalid("tokens", &self.tokens, format!("must be at most {TOKENS_MAX}")));
        }
        if self.ttft_deadline_ns > TTFT_DEADLINE_MAX_NS {
            let rule = format!("must be at most {TTFT_DEADLINE_MAX_NS}");
            return Err(Error::invalid("ttft_deadline_ns", &self.ttft_deadline_ns, rule));
        }
        if self.output_tokens > TOKENS_MAX {
            let rule = format!("must be at most {TOKENS_MAX}");
            return Err(Error::invalid("output_tokens", &self.output_tokens, rule));
        }
        Ok(())
    }
}

/// What holds for a whole batch; the values given last count.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchOptions {
    /// How long a prompt may wait while none of the batch's released prompts ends; 0 = no limit.
    pub queue_timeout_ns: u64,
    /// When the batch's time is over; 0 = never.
    pub deadline_ns: u64,
    /// Whose batch it is, from the first submit until its last ticket has ended.
    pub tenant: TenantId,
    /// The tenant's share of each class, relative to the weights of others; 0 = 1.
    pub weight: u32,
    /// Whether its prompts are taken however long they will wait: a session's, whose credits hold it back.
    pub may_wait: bool,
}
