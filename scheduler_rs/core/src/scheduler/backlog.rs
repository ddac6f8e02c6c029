//! The bound in time: what is foreseen to wait too long is refused, and what waited teaches how far to trust that.

use super::Scheduler;
use crate::backlog::{Coming, Foreseen, Owner};
use crate::drain_rate::hint;
use crate::estimates::{Curve, ServiceTime};
use crate::fairness::charge;
use crate::ticket::Place;
use crate::work::Work;
use crate::{BatchId, BatchOptions, CLASSES, Error, Fairness, ModelId, Prompt, TenantId, TicketId};
use std::collections::BTreeMap;
use std::time::Duration;

/// What was foreseen to be below this part of the bound, with its margin, teaches nothing: one prompt more or less makes
/// much of it.
const TELLING: f64 = 0.5;
/// What was learned of models of which nothing waits is kept for so many.
const MODELS_KEPT: usize = 1_024;
/// By which work is measured for a model that no backend serves.
const UNSERVED: ServiceTime = ServiceTime { prefill: Curve { c0: 1.0, c1: 0.0, c2: 0.0 }, decode_ns: 0.0 };

/// What is foreseen for the prompts of one batch, by model and class.
pub(super) type ForeseenWaits = BTreeMap<(ModelId, u32), (Foreseen, u64)>;

impl Scheduler {
    fn limits_waits(&self) -> bool {
        self.config.queue_limit_ns > 0
    }

    /// How long the prompts of a batch will wait. Refuses them all when one would wait too long.
    pub(super) fn foresee(
        &mut self,
        batch: BatchId,
        prompts: &[Prompt],
        options: &BatchOptions,
    ) -> Result<ForeseenWaits, Error> {
        let limit_ns = self.config.queue_limit_ns;
        let mut waits = BTreeMap::new();
        if !self.limits_waits() {
            return Ok(waits);
        }
        let known = self.batches.find(batch).map(|slot| self.batches[slot].tenant);
        let (tenant, weight) = match self.config.fairness {
            Fairness::None => (0, 1),
            _ => (known.unwrap_or(options.tenant), options.weight.max(1)),
        };
        let mut models: BTreeMap<ModelId, [Coming; CLASSES]> = BTreeMap::new();
        for prompt in prompts {
            let coming = &mut models.entry(prompt.model).or_default()[prompt.class as usize];
            coming.work += Work::of(prompt.tokens);
            coming.charge += charge(prompt.tokens, prompt.output_tokens);
        }
        for (model, coming) in models {
            let service = self.fastest(model).unwrap_or(UNSERVED);
            let Some(backlog) = self.backlogs.get_mut(&model) else { continue };
            for class in (0..CLASSES as u8).filter(|&class| coming[usize::from(class)].charge > 0) {
                let owner = Owner { class, tenant, weight, is_closed: false };
                let has_share = self.class_shares.has_share(class);
                let foreseen = backlog.foresee(self.now_ns, owner, &coming, &service, has_share, limit_ns);
                if let Some(foreseen) = foreseen {
                    let prompts = coming[usize::from(class)].work.prompts;
                    waits.insert((model, u32::from(class)), (foreseen, prompts));
                }
            }
        }
        if !options.may_wait {
            let checked = self.check_waits(prompts.len(), &waits);
            checked.inspect_err(|_| self.counters.refused += prompts.len() as u64)?;
        }
        Ok(waits)
    }

    fn check_waits(&self, prompts: usize, waits: &ForeseenWaits) -> Result<(), Error> {
        let limit_ns = self.config.queue_limit_ns;
        let all = || waits.values().map(|(foreseen, _)| foreseen);
        let alone_ns = all().map(|foreseen| foreseen.alone_ns).fold(0.0, f64::max);
        if alone_ns > limit_ns as f64 {
            return Err(Error::BatchTooLong { prompts, wait_ns: told_ns(alone_ns), limit_ns });
        }
        // What has nothing ahead of it does not wait.
        let waits = all().filter(|foreseen| foreseen.last_ns > 0.0);
        let wait_ns = waits.map(|foreseen| foreseen.last_ns + foreseen.margin_ns).fold(0.0, f64::max);
        if wait_ns > limit_ns as f64 {
            let retry_after = hint((wait_ns - limit_ns as f64) / 1e9);
            let retry_after_ns = retry_after.as_nanos() as u64;
            return Err(Error::WaitTooLong { prompts, wait_ns: told_ns(wait_ns), limit_ns, retry_after_ns });
        }
        Ok(())
    }

