//! The choice: which bucket head goes next, among those that some backend can take.

use super::Scheduler;
use crate::CLASSES;
use crate::backend::Backend;
use crate::fair_tree::Rank;
use crate::group::Route;
use crate::opening::Opening;
use crate::policy::Policy;
use crate::queue::{Bucket, BucketKey, Queue};
use crate::reservation::Reservation;
use crate::ticket::TicketId;
use std::cmp::Ordering;

/// A bucket head with what it is chosen by, at this moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) class: u8,
    pub(super) tenant: Rank,
    pub(super) flow_rank: Rank,
    pub(super) policy: Policy,
    pub(super) score: f64,
    pub(super) ticket: TicketId,
    pub(super) flow: u32,
    pub(super) group: u32,
    pub(super) key: BucketKey,
}

impl Candidate {
    /// Of two: strict class order, then the tenant and the flow that have had least, then score, then arrival. Scores
    /// of two policies are no measure of each other: then arrival decides.
    ///
    /// Three heads of two policies can go round in a circle by this. Who is first among many:
    /// [`Scheduler::best_of_flow`].
    pub(super) fn outranks(&self, other: &Self) -> bool {
        match self.flow_place().cmp(&other.flow_place()) {
            Ordering::Equal if self.policy == other.policy => self.is_before(other),
            Ordering::Equal => self.ticket < other.ticket,
            unequal => unequal == Ordering::Less,
        }
    }

    /// By the policy that both have: score, then arrival.
    fn is_before(&self, other: &Self) -> bool {
        self.score > other.score || (self.score >= other.score && self.ticket < other.ticket)
    }

    /// Where its flow stands among all.
    pub(super) fn flow_place(&self) -> (u8, Rank, Rank) {
        (self.class, self.tenant, self.flow_rank)
    }

    /// The bucket that decides where it fits.
    pub(super) fn bucket(&self) -> u8 {
        self.key.tokens()
    }
}

impl Scheduler {
    /// The best head of a class that is owed its share, or else of the highest class, that some backend can take.
    pub(super) fn choose(&mut self) -> Option<Candidate> {
        // Most polls come when all is full.
        self.may_have_room = self.may_have_room && self.backends.iter().any(Backend::has_room);
        if !self.may_have_room {
            return None;
        }
        self.flows.read_head(&self.tickets);
        let most = self.most_open();
        if self.class_shares.has_any() {
            for class in 0..CLASSES as u8 {
                if self.class_shares.is_owed(class)
                    && let Some(owed) = self.choose_in(class, most)
                {
                    // What it passes is judged by what the backends can take now.
                    self.look_above(class, most);
                    return Some(owed);
                }
            }
        }
        (0..CLASSES as u8).find_map(|class| self.choose_in(class, most))
    }

    /// Notes what the backends can take now for the groups of the classes above this one.
    fn look_above(&mut self, class: u8, most: [Opening; CLASSES]) {
        let mut kept = std::mem::take(&mut self.kept);
        for above in 0..class {
            self.look_at_backends(above, most[usize::from(above)], &mut kept);
        }
        kept.clear();
        self.kept = kept;
    }

    /// What some backend might take from some group of each class: what lies outside needs no closer look. One group
    /// of a class is looked at as fast.
    pub(super) fn most_open(&self) -> [Opening; CLASSES] {
        if (0..CLASSES as u8).all(|class| self.groups.of_class(class).len() <= 1) {
            return [Opening::ALL; CLASSES];
        }
        let mut most = [Opening::CLOSED; CLASSES];
        let mut common = Opening::CLOSED;
        for backend in self.backends.iter().filter(|backend| backend.has_room()) {
            // What is kept and fits by now lets one bucket more in.
            if backend.reservation.is_none() || backend.open_reservation().is_some() {
                common = common.union(backend.lanes.open());
                continue;
            }
            for (class, open) in (0..).zip(&mut most) {
                *open = open.union(backend.open_to(class));
            }
        }
        most.map(|open| open.union(common))
    }

