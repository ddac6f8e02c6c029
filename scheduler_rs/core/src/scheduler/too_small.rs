//! Backends whose whole limit of tokens per minute is below a prompt: it goes to others of its model while there are any.

use super::Scheduler;
use crate::group::GroupKey;
use crate::groups::routes;
use crate::ticket::Place;
use crate::{BackendConfig, BackendId, ModelId};

impl Scheduler {
    /// The backends of the model whose whole limit is below so many tokens, ascending.
    pub(super) fn too_small_for(&self, model: ModelId, tokens: u64) -> Vec<BackendId> {
        if !self.limits_tokens {
            return Vec::new();
        }
        let too_small = |config: &BackendConfig| (1..tokens).contains(&config.tokens_per_min);
        let by_id = self.backends_by_id.iter().map(|(&id, &slot)| (id, &self.backends[slot as usize]));
        let serving = by_id.filter(|(_, backend)| backend.serves(model).is_some());
        serving.filter(|(_, backend)| too_small(&backend.config)).map(|(id, _)| id).collect()
    }

    /// Works out anew which backends are too small for the tickets, those in flight too: a retry goes by it.
    ///
    /// One pass over all tickets, for a change of what a backend serves or of its limit of tokens.
    pub(super) fn fit_anew(&mut self) {
        let changed = self.tickets.iter().filter_map(|(slot, ticket)| {
            let key = &self.groups[ticket.group].key;
            let too_small = self.still_too_small(key, ticket.limited_tokens());
            (too_small != key.too_small).then(|| (ticket.id, slot, GroupKey { too_small, ..key.clone() }))
        });
        let mut changed: Vec<_> = changed.collect();
        changed.sort_unstable_by_key(|&(id, ..)| id);
        for (_, slot, key) in changed {
            self.change_group(slot, key);
        }
    }

    /// A ticket does not lose its last backend because limits went down: it waits for an empty window there.
    fn still_too_small(&self, key: &GroupKey, tokens: u64) -> Vec<BackendId> {
        let mut too_small = self.too_small_for(key.model, tokens);
        if too_small != key.too_small {
            let new = GroupKey { too_small: too_small.clone(), ..key.clone() };
            if routes(&new, &self.backends, &self.backends_by_id).is_empty() {
                too_small.retain(|id| key.too_small.binary_search(id).is_ok());
            }
        }
        too_small
    }

    fn change_group(&mut self, slot: u32, key: GroupKey) {
        let group = self.group_for(key);
        let ticket = &self.tickets[slot];
        let (old, place, tokens) = (ticket.group, ticket.place, u64::from(ticket.tokens));
        self.groups[old].users -= 1;
        self.groups[group].users += 1;
        if place == Place::InFlight {
            self.tickets[slot].group = group;
            return;
        }
        let is_in_bucket = matches!(place, Place::InFifo | Place::InOrder);
        if is_in_bucket {
            // What is kept for it is kept where it may have to go no longer.
            self.drop_reservation_of(slot);
            self.leave_backlog(slot, false);
            self.flows.take(&mut self.groups, &mut self.tickets, slot, false);
        }
        self.groups[old].queued -= 1;
        self.groups[old].queued_tokens -= tokens;
        self.groups[group].queued += 1;
        self.groups[group].queued_tokens += tokens;
        let ticket = &mut self.tickets[slot];
        ticket.group = group;
        // Where it goes now may have been down for long.
        self.tickets.course_mut(slot).released_ns = self.now_ns;
        if is_in_bucket {
            self.return_to_bucket(slot);
        }
        self.arm_ticket(slot);
    }
}
