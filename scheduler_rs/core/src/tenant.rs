//! One tenant in one class, and one flow of it.

use crate::TenantId;
use crate::account::Account;
use crate::fair_tree::FairTree;
use crate::promotion::PassedTokens;
use crate::queue::Queue;
use crate::ticket::NONE;

/// A group in which a tenant waits, with the flows that wait there.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) group: u32,
    pub(crate) flows: FairTree,
}

/// Known from its first ticket until it has none and the others have had as much.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) class: u8,
    pub(crate) id: TenantId,
    /// Of no other that has stood in its slot.
    pub(crate) serial: u64,
    pub(crate) weight: u32,
    pub(crate) account: Account,
    /// What its flows that begin to wait are lifted to.
    pub(crate) clock: u64,
    /// Tickets that have not ended.
    pub(crate) users: u32,
    /// Tickets in buckets.
    pub(crate) waiting: u32,
    /// Whether its limits keep it out of the groups' trees.
    pub(crate) is_closed: bool,
    /// Tokens of ended attempts.
    pub(crate) used_tokens: u64,
    /// Flows other than the pool with tickets in buckets.
    pub(crate) own_waiting: u32,
    /// The flow of its small batches.
    pub(crate) pool: u32,
    /// Ascending by group.
    pub(crate) cells: Vec<Cell>,
}

impl Tenant {
    pub(crate) fn new(class: u8, id: TenantId, serial: u64) -> Self {
        Self {
            class,
            id,
            serial,
            weight: 1,
            account: Account::default(),
            clock: 0,
            users: 0,
            waiting: 0,
            is_closed: false,
            used_tokens: 0,
            own_waiting: 0,
            pool: NONE,
            cells: Vec::new(),
        }
    }

    pub(crate) fn cell(&self, group: u32) -> Option<&Cell> {
        self.cells.binary_search_by_key(&group, |cell| cell.group).ok().map(|at| &self.cells[at])
    }
}

/// What is ordered by the policy alone: the small batches of a tenant together, or one large batch.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) tenant: u32,
    /// Of the tenant that its account belongs to.
    pub(crate) tenant_serial: u64,
    /// The large batch, or none for the pool.
    pub(crate) batch: Option<u32>,
    /// Batches with unfinished tickets in it: its shares.
    pub(crate) batches: u32,
    pub(crate) account: Account,
    pub(crate) users: u32,
    pub(crate) waiting: u32,
    pub(crate) passed: PassedTokens,
    /// Those that are not empty, ascending by group.
    pub(crate) queues: Vec<Queue>,
}

impl Flow {
    pub(crate) fn new(tenant: u32, tenant_serial: u64, batch: Option<u32>) -> Self {
        Self {
            tenant,
            tenant_serial,
            batch,
            batches: u32::from(batch.is_some()),
            account: Account::default(),
            users: 0,
            waiting: 0,
            passed: PassedTokens::default(),
            queues: Vec::new(),
        }
    }

    pub(crate) fn queue_mut(&mut self, group: u32) -> Option<&mut Queue> {
        let at = self.queues.binary_search_by_key(&group, |queue| queue.group).ok()?;
        Some(&mut self.queues[at])
    }

    pub(crate) fn queue(&self, group: u32) -> Option<&Queue> {
        self.queues.binary_search_by_key(&group, |queue| queue.group).ok().map(|at| &self.queues[at])
    }
}
