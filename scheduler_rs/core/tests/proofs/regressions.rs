//! Random traces that broke a law once, cut down and written out, so that they stay what they are.

use crate::reference::{BatchTerms, End, Order, Request, Rules, SECOND, Server, Sharing};
use crate::scenario::Event;
use crate::world::World;

const TENANT: BatchTerms = BatchTerms { queue_timeout_ns: 0, deadline_ns: 0, tenant: 0, weight: 1 };

/// One backend with one slot, first come first served.
fn one_slot() -> World {
    let rules = Rules::plain(Order::Fcfs, Sharing::TenantBatch);
    let mut world = World::new(Rules { no_backend_timeout_ns: SECOND, ..rules });
    world.act(&Event::Update { backend: 0, server: Server::plain(1) });
    world
}

fn request(class: u32, model: u32) -> Request {
    Request {
        model,
        class,
        tokens: 1_000,
        output_tokens: 0,
        queue_timeout_ns: 0,
        index: 0,
        sequential: false,
        ttft_deadline_ns: 0,
    }
}

fn submit(world: &mut World, batch: u64, requests: Vec<Request>) {
    world.act(&Event::Submit { batch, requests, terms: TENANT, deadline_in_ns: 0 });
}

/// Polls and ends what is released until nothing more is; the batches in the order of release.
fn serve(world: &mut World) -> Vec<u64> {
    let mut order = Vec::new();
    loop {
        let sent = world.poll().sent;
        if sent.is_empty() {
            return order;
        }
        for sent in sent {
            order.push(world.model.item(sent.id).expect("it is in flight").batch);
            world.finish(sent.id, End::Success, None);
        }
    }
}

fn holds(world: &World) {
    let breach = world.model.verdict.breaches.first();
    assert!(breach.is_none(), "{}", breach.expect("there is one"));
}

/// Law 5: a tenant that was forgotten begins anew with all its flows, that of a large batch too which lives on in another
/// class; what it had had there does not put it behind the tenant's other batches (G08).
#[test]
fn law_05_forgotten_tenant_and_large_batch() {
    let (large, small) = (2, 4);
    let mut world = one_slot();
    // No backend serves model 1: what waits for it keeps the batch alive.
    let mut requests = vec![request(0, 0); 18];
    requests.push(request(1, 1));
    submit(&mut world, large, requests);
    assert_eq!(serve(&mut world), [large; 18]);
    submit(&mut world, large, vec![request(0, 0)]);
    submit(&mut world, small, vec![request(0, 0)]);
    assert_eq!(serve(&mut world), [large, small]);
    holds(&world);
}
