//! Who waits: the tenants of each class, their flows, and the queues of these, in the order of what each has had.

mod closing;

use crate::account::units;
use crate::fair_tree::{FairTree, Rank};
use crate::groups::Groups;
use crate::opening::Span;
use crate::queue::{BucketKey, Queue};
use crate::slab::Slab;
use crate::tenant::{Cell, Flow, Tenant};
use crate::ticket::NONE;
use crate::tight;
use crate::{CLASSES, TenantId};
use std::collections::{BTreeMap, BTreeSet};

/// Most tenants without tickets whose service is remembered; those nearest to the others are forgotten first.
const REMEMBERED_MAX: usize = 16_384;

#[derive(Debug, Default)]
pub(crate) struct Flows {
    /// For how long a rank stays, in units.
    turn: u64,
    tenants: Vec<Tenant>,
    free_tenants: Vec<u32>,
    by_tenant: BTreeMap<(u8, TenantId), u32>,
    slots: Vec<Flow>,
    free: Vec<u32>,
    /// What tenants that begin to wait are lifted to: the highest `Account::clock` of those chosen.
    clocks: [u64; CLASSES],
    users: [u32; CLASSES],
    /// Tenants without tickets that have had more than the clock.
    remembered: [BTreeSet<(u64, u32)>; CLASSES],
    serial: u64,
    /// Out of contention in every class, those too in which they are not known.
    closed: BTreeSet<TenantId>,
    /// The bucket whose head is yet to be read: flow, group and key.
    unread: Option<(u32, u32, BucketKey)>,
    /// Closed tenants of which a ticket came or went: to be looked at again.
    pub(crate) reconsider: BTreeSet<TenantId>,
}

impl Flows {
    pub(crate) fn new(turn_tokens: u32) -> Self {
        Self { turn: units(u64::from(turn_tokens), 1), ..Self::default() }
    }

    pub(crate) fn flow(&self, flow: u32) -> &Flow {
        &self.slots[flow as usize]
    }

    pub(crate) fn flow_mut(&mut self, flow: u32) -> &mut Flow {
        &mut self.slots[flow as usize]
    }

    pub(crate) fn tenant(&self, tenant: u32) -> &Tenant {
        &self.tenants[tenant as usize]
    }

    pub(crate) fn tenant_of(&self, flow: u32) -> &Tenant {
        self.tenant(self.flow(flow).tenant)
    }

