//! Shares: among tenants, among the batches of a tenant, and between classes.

mod batches;
mod classes;
mod gap;
mod settling;
mod tenants;

use crate::driver::{Driver, STANDARD, plain, policy};
use expresslane_scheduler::{BackendConfig, BatchId, BatchOptions, Config, TenantId, TicketId};
use std::collections::BTreeMap;

/// One slot, and for each ticket whose it is.
struct Server {
    driver: Driver,
    owner: BTreeMap<TicketId, (TenantId, BatchId, u32)>,
}

impl Server {
    fn new(config: Config, backend: BackendConfig) -> Self {
        let mut driver = Driver::new(config);
        driver.backend(0, backend);
        Self { driver, owner: BTreeMap::new() }
    }

    /// A turn for each release: so the order is that of what each has had, to the token.
    fn fcfs() -> Self {
        Self::in_turns(0)
    }

    fn in_turns(turn_tokens: u32) -> Self {
        Self::new(Config { policy: policy("fcfs"), turn_tokens, ..Config::default() }, plain(1))
    }

    fn submit_weighted(
        &mut self,
        tenant: TenantId,
        weight: u32,
        batch: BatchId,
        sizes: &[u32],
    ) -> Vec<TicketId> {
        let options = BatchOptions { tenant, weight, ..BatchOptions::default() };
        let prompts: Vec<_> = sizes.iter().map(|&tokens| (0, STANDARD, tokens)).collect();
        let tickets = self.driver.try_submit(batch, &prompts, options).unwrap();
        self.owner.extend(tickets.iter().zip(sizes).map(|(&id, &tokens)| (id, (tenant, batch, tokens))));
        tickets
    }

    fn submit(&mut self, tenant: TenantId, batch: BatchId, sizes: &[u32]) -> Vec<TicketId> {
        self.submit_weighted(tenant, 1, batch, sizes)
    }

    /// Runs `count` tickets one at a time; returns whose they were.
    fn run(&mut self, count: usize) -> Vec<(TenantId, BatchId)> {
        let mut order = Vec::new();
        while order.len() < count {
            let released = self.driver.released();
            assert_eq!(released.len(), 1, "one slot takes one ticket");
            let (tenant, batch, _) = self.owner[&released[0]];
            order.push((tenant, batch));
            self.driver.finish(released[0]);
        }
        order
    }

    fn runs_of_tenant(&mut self, tenant: TenantId, count: usize) -> usize {
        self.run(count).iter().filter(|(of, _)| *of == tenant).count()
    }
}
