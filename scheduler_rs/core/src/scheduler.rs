//! The state machine: what there is. What happens to it stands in one file for each call.

mod attempt;
mod barrier;
mod bypass;
mod cancel;
mod choose;
mod deadlines;
mod estimate;
mod hold;
mod limit;
mod promote;
mod queue;
mod release;
mod set_policy;
mod settle;
mod snapshot;
mod submit;
mod update_backend;

use crate::backend::Backend;
use crate::batch::Batches;
use crate::class_shares::ClassShares;
use crate::counters::Counters;
use crate::drain_rate::DrainRate;
use crate::flows::Flows;
use crate::groups::Groups;
use crate::ordering::Ordering;
use crate::slab::Slab;
use crate::ticket::{Place, TicketId};
use crate::timers::Timers;
use crate::{BackendId, Config, Decisions, Error};
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
    /// Whether some backend has a limit of tokens per minute.
    limits_tokens: bool,
    /// Whether some backend has a limit or was ever asked to pause.
    has_limits: bool,
    timers: Timers,
    ordering: Ordering,
    class_shares: ClassShares,
    drain_rate: DrainRate,
    counters: Counters,
}

impl Scheduler {
    /// An empty scheduler.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            class_shares: ClassShares::new(config.class_min_shares),
            config,
            now_ns: 0,
            tickets: Slab::default(),
            groups: Groups::default(),
            flows: Flows::default(),
            batches: Batches::default(),
            backends: Vec::new(),
            backends_by_id: BTreeMap::new(),
            limits_tokens: false,
            has_limits: false,
            timers: Timers::default(),
            ordering: Ordering::default(),
            drain_rate: DrainRate::default(),
            counters: Counters::default(),
        })
    }

    /// Expires what is due, then releases everything that fits.
    ///
    /// To be called after any other call and at [`Self::next_deadline`].
    pub fn poll(&mut self, now_ns: u64) -> Decisions {
        self.advance(now_ns);
        let mut decisions = Decisions::default();
        self.run_timers(&mut decisions);
        if self.has_limits {
            self.refresh_limits();
        }
        self.release(&mut decisions);
        if self.has_limits {
            self.report_limits(&mut decisions);
        }
        decisions
    }

    fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
    }

    fn in_flight_slot(&self, ticket: TicketId) -> Result<u32, Error> {
        let slot = self.tickets.find(ticket);
        slot.filter(|&slot| self.tickets[slot].place == Place::InFlight)
            .ok_or(Error::UnknownTicket { ticket })
    }
}