    /// Notes on the tickets what was foreseen, where only the queue will keep them.
    pub(super) fn note_foreseen(&mut self, waits: ForeseenWaits, prompts: &[Prompt], tickets: &[TicketId]) {
        let telling_ns = self.config.queue_limit_ns as f64 * TELLING;
        for ((model, class), (foreseen, count)) in waits {
            let telling_ns = telling_ns - foreseen.margin_ns;
            if foreseen.last_ns < telling_ns {
                continue;
            }
            let step_ns = (foreseen.last_ns - foreseen.first_ns) / count.saturating_sub(1).max(1) as f64;
            let own = prompts.iter().zip(tickets).filter(|(p, _)| (p.model, p.class) == (model, class));
            for (at, (_, id)) in own.enumerate() {
                let foreseen_ns = foreseen.first_ns + step_ns * at as f64;
                let slot = id.slot();
                let is_free = self.tickets[slot].place != Place::Barred
                    && self.tenant_limits.find(self.tenant_of(slot)).is_none();
                if is_free && foreseen_ns >= telling_ns {
                    self.foreseen_ns.insert(*id, foreseen_ns);
                }
            }
        }
    }

    /// A ticket has been put into its bucket.
    pub(super) fn enter_backlog(&mut self, slot: u32) {
        if self.limits_waits() {
            let (now_ns, owner, model, work, charge) = self.in_backlog(slot);
            if self.backlogs.len() >= MODELS_KEPT && !self.backlogs.contains_key(&model) {
                self.backlogs.retain(|_, backlog| !backlog.is_empty());
            }
            self.backlogs.entry(model).or_default().enter(now_ns, owner, work, charge);
        }
    }

    /// A ticket is about to be taken out of its bucket.
    pub(super) fn leave_backlog(&mut self, slot: u32, is_release: bool) {
        if self.limits_waits() {
            let (now_ns, owner, model, work, charge) = self.in_backlog(slot);
            let backlog = self.backlogs.get_mut(&model).expect("what waits has its backlog");
            backlog.leave(now_ns, owner, work, charge, is_release);
            let ticket = &self.tickets[slot];
            if let Some(foreseen_ns) = self.foreseen_ns.remove(&ticket.id).filter(|_| is_release) {
                let waited_ns = (now_ns - ticket.arrival_ns) as f64;
                backlog.waited(ticket.class, foreseen_ns, waited_ns, self.config.queue_limit_ns);
            }
        }
    }

    fn in_backlog(&self, slot: u32) -> (u64, Owner, ModelId, Work, u64) {
        let ticket = &self.tickets[slot];
        let tenant = self.flows.tenant_of(ticket.flow);
        let owner = Owner {
            class: ticket.class,
            tenant: tenant.id,
            weight: tenant.weight,
            is_closed: tenant.is_closed,
        };
        let model = self.groups[ticket.group].key.model;
        let charge = charge(ticket.tokens, ticket.output_tokens);
        (self.now_ns, owner, model, Work::of(ticket.tokens), charge)
    }

    pub(super) fn close_in_backlogs(&mut self, tenant: TenantId, is_closed: bool) {
        for backlog in self.backlogs.values_mut() {
            backlog.set_closed(self.now_ns, tenant, is_closed);
        }
    }
}

/// A wait as it is told: at most a day, because it is endless while nothing is released.
fn told_ns(wait_ns: f64) -> u64 {
    const DAY: Duration = Duration::from_hours(24);
    Duration::try_from_secs_f64(wait_ns / 1e9).map_or(DAY, |wait| wait.min(DAY)).as_nanos() as u64
}
