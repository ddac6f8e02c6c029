//! Backends that hold only some models: never more of them in flight, and which prompts surely have a place.
//!
//! Who must wait for whose turn is not worked out: a model is sure of its place where all that wait or run have one, or
//! where it is in memory and nothing waits that is not.

use super::{Decided, Host, Item, Law, Reference, Seen};
use std::collections::BTreeSet;

impl Reference {
    /// The models with prompts in flight at a backend.
    pub(crate) fn running(&self, host: &Host) -> BTreeSet<u32> {
        self.at_host(host.id).map(|(item, _)| item.request.model).collect()
    }

    /// Whether the backend has no place for another model.
    pub(crate) fn has_no_place(&self, host: &Host, item: &Item) -> bool {
        let most = host.server.max_loaded_models as usize;
        let running = self.running(host);
        most > 0 && running.len() >= most && !running.contains(&item.request.model)
    }

    /// Whether the prompt's model may have to wait for a place. While a poll goes on, only what runs is known to be in
    /// memory.
    pub(crate) fn may_be_shut(&self, host: &Host, item: &Item) -> bool {
        let most = host.server.max_loaded_models as usize;
        if most == 0 {
            return false;
        }
        let served = |model: &u32| host.server.serves(*model);
        let mut wanted: BTreeSet<u32> =
            self.waiting().map(|other| other.request.model).filter(served).collect();
        wanted.insert(item.request.model);
        let running = self.running(host);
        let all_fit = wanted.union(&running).count() <= most;
        let is_wanted_in = |held: &BTreeSet<u32>| wanted.is_subset(held);
        let loaded = if self.report.is_over { host.loaded.iter().copied().collect() } else { running };
        !(all_fit || loaded.len() <= most && is_wanted_in(&loaded))
    }

    /// What was just released is in memory; where there is no limit, nobody knows.
    pub(crate) fn check_memory(&mut self, decided: &Decided, seen: &Seen) {
        let is_wrong = |at: &&super::SeenBackend| {
            let Some(host) = self.host(at.backend) else { return false };
            let released = decided.sent.iter().filter(|sent| sent.backend == at.backend);
            let models = released.filter_map(|sent| Some(self.item(sent.id)?.request.model));
            match host.server.max_loaded_models {
                0 => !at.loaded_models.is_empty(),
                _ => models.into_iter().any(|model| !at.loaded_models.contains(&model)),
            }
        };
        let wrong = seen.backends.iter().find(is_wrong);
        let what = wrong.map(|at| format!("backend {} has {:?} in memory", at.backend, at.loaded_models));
        if let Some(what) = what {
            self.verdict.breach(Law::Caps, self.now_ns, what);
        }
    }
}
