//! Models in memory: what waits for which model at the backends that hold only some at once.

use super::Scheduler;
use crate::loaded::UNWANTED;

impl Scheduler {
    /// Before each choice: opens and shuts models at the backends that have a limit of them. Returns whether that has
    /// changed any.
    pub(super) fn refresh_loaded(&mut self) -> bool {
        if !self.limits_models {
            return false;
        }
        let mut has_changed = false;
        let limited = |most: u32| most > 0;
        for backend in self.backends.iter_mut().filter(|backend| limited(backend.config.max_loaded_models)) {
            backend.models.iter_mut().for_each(|slot| (slot.wanted, slot.only_here) = (UNWANTED, false));
        }
        for (_, group) in self.groups.iter().filter(|(_, group)| !group.tenants.is_empty()) {
            for route in &group.routes {
                let others = group.routes.iter().filter(|other| other.backend != route.backend);
                let has_other = others.filter(|other| self.may_go(group, **other)).any(|other| {
                    let backend = &self.backends[other.backend as usize];
                    backend.has_in_memory(other.model_slot)
                });
                let may_go = self.may_go(group, *route);
                let backend = &mut self.backends[route.backend as usize];
                let slot = &mut backend.models[route.model_slot as usize];
                // What is paused, or goes elsewhere, could not use the place.
                if limited(backend.config.max_loaded_models) && may_go && !slot.is_paused() {
                    slot.wanted = slot.wanted.min(group.key.class);
                    slot.only_here |= !has_other;
                }
            }
        }
        for backend in &mut self.backends {
            let most = backend.config.max_loaded_models;
            if limited(most) {
                has_changed |= backend.loaded.refresh(&mut backend.models, most);
            }
        }
        has_changed
    }
}
