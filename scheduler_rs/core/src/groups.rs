//! The groups by slot, by key and by class.

use crate::backend::Backend;
use crate::estimates::{Curve, ServiceTime};
use crate::group::{Group, GroupKey, Route};
use crate::policy::{Line, Policy, Size};
use crate::ticket::NEVER;
use crate::token_buckets::{COUNT, edge};
use crate::{BackendId, CLASSES, ModelId};
use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

/// Stands in for the rate of a model that no backend serves.
const UNSERVED_TOKENS_PER_S: f64 = 5_000.0;
/// Idle groups are kept for the next ticket until there are this many.
const KEPT_MIN: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Groups {
    slots: Vec<Group>,
    free: Vec<u32>,
    by_key: BTreeMap<GroupKey, u32>,
    /// Live groups of each class, in the order in which they were made.
    by_class: [Vec<u32>; CLASSES],
    sweep_at: usize,
}

impl Groups {
    pub(crate) fn find(&self, key: &GroupKey) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    pub(crate) fn of_class(&self, class: u8) -> &[u32] {
        &self.by_class[usize::from(class)]
    }

    pub(crate) fn of_model(&self, class: u8, model: ModelId) -> impl Iterator<Item = &Group> {
        let first = GroupKey { class, model, excluded: Vec::new(), too_small: Vec::new(), avoided: None };
        let groups = self.by_key.range(first..).map(|(_, &slot)| &self[slot]);
        groups.take_while(move |group| (group.key.class, group.key.model) == (class, model))
    }

    pub(crate) fn insert(&mut self, key: GroupKey) -> u32 {
        if self.by_key.len() >= self.sweep_at.max(KEPT_MIN) {
            self.sweep();
            self.sweep_at = self.by_key.len() * 2;
        }
        let class = usize::from(key.class);
        let group = Group::new(key.clone());
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = group;
            slot
        } else {
            self.slots.push(group);
            self.slots.len() as u32 - 1
        };
        self.by_key.insert(key, slot);
        self.by_class[class].push(slot);
        slot
    }

    /// Forgets the groups that no ticket names and no timer waits for.
    fn sweep(&mut self) {
        let slots = &mut self.slots;
        let free = &mut self.free;
        self.by_key.retain(|_, &mut slot| {
            let group = &slots[slot as usize];
            let keep = group.users > 0 || group.timer_ns != NEVER;
            if !keep {
                free.push(slot);
            }
            keep
        });
        for class in &mut self.by_class {
            class.retain(|&slot| self.by_key.get(&slots[slot as usize].key) == Some(&slot));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Group)> {
        self.by_key.values().map(|&slot| (slot, &self[slot]))
    }

    pub(crate) fn slots(&self) -> Vec<u32> {
        self.by_key.values().copied().collect()
    }
}

impl Index<u32> for Groups {
    type Output = Group;

    fn index(&self, slot: u32) -> &Group {
        &self.slots[slot as usize]
    }
}

impl IndexMut<u32> for Groups {
    fn index_mut(&mut self, slot: u32) -> &mut Group {
        &mut self.slots[slot as usize]
    }
}

/// The backends that serve the group's model and that its tickets may go to, ascending by id.
pub(crate) fn routes(key: &GroupKey, backends: &[Backend], by_id: &BTreeMap<BackendId, u32>) -> Vec<Route> {
    by_id
        .iter()
        .filter(|&(&id, _)| key.allows(id))
        .filter_map(|(_, &backend)| {
            let model_slot = backends[backend as usize].serves(key.model)?;
            Some(Route { backend, model_slot })
        })
        .collect()
}

/// The scores of each bucket, without and with a deadline, by the service time at the model's fastest backend.
pub(crate) fn lines(policy: Policy, service: Option<&ServiceTime>) -> impl Iterator<Item = [Line; 2]> {
    let unserved = ServiceTime { prefill: Curve::from_rate(UNSERVED_TOKENS_PER_S), decode_ns: 0.0 };
    let service = *service.unwrap_or(&unserved);
    let size = move |bucket| {
        let tokens = f64::from(edge(bucket));
        Size { tokens, prefill_ns: service.prefill.at(tokens), service_ns: service.at(tokens) }
    };
    (0..COUNT as u8).map(move |bucket| [policy.line(size(bucket)), policy.dated_line(size(bucket))])
}
