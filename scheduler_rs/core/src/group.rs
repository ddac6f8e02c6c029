//! Waiting tickets that may go to the same backends: one class, one model, one set of excluded backends, one avoided.

use crate::fair_tree::FairTree;
use crate::opening::Opening;
use crate::policy::{Line, Policy};
use crate::queue::Bucket;
use crate::ticket::NEVER;
use crate::token_buckets::COUNT;
use crate::{BackendId, ModelId};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    pub(crate) class: u8,
    pub(crate) model: ModelId,
    /// Never again, since they timed out there. Ascending.
    pub(crate) excluded: Vec<BackendId>,
    /// Not while their whole limit of tokens is below these tickets. Ascending.
    pub(crate) too_small: Vec<BackendId>,
    /// It has just failed these tickets: they go elsewhere for as long as some other backend is open.
    pub(crate) avoided: Option<BackendId>,
}

impl GroupKey {
    /// Whether its tickets may go to a backend that serves their model.
    pub(crate) fn allows(&self, backend: BackendId) -> bool {
        [&self.excluded, &self.too_small].iter().all(|others| others.binary_search(&backend).is_err())
    }
}

/// A backend that the group's tickets may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Position of the backend.
    pub(crate) backend: u32,
    /// Position of the model within it.
    pub(crate) model_slot: u32,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) key: GroupKey,
    /// Tickets that name this group, waiting or in flight.
    pub(crate) users: u32,
    pub(crate) queued: u32,
    pub(crate) queued_tokens: u64,
    pub(crate) routes: Vec<Route>,
    /// Since when none of the routes is available.
    pub(crate) down_since_ns: Option<u64>,
    pub(crate) timer_ns: u64,
    /// Tenants with tickets in buckets here.
    pub(crate) tenants: FairTree,
    /// What some backend could take when it was last looked at.
    pub(crate) opening: Opening,
    pub(crate) policy: Policy,
    /// The score of each bucket as a function of its head's wait, without and with a deadline.
    lines: Vec<[Line; 2]>,
    /// Whether no bucket without a deadline scores more than a smaller one after the same wait.
    scores_fall: bool,
}

impl Group {
    pub(crate) fn new(key: GroupKey) -> Self {
        Self {
            key,
            users: 0,
            queued: 0,
            queued_tokens: 0,
            routes: Vec::new(),
            down_since_ns: None,
            timer_ns: NEVER,
            tenants: FairTree::new(),
            opening: Opening::CLOSED,
            policy: Policy::Fcfs,
            lines: vec![[Line::default(); 2]; COUNT],
            scores_fall: true,
        }
    }

    pub(crate) fn score(&self, bucket: &Bucket, now_ns: u64) -> f64 {
        let line = self.lines[usize::from(bucket.key.cost())][usize::from(bucket.key.is_dated())];
        line.at(now_ns.wrapping_sub(bucket.since_ns))
    }

    pub(crate) fn scores_fall(&self) -> bool {
        self.scores_fall
    }

    /// The score of a bucket without a deadline.
    pub(crate) fn plain_line(&self, bucket: u8) -> Line {
        self.lines[usize::from(bucket)][0]
    }

    /// New scores for all buckets.
    pub(crate) fn set_lines(&mut self, policy: Policy, lines: impl Iterator<Item = [Line; 2]>) {
        self.policy = policy;
        self.lines.clear();
        self.lines.extend(lines);
        self.scores_fall = self.lines.windows(2).all(|pair| {
            let [[less, _], [more, _]] = [pair[0], pair[1]];
            less.slope >= more.slope && less.intercept >= more.intercept
        });
    }
}
