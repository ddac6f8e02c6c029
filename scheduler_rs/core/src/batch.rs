//! One batch: its tickets, its horizon and its deadlines.

use crate::roll::Roll;
use crate::slab::Slab;
use crate::slots::Slots;
use crate::ticket::{NEVER, NONE, TicketId, due_ns};
use crate::{BatchId, CLASSES, TenantId};
use std::collections::{BTreeMap, BTreeSet};

/// Where a batch's tickets of one class belong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchFlows {
    pub(crate) unfinished: u32,
    /// Those of them in the tenant's pool.
    pub(crate) pooled: u32,
    /// Its tenant in this class; good while there is anything unfinished.
    pub(crate) tenant: u32,
    /// Its own flow, once it was large.
    pub(crate) own: u32,
}

impl BatchFlows {
    const NONE: Self = Self { unfinished: 0, pooled: 0, tenant: NONE, own: NONE };
}

/// Known from the first submit until the last of its tickets has ended.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) id: BatchId,
    pub(crate) tenant: TenantId,
    /// All that have not ended but those in `asked`, in the order in which their present wait began.
    pub(crate) tickets: Roll,
    /// Those that a backend asked to wait: their queue time begins when that is over, so they have timers of their own.
    pub(crate) asked: Roll,
    pub(crate) len: u32,
    pub(crate) queued: u32,
    pub(crate) queue_timeout_ns: u64,
    pub(crate) deadline_ns: u64,
    /// Whether the deadline has yet to be acted on.
    pub(crate) deadline_pending: bool,
    /// The deadline that tickets in flight were last told of.
    pub(crate) overdue_reported_ns: u64,
    /// When a released ticket of this batch last ended or its horizon last moved, or the later end of what a backend asked
    /// for: from then on its tickets' queue time counts.
    pub(crate) restarted_ns: u64,
    /// When a backend asked one of its tickets to wait, the first since one ended; [`NEVER`] if none did.
    pub(crate) asked_ns: u64,
    /// The end of the longest such wait.
    pub(crate) asked_until_ns: u64,
    /// Prompts numbered from here on are not released.
    pub(crate) horizon: u32,
    /// (index, slot) of the tickets that were met beyond the horizon.
    pub(crate) held: BTreeSet<(u32, u32)>,
    /// Those that wait for earlier ones, in the order of their submit.
    pub(crate) barred: BTreeSet<TicketId>,
    /// Whether what is not barred is a sequential prompt.
    pub(crate) runs_sequential: bool,
    /// By class.
    pub(crate) flows: [BatchFlows; CLASSES],
    pub(crate) timer_ns: u64,
}

impl Batch {
    fn new(id: BatchId, tenant: TenantId) -> Self {
        Self {
            id,
            tenant,
            tickets: Roll::default(),
            asked: Roll::default(),
            len: 0,
            queued: 0,
            queue_timeout_ns: 0,
            deadline_ns: NEVER,
            deadline_pending: false,
            overdue_reported_ns: NEVER,
            restarted_ns: 0,
            asked_ns: NEVER,
            asked_until_ns: 0,
            horizon: u32::MAX,
            held: BTreeSet::new(),
            barred: BTreeSet::new(),
            runs_sequential: false,
            flows: [BatchFlows::NONE; CLASSES],
            timer_ns: NEVER,
        }
    }

    /// All that have not ended.
    pub(crate) fn unfinished(&mut self, tickets: &Slab) -> Vec<u32> {
        self.tickets.unfinished(tickets).chain(self.asked.unfinished(tickets)).collect()
    }

    /// Puts a ticket last on the roll that it belongs to, where a wait of it begins.
    pub(crate) fn push(&mut self, tickets: &Slab, slot: u32) {
        let roll = if tickets.course(slot).asked { &mut self.asked } else { &mut self.tickets };
        roll.push(tickets, slot, self.len);
    }

    /// The queue time of what waits begins anew at a time, unless it was to begin later.
    pub(crate) fn restart(&mut self, at_ns: u64) {
        self.restarted_ns = self.restarted_ns.max(at_ns);
    }

    /// A released ticket has ended: also what backends asked for meanwhile is worth waiting for.
    pub(crate) fn moved_on(&mut self, now_ns: u64) {
        self.asked_ns = NEVER;
        self.restart(now_ns.max(self.asked_until_ns));
    }