    pub(crate) fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.by_tenant.values().map(|&tenant| self.tenant(tenant))
    }

    /// The tenant in this class, made when it is new; the weight given last counts.
    pub(crate) fn find_tenant(&mut self, class: u8, id: TenantId, weight: u32) -> u32 {
        let tenant = self.by_tenant.get(&(class, id)).copied();
        let tenant = tenant.unwrap_or_else(|| self.insert_tenant(class, id));
        self.set_weight(tenant, weight);
        tenant
    }

    pub(crate) fn set_weight(&mut self, tenant: u32, weight: u32) {
        self.tenants[tenant as usize].weight = weight.max(1);
    }

    /// The common flow of a tenant's small batches.
    pub(crate) fn pool_of(&mut self, tenant: u32) -> u32 {
        let pool = self.tenants[tenant as usize].pool;
        if pool != NONE {
            return pool;
        }
        let pool = self.insert_flow(tenant, None);
        self.tenants[tenant as usize].pool = pool;
        pool
    }

    /// The tenant may have been forgotten while the flow had no tickets: then both begin anew, in the same slot or not.
    pub(crate) fn rehome(&mut self, flow: u32, tenant: u32) {
        let serial = self.tenant(tenant).serial;
        let flow = self.flow_mut(flow);
        if flow.tenant_serial != serial {
            debug_assert_eq!(flow.users, 0, "a tenant with tickets is not forgotten");
            *flow = Flow::new(tenant, serial, flow.batch);
        }
    }

    /// A large batch's own flow.
    pub(crate) fn insert_own(&mut self, tenant: u32, batch: u32) -> u32 {
        self.insert_flow(tenant, Some(batch))
    }

    /// The batch of this flow has no tickets left.
    pub(crate) fn remove_own(&mut self, flow: u32) {
        self.free.push(flow);
    }

    /// So many more tickets of this flow.
    pub(crate) fn enter(&mut self, flow: u32, count: u32) {
        let flow = self.flow_mut(flow);
        flow.users += count;
        let tenant_slot = flow.tenant;
        let tenant = &mut self.tenants[tenant_slot as usize];
        let class = usize::from(tenant.class);
        if tenant.users == 0 {
            self.remembered[class].remove(&(tenant.account.settled(), tenant_slot));
        }
        tenant.users += count;
        self.users[class] += count;
    }

    /// A ticket of this flow has ended.
    pub(crate) fn leave(&mut self, flow_slot: u32) {
        let flow = self.flow_mut(flow_slot);
        flow.users -= 1;
        let tenant_slot = flow.tenant;
        let tenant = &mut self.tenants[tenant_slot as usize];
        tenant.users -= 1;
        let (class, is_idle, settled) = (tenant.class, tenant.users == 0, tenant.account.settled());
        let class = usize::from(class);
        self.users[class] -= 1;
        if is_idle {
            self.remembered[class].insert((settled, tenant_slot));
            self.forget(class);
        }
    }

    /// Puts a ticket into its bucket.
    pub(crate) fn push(&mut self, groups: &mut Groups, tickets: &mut Slab, slot: u32) {
        let (flow_slot, group) = (tickets[slot].flow, tickets[slot].group);
        self.wake(flow_slot);
        let flow = &mut self.slots[flow_slot as usize];
        flow.waiting += 1;
        let tenant = &mut self.tenants[flow.tenant as usize];
        tenant.waiting += 1;
        if tenant.is_closed {
            self.reconsider.insert(tenant.id);
        }
        let (queue, old) = match flow.queues.binary_search_by_key(&group, |queue| queue.group) {
            Ok(at) => {
                let old = flow.queues[at].span();
                (&mut flow.queues[at], Some(old))
            }
            Err(at) => {
                tight::insert(&mut flow.queues, at, Queue::new(group));
                (&mut flow.queues[at], None)
            }
        };
        queue.push(tickets, slot);
        let new = Some(queue.span());
        if old != new {
            self.set_span(groups, flow_slot, group, old, new);
        }
    }

    /// Moves a ticket to another bucket of the same prompt tokens.
    pub(crate) fn change_key(&mut self, tickets: &mut Slab, slot: u32, key: BucketKey) {
        let (flow, group) = (tickets[slot].flow, tickets[slot].group);
        let queues = &mut self.slots[flow as usize].queues;
        let at = queues.binary_search_by_key(&group, |queue| queue.group);
        let queue = &mut queues[at.expect("a waiting ticket has its queue")];
        queue.take(tickets, slot, false);
        tickets[slot].key = key;
        queue.push(tickets, slot);
    }

    /// Takes a ticket out of its bucket; the caller says where it is now. After a release [`Self::read_head`] comes before
    /// the next choice.
    pub(crate) fn take(&mut self, groups: &mut Groups, tickets: &mut Slab, slot: u32, is_release: bool) {
        let key = tickets[slot].key;
        let (flow_slot, group) = (tickets[slot].flow, tickets[slot].group);
        let flow = &mut self.slots[flow_slot as usize];
        let tenant = &mut self.tenants[flow.tenant as usize];
        flow.waiting -= 1;
        tenant.waiting -= 1;
        if flow.waiting == 0 && flow.batch.is_some() {
            tenant.own_waiting -= 1;
        }
        if tenant.is_closed {
            self.reconsider.insert(tenant.id);
        }
        let at = flow.queues.binary_search_by_key(&group, |queue| queue.group);
        let at = at.expect("a waiting ticket has its queue");
        let queue = &mut flow.queues[at];
        let old = Some(queue.span());
        let is_unread = queue.take(tickets, slot, is_release);
        let new = (!queue.is_empty()).then(|| queue.span());
        if new.is_none() {
            flow.queues.remove(at);
        }
        if old != new {
            self.set_span(groups, flow_slot, group, old, new);
        }
        if is_unread {
            debug_assert!(self.unread.is_none(), "a choice comes before each release");
            self.unread = Some((flow_slot, group, key));
        }
    }

    /// Reads the head that follows the last release in its bucket.
    pub(crate) fn read_head(&mut self, tickets: &Slab) {
        let Some((flow, group, key)) = self.unread.take() else { return };
        if let Some(queue) = self.flow_mut(flow).queue_mut(group) {
            queue.read_head(tickets, key);
        }
    }

    /// A ticket of this flow is released: its estimate counts from now on.
    pub(crate) fn charge(&mut self, groups: &mut Groups, flow: u32, tokens: u64) {
        let tenant = self.flow(flow).tenant;
        let flow_clock = self.flow(flow).account.clock();
        self.flow_mut(flow).account.charge(tokens);
        let holder = &mut self.tenants[tenant as usize];
        holder.account.charge(tokens);
        holder.clock = holder.clock.max(flow_clock);
        let (class, clock) = (usize::from(holder.class), holder.account.clock());
        if clock > self.clocks[class] {
            self.clocks[class] = clock;
            self.forget(class);
        }
        self.rank_anew(groups, flow);
    }

    /// What was charged at release turned out to be `used`: nothing, for a refund.
    pub(crate) fn settle(&mut self, groups: &mut Groups, flow: u32, charged: u64, used: u64) {
        let tenant = self.flow(flow).tenant as usize;
        let weight = self.flow(flow).batches;
        self.flow_mut(flow).account.settle(charged, used, weight);
        let shares = self.waiting_shares(tenant);
        let holder = &mut self.tenants[tenant];
        holder.used_tokens = holder.used_tokens.saturating_add(used);
        holder.account.settle(charged, used, holder.weight);
        // Each batch that begins to wait is new, so the clock must go on by itself: with the service that each of those
        // that wait is due. Otherwise newcomers for ever would pass the rest for ever.
        if shares > 0 {
            holder.clock = holder.clock.saturating_add(units(used, shares));
        }
        self.rank_anew(groups, flow);
    }

    fn waiting_shares(&self, tenant: usize) -> u32 {
        let tenant = &self.tenants[tenant];
        let pool = self.slots.get(tenant.pool as usize).filter(|pool| pool.waiting > 0);
        tenant.own_waiting + pool.map_or(0, |pool| pool.batches)
    }

    fn wake(&mut self, flow_slot: u32) {
        let flow = &mut self.slots[flow_slot as usize];
        if flow.waiting > 0 {
            return;
        }
        let tenant = &mut self.tenants[flow.tenant as usize];
        self.serial += 2;
        flow.account.wake(tenant.clock, self.serial, flow.batches);
        tenant.own_waiting += u32::from(flow.batch.is_some());
        if tenant.waiting == 0 {
            let clock = self.clocks[usize::from(tenant.class)];
            tenant.account.wake(clock, self.serial + 1, tenant.weight);
        }
    }

    /// Tells the trees that the flow's buckets in this group have changed.
    fn set_span(&mut self, groups: &mut Groups, flow: u32, group: u32, old: Option<Span>, new: Option<Span>) {
        let rank = self.flow(flow).account.rank;
        let tenant_slot = self.flow(flow).tenant;
        let tenant = &mut self.tenants[tenant_slot as usize];
        let at = match tenant.cells.binary_search_by_key(&group, |cell| cell.group) {
            Ok(at) => at,
            Err(at) => {
                tight::insert(&mut tenant.cells, at, Cell { group, flows: FairTree::new() });
                at
            }
        };
        let flows = &mut tenant.cells[at].flows;
        let old_cover = flows.cover();
        change_span(flows, rank, flow, old, new);
        let new_cover = flows.cover();
        if new_cover.is_none() {
            tenant.cells.remove(at);
        }
        if !tenant.is_closed {
            let rank = tenant.account.rank;
            change_span(&mut groups[group].tenants, rank, tenant_slot, old_cover, new_cover);
        }
    }

    /// Moves a flow and its tenant to where they now belong.
    fn rank_anew(&mut self, groups: &mut Groups, flow_slot: u32) {
        let flow = &mut self.slots[flow_slot as usize];
        let tenant = &mut self.tenants[flow.tenant as usize];
        let (old, new) = (flow.account.rank, flow.account.new_rank(flow.batches, self.turn));
        if old != new && flow.waiting > 0 {
            flow.account.move_to(new);
            for queue in &flow.queues {
                let at = tenant.cells.binary_search_by_key(&queue.group, |cell| cell.group);
                let cell = &mut tenant.cells[at.expect("a queue has its cell")];
                cell.flows.move_to(old, new);
            }
        }
        let (old, new) = (tenant.account.rank, tenant.account.new_rank(tenant.weight, self.turn));
        if old != new && tenant.waiting > 0 {
            tenant.account.move_to(new);
            if tenant.is_closed {
                return;
            }
            for cell in &tenant.cells {
                groups[cell.group].tenants.move_to(old, new);
            }
        }
    }

    /// Drops tenants without tickets whose service makes no difference any more.
    fn forget(&mut self, class: usize) {
        while let Some(&(settled, tenant)) = self.remembered[class].first() {
            let makes_no_difference = settled <= self.clocks[class] || self.users[class] == 0;
            if !makes_no_difference && self.remembered[class].len() <= REMEMBERED_MAX {
                return;
            }
            self.remembered[class].pop_first();
            let gone = &self.tenants[tenant as usize];
            self.by_tenant.remove(&(gone.class, gone.id));
            if gone.pool != NONE {
                self.free.push(gone.pool);
            }
            self.free_tenants.push(tenant);
        }
    }

    fn insert_tenant(&mut self, class: u8, id: TenantId) -> u32 {
        self.serial += 2;
        let tenant = Tenant { is_closed: self.closed.contains(&id), ..Tenant::new(class, id, self.serial) };
        let slot = if let Some(slot) = self.free_tenants.pop() {
            self.tenants[slot as usize] = tenant;
            slot
        } else {
            tight::push(&mut self.tenants, tenant);
            self.tenants.len() as u32 - 1
        };
        self.by_tenant.insert((class, id), slot);
        slot
    }

    fn insert_flow(&mut self, tenant: u32, batch: Option<u32>) -> u32 {
        let flow = Flow::new(tenant, self.tenant(tenant).serial, batch);
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = flow;
            return slot;
        }
        tight::push(&mut self.slots, flow);
        self.slots.len() as u32 - 1
    }
}

fn change_span(tree: &mut FairTree, rank: Rank, id: u32, old: Option<Span>, new: Option<Span>) {
    match (old, new) {
        (None, Some(span)) => tree.insert(rank, id, span),
        (Some(old), Some(span)) if old != span => tree.set_span(rank, span),
        (Some(_), None) => tree.remove(rank),
        _ => {}
    }
}
