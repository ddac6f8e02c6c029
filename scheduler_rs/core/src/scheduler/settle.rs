//! Fairness accounts: which flow a ticket belongs to, and what the flow is charged for it.

use super::Scheduler;
use crate::fairness::charge;
use crate::ticket::{NONE, Place};
use crate::{Fairness, Outcome, POOLED_MAX, TenantId, Usage};

impl Scheduler {
    /// The flow for the `coming` prompts of a class that are submitted to a batch now.
    pub(super) fn flow_for(&mut self, class: u8, batch: u32, weight: u32, coming: usize) -> u32 {
        let known = self.batches[batch].flows[usize::from(class)];
        let is_shared = self.config.fairness != Fairness::None;
        let weight = if is_shared { weight } else { 1 };
        let tenant = if known.unfinished > 0 {
            self.flows.set_weight(known.tenant, weight);
            known.tenant
        } else {
            let tenant: TenantId = if is_shared { self.batches[batch].tenant } else { 0 };
            self.flows.find_tenant(class, tenant, weight)
        };
        self.batches[batch].flows[usize::from(class)].tenant = tenant;
        if self.config.fairness != Fairness::TenantBatch {
            return self.flows.pool_of(tenant);
        }
        if known.own != NONE {
            self.flows.rehome(known.own, tenant);
            return known.own;
        }
        if known.pooled as usize + coming <= POOLED_MAX as usize {
            return self.flows.pool_of(tenant);
        }
        self.separate(class, batch, tenant)
    }

    /// Gives a batch that has become large a flow of its own, and takes what waits of it out of the pool.
    fn separate(&mut self, class: u8, batch: u32, tenant: u32) -> u32 {
        let own = self.flows.insert_own(tenant, batch);
        self.batches[batch].flows[usize::from(class)].own = own;
        for slot in self.batches[batch].unfinished(&self.tickets) {
            if self.tickets[slot].class == class && self.tickets[slot].is_queued() {
                self.change_flow(slot, own);
            }
        }
        own
    }

    /// The flow of a ticket that comes back from an attempt, during which its batch may have become large.
    pub(super) fn rejoin_flow(&mut self, slot: u32) {
        let ticket = &self.tickets[slot];
        let own = self.batches[ticket.batch].flows[usize::from(ticket.class)].own;
        if own != NONE && own != ticket.flow {
            self.change_flow(slot, own);
        }
    }

    /// The batch has no tickets left.
    pub(super) fn drop_flows(&mut self, batch: u32) {
        for flows in self.batches[batch].flows {
            if flows.own != NONE {
                self.flows.remove_own(flows.own);
            }
        }
    }

    fn change_flow(&mut self, slot: u32, flow: u32) {
        let is_in_bucket = matches!(self.tickets[slot].place, Place::InFifo | Place::InOrder);
        if is_in_bucket {
            self.leave_backlog(slot, false);
            self.flows.take(&mut self.groups, &mut self.tickets, slot, false);
        }
        // Entered before it is left, so that the tenant is not forgotten in between.
        let ticket = &self.tickets[slot];
        self.enter_flow(flow, ticket.batch, ticket.class, 1);
        self.leave_flow(slot);
        self.tickets[slot].flow = flow;
        if is_in_bucket {
            self.return_to_bucket(slot);
            self.move_reservation_of(slot, flow);
        }
    }

    /// So many tickets of a batch join a flow.
    pub(super) fn enter_flow(&mut self, flow: u32, batch: u32, class: u8, count: u32) {
        self.flows.enter(flow, count);
        let flows = &mut self.batches[batch].flows[usize::from(class)];
        flows.unfinished += count;
        let flow = self.flows.flow_mut(flow);
        if flow.batch.is_none() {
            flow.batches += u32::from(flows.pooled == 0);
            flows.pooled += count;
        }
    }

    pub(super) fn leave_flow(&mut self, slot: u32) {
        let ticket = &self.tickets[slot];
        let (flow, batch, class) = (ticket.flow, ticket.batch, usize::from(ticket.class));
        let flows = &mut self.batches[batch].flows[class];
        flows.unfinished -= 1;
        let holder = self.flows.flow_mut(flow);
        if holder.batch.is_none() {
            flows.pooled -= 1;
            holder.batches -= u32::from(flows.pooled == 0);
        }
        self.flows.leave(flow);
    }

    pub(super) fn charge_flow(&mut self, slot: u32) {
        let ticket = &self.tickets[slot];
        let tokens = charge(ticket.tokens, ticket.output_tokens);
        self.flows.charge(&mut self.groups, ticket.flow, tokens);
    }

    /// The end of an attempt: what it really cost replaces the estimate.
    ///
    /// With a known usage, that; accounts leave out what was cached, limits do not. Without one, the estimate, but
    /// before the first token there was no output, and a failure there costs nothing. `outcome` is none for a retry.
    pub(super) fn settle_flow(&mut self, slot: u32, outcome: Option<Outcome>, usage: Option<Usage>) {
        let ticket = &self.tickets[slot];
        let in_prefill = self.attempt_of(slot).lane.is_some();
        let used = match (usage, outcome) {
            (Some(usage), _) => Some((usage.uncached_input_tokens, usage.output_tokens)),
            (None, None | Some(Outcome::Failed)) if in_prefill => None,
            (None, Some(Outcome::Cancelled | Outcome::Expired)) if in_prefill => Some((ticket.tokens, 0)),
            (None, _) => Some((ticket.tokens, ticket.output_tokens)),
        };
        let charged = charge(ticket.tokens, ticket.output_tokens);
        let used_charge = used.map_or(0, |(input, output)| charge(input, output));
        self.flows.settle(&mut self.groups, ticket.flow, charged, used_charge);
        let estimate = used.map_or(0, |(input, output)| u64::from(input) + u64::from(output));
        self.settle_tenant(slot, usage.map_or(estimate, Usage::limited_tokens));
        // A provider may have counted what failed: without its word, the estimate stands.
        if let Some(usage) = usage {
            self.settle_limits(slot, usage.limited_tokens());
        }
    }
}