    /// A backend asks a ticket released at `released_ns` to wait. Others wait for the same backend, or behind it: their
    /// queue time begins afterwards too. But where all that is released after such a wait is asked again, they do not
    /// wait for ever.
    pub(crate) fn asked_to_wait(&mut self, now_ns: u64, released_ns: u64, until_ns: u64) {
        self.asked_until_ns = self.asked_until_ns.max(until_ns);
        if self.asked_ns == NEVER {
            self.asked_ns = now_ns;
        }
        if released_ns <= self.asked_ns {
            self.restart(until_ns);
        }
    }

    /// When a ticket that waits since `queued_since_ns` runs into the queue timeout.
    pub(crate) fn queue_due_ns(&self, queued_since_ns: u64) -> u64 {
        due_ns(self.restarted_ns.max(queued_since_ns), self.queue_timeout_ns)
    }

    /// The next time at which something of this batch is due, but what has a timer of its own.
    pub(crate) fn due_ns(&mut self, tickets: &Slab) -> u64 {
        let deadline_ns = if self.deadline_pending { self.deadline_ns } else { NEVER };
        if self.queue_timeout_ns == 0 || self.queued == 0 {
            return deadline_ns;
        }
        let oldest = self.tickets.first_queued(tickets);
        let queue_due_ns = oldest.map_or(NEVER, |slot| self.queue_due_ns(tickets.queued_since_ns(slot)));
        deadline_ns.min(queue_due_ns)
    }
}

/// Most horizons that are remembered for batches that have no tickets.
const EARLY_HORIZONS_MAX: usize = 1_024;

/// The batches by slot and by the caller's number.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    slots: Slots<Batch>,
    by_id: BTreeMap<BatchId, u32>,
    /// Horizons that were set before the batch's first submit.
    early_horizons: BTreeMap<BatchId, u32>,
    has_horizons: bool,
}

impl Batches {
    pub(crate) fn find(&self, id: BatchId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// When what is due of a batch is looked at; none where there is no such slot any more.
    pub(crate) fn timer_ns(&self, slot: u32) -> Option<u64> {
        self.slots.get(slot).map(|batch| batch.timer_ns)
    }

    /// The tenant counts for a new batch only.
    pub(crate) fn find_or_insert(&mut self, id: BatchId, tenant: TenantId) -> u32 {
        if let Some(slot) = self.find(id) {
            return slot;
        }
        let mut batch = Batch::new(id, tenant);
        if let Some(horizon) = self.early_horizons.remove(&id) {
            batch.horizon = horizon;
            self.note_horizon(horizon);
        }
        let slot = self.slots.insert(batch);
        self.by_id.insert(id, slot);
        slot
    }

    /// Whether there was a horizon since there was last no batch.
    pub(crate) fn has_horizons(&self) -> bool {
        self.has_horizons
    }

    pub(crate) fn note_horizon(&mut self, horizon: u32) {
        self.has_horizons |= horizon != u32::MAX;
    }

    /// Keeps a horizon for a batch to come; the batches numbered lowest are forgotten first.
    pub(crate) fn set_early_horizon(&mut self, id: BatchId, horizon: u32) {
        self.early_horizons.insert(id, horizon);
        if self.early_horizons.len() > EARLY_HORIZONS_MAX {
            self.early_horizons.pop_first();
        }
    }

    pub(crate) fn clear_early_horizon(&mut self, id: BatchId) {
        self.early_horizons.remove(&id);
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        let gone = &mut self[slot];
        gone.timer_ns = NEVER;
        (gone.tickets, gone.asked) = (Roll::default(), Roll::default());
        let id = gone.id;
        self.by_id.remove(&id);
        self.has_horizons &= !self.by_id.is_empty();
        self.slots.remove(slot);
    }
}

impl std::ops::Index<u32> for Batches {
    type Output = Batch;

    fn index(&self, slot: u32) -> &Batch {
        &self.slots[slot]
    }
}

impl std::ops::IndexMut<u32> for Batches {
    fn index_mut(&mut self, slot: u32) -> &mut Batch {
        &mut self.slots[slot]
    }
}
