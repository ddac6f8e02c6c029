//! Changing the order of what waits, without anything leaving the queue.

use super::Scheduler;
use crate::ordering::Scope;
use crate::queue::BucketKey;
use crate::ticket::{NEVER, Place};
use crate::token_buckets::bucket_of;
use crate::{CLASSES, Error, Policy};

/// Most scopes with a policy of their own.
const SCOPES_MAX: usize = 16_384;

impl Scheduler {
    /// Sets the policy of a scope from now on, for what waits and what comes; none takes it back.
    ///
    /// The narrowest scope counts: a model in a class, a model, a class, then the scheduler's own policy, which cannot
    /// be taken back. Where policies meet in one flow, each finds the first of its own; of these the one that came
    /// first goes.
    pub fn set_policy(&mut self, now_ns: u64, scope: Scope, policy: Option<Policy>) -> Result<(), Error> {
        policy.map_or(Ok(()), Policy::check)?;
        if let Some(class) = scope.class.filter(|&class| class as usize >= CLASSES) {
            return Err(Error::invalid("class", &class, "must be 0, 1 or 2"));
        }
        self.advance(now_ns);
        if scope != Scope::default() {
            if self.ordering.len() >= SCOPES_MAX && policy.is_some() {
                return Err(Error::invalid(
                    "scopes",
                    &self.ordering.len(),
                    "no more may have their own policy",
                ));
            }
            self.ordering.set(scope, policy);
        } else if let Some(policy) = policy {
            self.config.policy = policy;
        } else {
            return Err(Error::invalid("policy", &"none", "the scheduler itself needs one"));
        }
        for group in self.groups.slots() {
            self.route(group);
        }
        self.sort_anew();
        Ok(())
    }

    /// The bucket that a ticket belongs into under its group's policy.
    pub(super) fn key_of(&self, slot: u32) -> BucketKey {
        let ticket = &self.tickets[slot];
        let cost = if self.config.cost_includes_output {
            bucket_of(ticket.tokens.saturating_add(ticket.output_tokens))
        } else {
            ticket.bucket()
        };
        let is_dated = self.tickets.course_of(ticket).due_ns != NEVER
            && self.groups[ticket.group].policy.reads_deadlines();
        BucketKey::new(ticket.bucket(), cost, is_dated)
    }

    /// Moves what waits under a key that is no longer its own, by arrival.
    fn sort_anew(&mut self) {
        let in_buckets =
            self.tickets.iter().filter(|(_, ticket)| matches!(ticket.place, Place::InFifo | Place::InOrder));
        let moved = in_buckets.filter(|&(slot, ticket)| self.key_of(slot) != ticket.key);
        let mut moved: Vec<_> = moved.map(|(slot, ticket)| (ticket.id, slot)).collect();
        moved.sort_unstable();
        for (_, slot) in moved {
            let key = self.key_of(slot);
            self.flows.change_key(&mut self.tickets, slot, key);
        }
    }
}
