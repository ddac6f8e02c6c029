//! The state machine: what there is. What happens to it stands in one file for each call.

mod attempt;
mod backlog;
mod barrier;
mod breaker;
mod bypass;
mod cancel;
mod choose;
mod closing;
mod deadlines;
mod estimate;
mod hold;
mod limit;
mod load;
mod moves;
mod promote;
mod queue;
mod ramp;
mod refuse;
mod release;
mod set_policy;
mod settle;
mod snapshot;
mod submit;
mod tenant_limit;
mod told;
mod too_small;
mod update_backend;

use crate::attempt::Attempt;
use crate::backend::Backend;
use crate::backlog::Backlog;
use crate::batch::Batches;
use crate::class_shares::ClassShares;
use crate::counters::Counters;
use crate::drain_rate::DrainRate;
use crate::flows::Flows;
use crate::groups::Groups;
use crate::ordering::Ordering;
use crate::reservation::Reservation;
use crate::retry_budget::RetryBudgets;
use crate::slab::Slab;
use crate::tenant_limits::TenantLimits;
use crate::ticket::{Place, TicketId};
use crate::timers::Timers;
use crate::{BackendId, Config, Decisions, Error, ModelId, TenantId};
use std::collections::BTreeMap;

/// Decides when each waiting prompt is released and to which backend.
///
/// Time is monotonic nanoseconds; a call with an earlier time than the last is taken to happen at the last.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    now_ns: u64,
    tickets: Slab,
    groups: Groups,
    flows: Flows,
    batches: Batches,
    backends: Vec<Backend>,
    backends_by_id: BTreeMap<BackendId, u32>,
    /// Whether some backend may have room: not from when none was found to have any until a slot is given back or a
    /// backend changes.
    may_have_room: bool,
    /// Whether some backend may keep room for a prompt.
    may_keep_room: bool,
    /// Whether some backend has a limit of tokens per minute.
    limits_tokens: bool,
    /// Whether some answer has said how many tokens its provider has left.
    tells_tokens: bool,
    /// Whether some backend has a limit or a breaker, was to pause or to be avoided, or has said what is left of its limits.
    has_limits: bool,
    /// Whether some backend holds only some models at once.
    limits_models: bool,
    /// The most of [`Lanes::budgeted`](crate::lanes::Lanes::budgeted): no short budget keeps back buckets from here on.
    budgeted_max: u8,
    tenant_limits: TenantLimits,
    retry_budgets: RetryBudgets,
    timers: Timers,
    ordering: Ordering,
    class_shares: ClassShares,
    drain_rate: DrainRate,
    finish_rate: DrainRate,
    /// What waits by model, where waits are limited.
    backlogs: BTreeMap<ModelId, Backlog>,
    /// How long a ticket in a bucket was foreseen to wait, if what it really waits tells how good that was.
    foreseen_ns: BTreeMap<TicketId, f64>,
    counters: Counters,
    /// Empty between calls: its memory is used again.
    kept: Vec<Reservation>,
    /// For whom promotion has kept room since the last release.
    made_room: Vec<TicketId>,
}

impl Scheduler {
    /// An empty scheduler.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            class_shares: ClassShares::new(config.class_min_shares),
            flows: Flows::new(config.turn_tokens),
            config,
            now_ns: 0,
            tickets: Slab::default(),
            groups: Groups::default(),
            batches: Batches::default(),
            backends: Vec::new(),
            backends_by_id: BTreeMap::new(),
            may_have_room: false,
            may_keep_room: false,
            limits_tokens: false,
            tells_tokens: false,
            has_limits: false,
            limits_models: false,
            budgeted_max: 0,
            tenant_limits: TenantLimits::default(),
            retry_budgets: RetryBudgets::default(),
            timers: Timers::default(),
            ordering: Ordering::default(),
            drain_rate: DrainRate::default(),
            finish_rate: DrainRate::default(),
            backlogs: BTreeMap::new(),
            foreseen_ns: BTreeMap::new(),
            counters: Counters::default(),
            kept: Vec::new(),
            made_room: Vec::new(),
        })
    }

    /// Expires what is due, then releases everything that fits.
    ///
    /// To be called after any other call and at [`Self::next_deadline`].
    pub fn poll(&mut self, now_ns: u64) -> Decisions {
        let mut decisions = Decisions::default();
        self.poll_into(now_ns, &mut decisions);
        decisions
    }

    /// Like [`Self::poll`], in the memory of `decisions`, whatever they were before.
    pub fn poll_into(&mut self, now_ns: u64, decisions: &mut Decisions) {
        self.advance(now_ns);
        decisions.clear();
        self.run_timers(decisions);
        if self.has_limits {
            self.refresh_limits();
        }
        if !self.flows.reconsider.is_empty() {
            self.reconsider_tenants();
        }
        self.release(decisions);
        if self.has_limits {
            self.report_limits(decisions);
        }
        if !self.tenant_limits.closed.is_empty() {
            self.report_tenant_limits(decisions);
        }
    }

    fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
    }

    fn tenant_of(&self, slot: u32) -> TenantId {
        self.batches[self.tickets[slot].batch].tenant
    }

    /// Of a ticket in flight.
    fn attempt_of(&self, slot: u32) -> &Attempt {
        &self.tickets.course(slot).attempt
    }

    fn attempt_of_mut(&mut self, slot: u32) -> &mut Attempt {
        &mut self.tickets.course_mut(slot).attempt
    }

    fn in_flight_slot(&self, ticket: TicketId) -> Result<u32, Error> {
        let slot = self.tickets.find(ticket);
        slot.filter(|&slot| self.tickets[slot].place == Place::InFlight)
            .ok_or(Error::UnknownTicket { ticket })
    }
}
