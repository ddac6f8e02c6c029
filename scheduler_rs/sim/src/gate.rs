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
    #[serde(serialize_with = "by_name")]
    pub(crate) fairness: Fairness,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this shape")]
fn by_name<S: Serializer>(fairness: &Fairness, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(fairness.name())
}

impl Limits {
    /// The scheduler's defaults, and a cap of what the engine runs at once.
    pub(crate) fn defaults(engine: &EngineSpec) -> Self {
        let backend = BackendConfig::default();
        Self {
            cap: engine.max_num_seqs as u32,
            lanes: backend.lanes,
            long_lane: backend.long_slots,
            long_threshold_tokens: backend.long_threshold_tokens,
            short_budget_tokens: backend.short_budget_tokens,
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
            engine_step_tokens: engine.max_num_batched_tokens,
            engine_chunk_tokens: engine.long_prefill_token_threshold,
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
