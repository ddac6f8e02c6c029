//! Adding a backend, or replacing its description.

use super::Scheduler;
use crate::backend::Backend;
use crate::{BACKENDS_MAX, BackendConfig, BackendId, Error};

impl Scheduler {
    /// Adds a backend or replaces its description; what is in flight stays and counts against the new limits.
    pub fn update_backend(
        &mut self,
        now_ns: u64,
        backend: BackendId,
        config: BackendConfig,
    ) -> Result<(), Error> {
        config.check(backend)?;
        self.advance(now_ns);
        let known = self.backends_by_id.get(&backend).map(|&slot| &self.backends[slot as usize].config);
        let fits_others = known.is_none_or(|known| {
            (known.tokens_per_min, &known.models) != (config.tokens_per_min, &config.models)
        });
        if let Some(&slot) = self.backends_by_id.get(&backend) {
            self.clear_reservation(slot);
            self.backends[slot as usize].configure(config, self.now_ns);
        } else {
            if self.backends.len() == BACKENDS_MAX {
                return Err(Error::invalid("backend", &backend, format!("at most {BACKENDS_MAX} backends")));
            }
            self.backends_by_id.insert(backend, self.backends.len() as u32);
            self.backends.push(Backend::new(backend, config, self.now_ns));
        }
        self.may_have_room = true;
        let limited_tokens = self.limits_tokens;
        self.limits_tokens = self.backends.iter().any(|backend| backend.config.tokens_per_min > 0);
        self.limits_models = self.backends.iter().any(|backend| backend.config.max_loaded_models > 0);
        self.budgeted_max = self.backends.iter().map(|backend| backend.lanes.budgeted()).max().unwrap_or(0);
        self.has_limits |= self.backends.iter().any(Backend::is_limited);
        for group in self.groups.slots() {
            self.route(group);
            self.arm_group(group); // What waits may now expire earlier: what is tried or absent, and for how long.
        }
        if fits_others && (limited_tokens || self.limits_tokens) {
            self.fit_anew();
        }
        Ok(())
    }
}
