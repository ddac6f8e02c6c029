//! Flows: among which prompts nothing but the policy decides.

use super::{Flow, Item, Reference, Sharing};

/// The most unfinished prompts of a batch that shares its tenant's common flow.
const POOLED_MAX: usize = 16;

impl Reference {
    /// Who is charged for a prompt: without sharing, all as one.
    pub(crate) fn tenant_of(&self, item: &Item) -> u32 {
        match self.rules.sharing {
            Sharing::None => 0,
            Sharing::Tenant | Sharing::TenantBatch => self.group(item.batch).terms.tenant,
        }
    }

    /// Where a prompt that begins to wait stands.
    pub(crate) fn flow_of(&self, batch: u64, class: u32) -> Flow {
        let group = self.group(batch);
        let tenant = if self.rules.sharing == Sharing::None { 0 } else { group.terms.tenant };
        let is_own = self.rules.sharing == Sharing::TenantBatch && group.is_large[class as usize];
        Flow { class, tenant, batch: is_own.then_some(batch) }
    }

    /// Whether two waiting prompts of one class are in the same flow.
    pub(crate) fn is_same_flow(&self, a: &Item, b: &Item) -> bool {
        let is_large = |item: &Item| self.group(item.batch).is_large[item.request.class as usize];
        if a.request.class != b.request.class || self.tenant_of(a) != self.tenant_of(b) {
            return false;
        }
        if self.rules.sharing != Sharing::TenantBatch {
            return true;
        }
        if is_large(a) || is_large(b) { a.batch == b.batch } else { true }
    }

    /// A batch with more unfinished prompts of a class than the pool takes becomes a flow of its own, and stays one.
    pub(crate) fn note_size(&mut self, batch: u64, class: u32, coming: usize) {
        let here = |item: &&Item| item.batch == batch && item.request.class == class;
        let unfinished = self.items.iter().filter(here).count();
        let is_large = &mut self.group_mut(batch).is_large[class as usize];
        let was_large = std::mem::replace(is_large, *is_large || unfinished + coming > POOLED_MAX);
        if !was_large && self.flow_of(batch, class).batch.is_some() {
            self.separate(batch, class);
        }
    }
}
