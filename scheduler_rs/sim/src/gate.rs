//! The way from the callers to the engine: straight, or through the scheduler.

use crate::Error;
use crate::engine::spec::EngineSpec;
use crate::policy::Contestant;
use crate::workload::Request;
use expresslane_scheduler::{
    BackendConfig, BatchOptions, Config, Fairness, ModelRoute, Outcome, Policy, Prompt, QUEUE_LIMIT_MAX,
    Scheduler, TicketId, Usage,
};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

const BACKEND: u32 = 0;
const MODEL: u32 = 0;

/// What the scheduler is told of the engine's steps (`ENGINE_STEP_TOKENS`, `ENGINE_CHUNK_TOKENS`), true or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Told {
    /// Most tokens in a step; 0 = not told.
    pub(crate) step_tokens: u32,
    /// Most tokens of one prompt in a step; 0 = not told, or no limit.
    pub(crate) chunk_tokens: u32,
}

impl Told {
    /// As a service runs that nobody told anything.
    pub(crate) const NOTHING: Self = Self { step_tokens: 0, chunk_tokens: 0 };

    pub(crate) fn truth(engine: &EngineSpec) -> Self {
        Self { step_tokens: engine.max_num_batched_tokens, chunk_tokens: engine.long_prefill_token_threshold }
    }
}

/// What the scheduler is told of its backend, and between whom it shares it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Limits {
    pub(crate) cap: u32,
    pub(crate) lanes: bool,
    /// None: what the scheduler makes of the engine's step and chunk.
    pub(crate) long_lane: Option<u32>,
    pub(crate) long_threshold_tokens: u32,
    /// None: learned.
    pub(crate) short_budget_tokens: Option<u32>,
    pub(crate) told: Told,
    #[serde(serialize_with = "by_name")]
    pub(crate) fairness: Fairness,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this shape")]
fn by_name<S: Serializer>(fairness: &Fairness, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(fairness.name())
}

impl Limits {
    /// The scheduler's defaults, a cap of what the engine runs at once, and the truth of its steps.
    pub(crate) fn defaults(engine: &EngineSpec) -> Self {
        let backend = BackendConfig::default();
        Self {
            cap: engine.max_num_seqs as u32,
            lanes: backend.lanes,
            long_lane: backend.long_slots,
            long_threshold_tokens: backend.long_threshold_tokens,
            short_budget_tokens: backend.short_budget_tokens,
            told: Told::truth(engine),
            fairness: Fairness::default(),
        }
    }
}

/// Requests are known by their place in the workload.
pub(crate) enum Gate {
    Straight {
        ready: Vec<u32>,
    },
    Scheduled {
        // The scheduler is large, and one of a few gates.
        scheduler: Box<Scheduler>,
        requests: BTreeMap<TicketId, u32>,
        tickets: BTreeMap<u32, TicketId>,
    },
}

impl Gate {
    pub(crate) fn new(contestant: &Contestant, limits: &Limits, engine: &EngineSpec) -> Result<Self, Error> {
        let (policy, lanes, fairness) = match *contestant {
            Contestant::Passthrough => return Ok(Self::Straight { ready: Vec::new() }),
            Contestant::CapFcfs => (Policy::Fcfs, false, Fairness::None),
            Contestant::Core(policy) => (policy, limits.lanes, limits.fairness),
        };
        let config = Config { policy, fairness, queue_limit: QUEUE_LIMIT_MAX, ..Config::default() };
        let mut scheduler = Box::new(Scheduler::new(config)?);
        let backend = BackendConfig {
            cap: limits.cap,
            models: vec![ModelRoute { model: MODEL, cap: 0 }],
            lanes,
            long_threshold_tokens: limits.long_threshold_tokens,
            long_slots: limits.long_lane,
            short_budget_tokens: limits.short_budget_tokens,
            engine_step_tokens: limits.told.step_tokens,
            engine_chunk_tokens: limits.told.chunk_tokens,
            prefill_tokens_per_s: engine.prefill_tokens_per_s(),
            ..BackendConfig::default()
        };
        scheduler.update_backend(0, BACKEND, backend)?;
        Ok(Self::Scheduled { scheduler, requests: BTreeMap::new(), tickets: BTreeMap::new() })
    }

    pub(crate) fn submit(&mut self, now_ns: u64, number: u32, request: &Request) -> Result<(), Error> {
        match self {
            Self::Straight { ready } => ready.push(number),
            Self::Scheduled { scheduler, requests, tickets } => {
                let prompt = Prompt {
                    model: MODEL,
                    class: request.class,
                    tokens: request.estimate_tokens,
                    ttft_deadline_ns: request.ttft_deadline_ns,
                    ..Prompt::default()
                };
                let options = BatchOptions { tenant: request.tenant, ..BatchOptions::default() };
                let ticket = scheduler.submit(now_ns, u64::from(number), &[prompt], options)?[0];
                requests.insert(ticket, number);
                tickets.insert(number, ticket);
            }
        }
        Ok(())
    }

    /// What goes to the engine now, in order.
    pub(crate) fn poll(&mut self, now_ns: u64) -> Vec<u32> {
        match self {
            Self::Straight { ready } => std::mem::take(ready),
            Self::Scheduled { scheduler, requests, .. } => {
                let decisions = scheduler.poll(now_ns);
                decisions.dispatches.iter().map(|dispatch| requests[&dispatch.ticket]).collect()
            }
        }
    }

    pub(crate) fn first_token(&mut self, now_ns: u64, number: u32) -> Result<(), Error> {
        if let Self::Scheduled { scheduler, tickets, .. } = self {
            scheduler.first_token(now_ns, tickets[&number])?;
        }
        Ok(())
    }

    /// A request has ended; without usage, before the engine did anything for it.
    pub(crate) fn finish(
        &mut self,
        now_ns: u64,
        number: u32,
        outcome: Outcome,
        usage: Option<Usage>,
    ) -> Result<(), Error> {
        if let Self::Scheduled { scheduler, requests, tickets } = self {
            let ticket = tickets.remove(&number).expect("it was submitted");
            requests.remove(&ticket);
            scheduler.finish_with_usage(now_ns, ticket, outcome, usage)?;
        }
        Ok(())
    }
}