    /// The tenant that has had least, of it the flow that has had least, of this the head with the best score: each
    /// among those that some backend can take.
    #[inline]
    pub(super) fn choose_in(&mut self, class: u8, most: [Opening; CLASSES]) -> Option<Candidate> {
        let mut kept = std::mem::take(&mut self.kept);
        let is_any_open = self.look_at_backends(class, most[usize::from(class)], &mut kept);
        let chosen = if is_any_open { self.choose_among(class, &kept) } else { None };
        kept.clear();
        self.kept = kept;
        chosen
    }

    fn choose_among(&self, class: u8, kept: &[Reservation]) -> Option<Candidate> {
        let contenders = self.groups.of_class(class).iter().filter_map(|&slot| {
            let group = &self.groups[slot];
            group.tenants.first(group.opening)
        });
        let reserved = kept.iter().map(|kept| {
            let tenant = self.flows.flow(kept.flow).tenant;
            (self.flows.tenant(tenant).account.rank, tenant)
        });
        let (_, tenant) = first_of(contenders, reserved)?;
        let cells = self.flows.tenant(tenant).cells.iter();
        let contenders = cells.filter_map(|cell| cell.flows.first(self.groups[cell.group].opening));
        let reserved = kept.iter().filter(|kept| self.flows.flow(kept.flow).tenant == tenant);
        let reserved = reserved.map(|kept| (self.flows.flow(kept.flow).account.rank, kept.flow));
        let (_, flow) = first_of(contenders, reserved).expect("a tenant in the opening has a flow in it");
        self.best_of_flow(flow, kept)
    }

    /// Notes for each group of the class what some backend can take now, and what is kept and fits by now. Returns
    /// whether some backend might take anything.
    fn look_at_backends(&mut self, class: u8, most: Opening, kept: &mut Vec<Reservation>) -> bool {
        let mut is_any_open = false;
        for at in 0..self.groups.of_class(class).len() {
            let slot = self.groups.of_class(class)[at];
            if let Some(cover) = self.groups[slot].tenants.cover() {
                let is_open = most.admits(cover);
                self.groups[slot].opening = if is_open { self.opening(slot, kept) } else { Opening::CLOSED };
                is_any_open |= is_open;
            }
        }
        is_any_open
    }

    /// What at least one backend can take from this group.
    fn opening(&self, slot: u32, kept: &mut Vec<Reservation>) -> Opening {
        let group = &self.groups[slot];
        let mut opening = Opening::CLOSED;
        for &route in &group.routes {
            let backend = &self.backends[route.backend as usize];
            if backend.has_slot(route.model_slot) && self.may_go(group, route) {
                opening = opening.union(backend.open_to(group.key.class));
                kept.extend(backend.open_reservation().filter(|kept| kept.group == slot));
            }
        }
        opening
    }

    /// Of each policy in the flow the best head, of these the one that came first.
    ///
    /// So the order is one of the heads, whatever their groups are numbered, and nothing of another policy passes a
    /// head that came before it, but where its own policy puts a later one before it (see [`crate::policy`]).
    fn best_of_flow(&self, flow: u32, kept: &[Reservation]) -> Option<Candidate> {
        let queues = &self.flows.flow(flow).queues;
        if let [queue] = queues.as_slice() {
            return self.best_of_queue(flow, queue, kept);
        }
        let policy_of = |queue: &Queue| self.groups[queue.group].policy;
        let mut first: Option<Candidate> = None;
        for (at, queue) in queues.iter().enumerate() {
            let policy = policy_of(queue);
            if queues[..at].iter().any(|earlier| policy_of(earlier) == policy) {
                continue;
            }
            let of_policy = queues[at..].iter().filter(|queue| policy_of(queue) == policy);
            let heads = of_policy.filter_map(|queue| self.best_of_queue(flow, queue, kept));
            let best = heads.reduce(|best, head| if head.is_before(&best) { head } else { best });
            // One that its batch holds must not stand for its policy: it is moved away, then all are looked at again.
            let is_first = |head: &Candidate| (!self.is_beyond_horizon(head), head.ticket);
            first =
                first.into_iter().chain(best).reduce(|a, b| if is_first(&b) < is_first(&a) { b } else { a });
        }
        first
    }

