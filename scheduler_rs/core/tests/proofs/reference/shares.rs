//! Who goes next among tenants, and among the flows of a tenant: what each has had, turns, and where newcomers begin.
//!
//! Worked out again from every submit, release and end, and from the times at which tenants were closed. It needs to
//! know who waits in a bucket, so it holds as long as nothing but backends and the limits of tenants keeps a waiting
//! prompt back.

use super::closing::Closings;
use super::{End, Item, Reference, Request, Used};
use std::collections::BTreeMap;

/// Virtual tokens are counted in this fraction, rounded up.
const UNIT: u64 = 4_096;
/// A turn ends after so many tokens, or releases.
const TURN_TOKENS: u64 = 8_192;
const TURN_RELEASES: u32 = 4;

/// The small batches of a tenant in a class together, or one large batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) class: u32,
    pub(crate) tenant: u32,
    pub(crate) batch: Option<u64>,
}

/// What one has had when its turn began, whether it has had a turn since it began to wait, and when it did.
type Rank = (u64, bool, u64);

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    settled: u64,
    /// Estimates of what is in flight, in tokens.
    pending: u64,
    turn_releases: u32,
    rank: Rank,
    waiting: u32,
}

fn units(tokens: u64, weight: u32) -> u64 {
    (tokens * UNIT).div_ceil(u64::from(weight.max(1)))
}

impl Account {
    fn had(&self, weight: u32) -> u64 {
        self.settled + units(self.pending, weight)
    }

    fn wake(&mut self, clock: u64, serial: u64, weight: u32) {
        self.settled = self.settled.max(clock);
        self.rank = (self.had(weight), false, serial);
        self.turn_releases = 0;
    }

    /// Its turn is over, or it has had less than was believed.
    fn rank_anew(&mut self, weight: u32) {
        let had = self.had(weight);
        let (began, had_a_turn, serial) = self.rank;
        let is_over =
            had > began + units(TURN_TOKENS, 1) || had >= began && self.turn_releases >= TURN_RELEASES;
        if self.waiting > 0 && (had < began || is_over) {
            self.rank = (had, had_a_turn || had >= began, serial);
            self.turn_releases = 0;
        }
    }

