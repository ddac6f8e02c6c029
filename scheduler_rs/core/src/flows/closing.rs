//! Closed tenants: out of the trees as a whole, so that nobody meets them until they are opened again.

use super::Flows;
use crate::groups::Groups;
use crate::{CLASSES, TenantId};

impl Flows {
    /// Takes all that waits of a tenant out of contention, in every class. What changes of it from now on is noted in
    /// `reconsider`.
    pub(crate) fn close(&mut self, groups: &mut Groups, id: TenantId) {
        self.closed.insert(id);
        for slot in self.classes_of(id) {
            let tenant = &mut self.tenants[slot as usize];
            if !std::mem::replace(&mut tenant.is_closed, true) {
                for cell in &tenant.cells {
                    groups[cell.group].tenants.remove(tenant.account.rank);
                }
            }
        }
    }

    /// Puts it back. It is lifted as one that begins to wait: service that its own limit kept from it is not made up
    /// for at the cost of others.
    pub(crate) fn open(&mut self, groups: &mut Groups, id: TenantId) {
        self.closed.remove(&id);
        for slot in self.classes_of(id) {
            let tenant = &mut self.tenants[slot as usize];
            if !std::mem::replace(&mut tenant.is_closed, false) || tenant.cells.is_empty() {
                continue;
            }
            self.serial += 2;
            let clock = self.clocks[usize::from(tenant.class)];
            tenant.account.wake(clock, self.serial, tenant.weight);
            for cell in &tenant.cells {
                let cover = cell.flows.cover().expect("a cell has a flow");
                groups[cell.group].tenants.insert(tenant.account.rank, slot, cover);
            }
        }
    }

    /// Whether anything of a tenant could be released as far as it itself is concerned.
    pub(crate) fn is_waiting(&self, id: TenantId) -> bool {
        self.classes_of(id).any(|slot| self.tenant(slot).waiting > 0)
    }

    fn classes_of(&self, id: TenantId) -> impl Iterator<Item = u32> + use<> {
        let classes: [Option<u32>; CLASSES] =
            std::array::from_fn(|class| self.by_tenant.get(&(class as u8, id)).copied());
        classes.into_iter().flatten()
    }
}
