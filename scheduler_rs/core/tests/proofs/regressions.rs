//! Random traces that broke a law once, cut down and written out, so that they stay what they are.

use crate::reference::{BatchTerms, End, Order, Request, Rules, SECOND, Server, Sharing};
use crate::scenario::Event;
use crate::world::World;

/// One backend with so many slots, first come first served.
fn slots(cap: u32) -> World {
    let rules = Rules::plain(Order::Fcfs, Sharing::TenantBatch);
    let mut world = World::new(Rules { no_backend_timeout_ns: SECOND, ..rules });
    world.act(&Event::Update { backend: 0, server: Server::plain(cap) });
    world
}

fn submit(world: &mut World, (tenant, weight): (u32, u32), batch: u64, requests: Vec<Request>) {
    let terms = BatchTerms { queue_timeout_ns: 0, deadline_ns: 0, tenant, weight };
    world.act(&Event::Submit { batch, requests, terms, deadline_in_ns: 0 });
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

/// Law 5: a tenant that was forgotten begins anew with all its flows, that of a large batch too which lives on in
/// another class; what it had had there does not put it behind the tenant's other batches (G08).
#[test]
fn law_05_forgotten_tenant_and_large_batch() {
    let (tenant, large, small) = ((0, 1), 2, 4);
    let mut world = slots(1);
    // No backend serves model 1: what waits for it keeps the batch alive.
    let mut requests = vec![Request::plain(0, 0, 1_000); 18];
    requests.push(Request::plain(1, 1, 1_000));
    submit(&mut world, tenant, large, requests);
    assert_eq!(serve(&mut world), [large; 18]);
    submit(&mut world, tenant, large, vec![Request::plain(0, 0, 1_000)]);
    submit(&mut world, tenant, small, vec![Request::plain(0, 0, 1_000)]);
    assert_eq!(serve(&mut world), [large, small]);
    holds(&world);
}

/// Law 5: the weight of the submit that makes a batch large counts for where its tenant stands from then on (G08).
#[test]
fn law_05_weight_of_a_batch_that_grows_large() {
    let (growing, other) = (1, 2);
    let mut world = slots(2);
    submit(&mut world, (1, 3), growing, vec![Request::plain(1, 0, 1_000)]);
    submit(&mut world, (2, 1), other, vec![Request::plain(1, 0, 500)]);
    assert_eq!(world.poll().sent.len(), 2);
    // In flight a third of 1,000 against 500.
    submit(&mut world, (1, 3), growing, vec![Request::plain(1, 0, 1_000)]);
    submit(&mut world, (2, 1), other, vec![Request::plain(1, 0, 500)]);
    // All of 1,000.
    submit(&mut world, (1, 1), growing, vec![Request::plain(1, 0, 1_000); 17]);
    let first = world.pick_in_flight(0).expect("two are");
    world.finish(first, End::Success, None);
    let sent = world.poll().sent;
    assert_eq!(sent.len(), 1);
    assert_eq!(world.model.item(sent[0].id).map(|item| item.batch), Some(other));
    holds(&world);
}