    /// Where those that begin to wait while it is served are lifted to.
    fn clock(&self) -> u64 {
        self.settled.min(self.rank.0)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tenant {
    account: Account,
    weight: u32,
    clock: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Shares {
    tenants: BTreeMap<(u32, u32), Tenant>,
    flows: BTreeMap<Flow, Account>,
    clocks: [u64; 3],
    serial: u64,
    pub(super) closings: Closings,
    /// Something else than backends and limits of tenants has kept a prompt back.
    pub(crate) is_lost: bool,
}

impl Reference {
    /// The place of a waiting prompt's tenant and flow: the lowest goes first.
    pub(crate) fn share_rank(&self, item: &Item) -> (Rank, Rank) {
        let flow = item.flow;
        (self.shares.tenants[&(flow.class, flow.tenant)].account.rank, self.shares.flows[&flow].rank)
    }

    /// A flow's shares of its tenant: a large batch has one, all small ones have one each.
    fn shares_of(&self, flow: Flow) -> u32 {
        let mut batches: Vec<u64> =
            self.items.iter().filter(|item| item.flow == flow).map(|item| item.batch).collect();
        batches.dedup();
        batches.sort_unstable();
        batches.dedup();
        if flow.batch.is_some() { 1 } else { batches.len() as u32 }
    }

    pub(crate) fn set_weight(&mut self, class: u32, tenant: u32, weight: u32) {
        let weight = if self.rules.sharing == super::Sharing::None { 1 } else { weight.max(1) };
        self.shares.tenants.entry((class, tenant)).or_default().weight = weight;
    }

    /// A prompt of this flow, one of the items by now, begins to wait.
    pub(crate) fn join_waiting(&mut self, flow: Flow) {
        let weight = self.shares_of(flow);
        self.reconsider(flow.tenant);
        let shares = &mut self.shares;
        let tenant = shares.tenants.entry((flow.class, flow.tenant)).or_default();
        let account = shares.flows.entry(flow).or_default();
        if account.waiting == 0 {
            shares.serial += 1;
            account.wake(tenant.clock, shares.serial, weight);
            if tenant.account.waiting == 0 {
                tenant.account.wake(shares.clocks[flow.class as usize], shares.serial, tenant.weight);
            }
        }
        account.waiting += 1;
        tenant.account.waiting += 1;
    }

    /// A tenant that was closed begins to wait anew in each class in which it waits.
    pub(super) fn wake_tenant(&mut self, tenant: u32) {
        let shares = &mut self.shares;
        for class in 0..3 {
            let Some(tenant) = shares.tenants.get_mut(&(class, tenant)) else { continue };
            if tenant.account.waiting > 0 {
                shares.serial += 1;
                tenant.account.wake(shares.clocks[class as usize], shares.serial, tenant.weight);
            }
        }
    }

    /// Whether a tenant waits in any class.
    pub(super) fn is_tenant_waiting(&self, tenant: u32) -> bool {
        let tenants = self.shares.tenants.iter().filter(|((_, id), _)| *id == tenant);
        tenants.into_iter().any(|(_, tenant)| tenant.account.waiting > 0)
    }

    pub(crate) fn leave_waiting(&mut self, flow: Flow) {
        self.reconsider(flow.tenant);
        let shares = &mut self.shares;
        shares.flows.get_mut(&flow).expect("it waits").waiting -= 1;
        shares.tenants.get_mut(&(flow.class, flow.tenant)).expect("it waits").account.waiting -= 1;
    }

    /// What waits of a batch that has become large moves to its own flow, prompt by prompt.
    pub(crate) fn separate(&mut self, batch: u64, class: u32) {
        let waits = |item: &&Item| item.batch == batch && item.request.class == class && item.is_waiting();
        for id in self.items.iter().filter(waits).map(|item| item.id).collect::<Vec<_>>() {
            let flow = self.item(id).expect("it waits").flow;
            self.leave_waiting(flow);
            let own = Flow { batch: Some(batch), ..flow };
            self.item_mut(id).expect("it waits").flow = own;
            self.join_waiting(own);
        }
    }

    /// A release: its estimate counts from now on.
    pub(crate) fn charge_share(&mut self, item: &Item) {
        let flow = item.flow;
        self.leave_waiting(flow);
        let weight = self.shares_of(flow);
        let tokens = Request::charge(item.request.tokens, item.request.output_tokens);
        let shares = &mut self.shares;
        let account = shares.flows.get_mut(&flow).expect("it waited");
        let tenant = shares.tenants.get_mut(&(flow.class, flow.tenant)).expect("it waited");
        tenant.clock = tenant.clock.max(account.clock());
        for account in [&mut *account, &mut tenant.account] {
            account.pending += tokens;
            account.turn_releases += 1;
        }
        let clock = &mut shares.clocks[flow.class as usize];
        *clock = (*clock).max(tenant.account.clock());
        account.rank_anew(weight);
        tenant.account.rank_anew(tenant.weight);
        self.forget_shares(flow.class);
    }

    /// The end of an attempt: what it really cost replaces the estimate. `end` is none for a retry.
    pub(crate) fn settle_share(&mut self, item: &Item, end: Option<End>, usage: Option<Used>) {
        let flow = item.flow;
        let (input, output) = (item.request.tokens, item.request.output_tokens);
        let in_prefill = item.flight().is_some_and(|flight| flight.in_prefill);
        let used = match (usage, end) {
            (Some(used), _) => used.service(),
            (None, None | Some(End::Failed)) if in_prefill => 0,
            (None, Some(End::Cancelled | End::Expired)) if in_prefill => Request::charge(input, 0),
            (None, _) => Request::charge(input, output),
        };
        let weight = self.shares_of(flow);
        let with_work = self.shares.flows.iter().filter(|(other, account)| {
            (other.class, other.tenant) == (flow.class, flow.tenant) && account.waiting > 0
        });
        let shares_waiting: u32 = with_work.map(|(&other, _)| self.shares_of(other)).sum();
        let shares = &mut self.shares;
        let account = shares.flows.get_mut(&flow).expect("it was charged");
        let tenant = shares.tenants.get_mut(&(flow.class, flow.tenant)).expect("it was charged");
        if shares_waiting > 0 {
            tenant.clock += units(used, shares_waiting);
        }
        for (account, weight) in [(&mut *account, weight), (&mut tenant.account, tenant.weight)] {
            account.pending -= Request::charge(input, output);
            account.settled += units(used, weight);
            account.rank_anew(weight);
        }
    }

    /// A tenant without prompts is forgotten once the others have had as much, or are gone too.
    pub(crate) fn forget_shares(&mut self, class: u32) {
        let items = &self.items;
        let has_any = items.iter().any(|item| item.flow.class == class);
        let clock = self.shares.clocks[class as usize];
        let shares = &mut self.shares;
        shares.tenants.retain(|&(of_class, id), tenant| {
            let is_idle = !items.iter().any(|item| (item.flow.class, item.flow.tenant) == (of_class, id));
            of_class != class || !is_idle || tenant.account.settled > clock && has_any
        });
        let tenants = &shares.tenants;
        let groups = &self.groups;
        shares.flows.retain(|flow, _| {
            let is_alive = flow.batch.is_none_or(|batch| groups.iter().any(|group| group.id == batch));
            is_alive && tenants.contains_key(&(flow.class, flow.tenant))
        });
    }
}