    #[inline]
    fn best_of_queue(&self, flow: u32, queue: &Queue, kept: &[Reservation]) -> Option<Candidate> {
        let group = &self.groups[queue.group];
        let opening = group.opening;
        let best = if kept.is_empty() {
            queue.best(group, self.now_ns, |bucket| opening.contains(bucket))
        } else {
            let own = (flow, queue.group);
            let is_kept =
                |bucket| kept.iter().any(|kept| (kept.flow, kept.group) == own && kept.bucket == bucket);
            queue.best(group, self.now_ns, |bucket| opening.contains(bucket) || is_kept(bucket))
        };
        best.map(|(score, bucket)| self.candidate(flow, queue.group, bucket, score))
    }

    /// The buckets of a group that only a short budget (or what it is kept for) keeps back.
    pub(super) fn unfit(&self, slot: u32, budgeted: u8) -> std::ops::Range<u8> {
        let opening = self.groups[slot].opening;
        opening.below..budgeted.min(opening.from)
    }

    /// The best-scored head of a flow in a group that only a short budget (or what it is kept for) keeps back.
    pub(super) fn best_unfit(&self, flow: u32, slot: u32, budgeted: u8) -> Option<Candidate> {
        let group = &self.groups[slot];
        let unfit = self.unfit(slot, budgeted);
        let queue = self.flows.flow(flow).queue(slot)?;
        let (score, bucket) = queue.best(group, self.now_ns, |bucket| unfit.contains(&bucket))?;
        Some(self.candidate(flow, slot, bucket, score))
    }

    /// Whether some backend can take it now.
    pub(super) fn is_open(&self, head: &Candidate) -> bool {
        self.groups[head.group].routes.iter().any(|&route| self.takes(route, head))
    }

    pub(super) fn takes(&self, route: Route, head: &Candidate) -> bool {
        let backend = &self.backends[route.backend as usize];
        let is_kept = || {
            let kept = backend.open_reservation();
            kept.is_some_and(|kept| {
                (kept.flow, kept.group, kept.bucket) == (head.flow, head.group, head.bucket())
            })
        };
        backend.has_slot(route.model_slot)
            && self.may_go(&self.groups[head.group], route)
            && (backend.open_to(head.class).contains(head.bucket()) || is_kept())
    }

    /// A short budget can keep back the buckets below this one.
    pub(super) fn budgeted(&self, slot: u32) -> u8 {
        let group = &self.groups[slot];
        let routes = group.routes.iter().filter(|&&route| self.may_go(group, route));
        let with_slot = routes.filter_map(|route| {
            let backend = &self.backends[route.backend as usize];
            backend.has_slot(route.model_slot).then(|| backend.lanes.budgeted())
        });
        with_slot.max().unwrap_or(0)
    }

    pub(super) fn candidate(&self, flow: u32, slot: u32, bucket: &Bucket, score: f64) -> Candidate {
        let group = &self.groups[slot];
        Candidate {
            class: group.key.class,
            tenant: self.flows.tenant_of(flow).account.rank,
            flow_rank: self.flows.flow(flow).account.rank,
            policy: group.policy,
            score,
            ticket: bucket.head,
            flow,
            group: slot,
            key: bucket.key,
        }
    }
}

/// The lowest rank.
fn first_of(
    contenders: impl Iterator<Item = (Rank, u32)>,
    reserved: impl Iterator<Item = (Rank, u32)>,
) -> Option<(Rank, u32)> {
    let mut first = None;
    let mut consider = |contender| {
        if first.is_none_or(|first| contender < first) {
            first = Some(contender);
        }
    };
    contenders.for_each(&mut consider);
    reserved.for_each(&mut consider);
    first
}
