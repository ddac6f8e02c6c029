//! Among the batches of one tenant: large ones share evenly, small ones are pooled.

use super::Server;
use crate::driver::{plain, policy};
use expresslane_scheduler::{Config, Fairness};

/// Large batches of one tenant share evenly, in tokens.
#[test]
fn batches_within_a_tenant() {
    let mut server = Server::fcfs();
    server.submit(1, 1, &[100; 300]);
    server.run(100);
    server.submit(1, 2, &[50; 300]);
    let runs = server.run(90);
    let second = runs.iter().filter(|(_, batch)| *batch == 2).count();
    assert!((58..=62).contains(&second), "{second}");
}

/// Across small batches of a tenant the policy decides, as if there were no fairness.
#[test]
fn small_batches_are_pooled() {
    let sizes = [900, 20, 400, 60, 3_000, 1, 250, 900, 20];
    let order = |fairness| {
        let mut server =
            Server::new(Config { policy: policy("sjf"), fairness, ..Config::default() }, plain(1));
        for (batch, tokens) in (0..).zip(sizes) {
            server.submit(7, batch, &[tokens]);
        }
        server.run(sizes.len())
    };
    let batches: Vec<u64> = order(Fairness::TenantBatch).iter().map(|(_, batch)| *batch).collect();
    assert_eq!(batches, [5, 1, 8, 3, 6, 2, 0, 7, 4]);
    assert_eq!(order(Fairness::TenantBatch), order(Fairness::None));
}

/// The pool has as many shares as small batches: a large batch beside ten of them gets an eleventh.
#[test]
fn pool_has_a_share_for_each_batch() {
    let mut server = Server::fcfs();
    server.submit(1, 100, &[100; 200]);
    for batch in 0..10 {
        server.submit(1, batch, &[100; 10]);
    }
    let large = server.run(22).iter().filter(|(_, batch)| *batch == 100).count();
    assert!((2..=3).contains(&large), "{large}");
}

/// A batch that grows large takes its waiting prompts with it, in order.
#[test]
fn batch_grows_large() {
    let mut server = Server::fcfs();
    let mut tickets = Vec::new();
    for _ in 0..40 {
        tickets.extend(server.submit(1, 1, &[100]));
    }
    assert_eq!(server.driver.run_one_at_a_time(0), tickets);
}

/// A batch whose prompts all ran at once has had its share, though nothing waited that the tenant's clock could have
/// been divided among: when it begins to wait, a newcomer starts where it stands.
#[test]
fn newcomer_after_a_batch_that_never_waited() {
    let mut server =
        Server::new(Config { policy: policy("fcfs"), turn_tokens: 0, ..Config::default() }, plain(40));
    let first = server.submit(1, 1, &[100; 40]);
    assert_eq!(server.driver.released(), first);
    for &ticket in &first[1..] {
        server.driver.finish(ticket);
    }
    server.driver.backend(0, plain(1));
    server.submit(1, 1, &[100; 40]);
    server.driver.finish(first[0]);
    server.run(1);
    server.submit(1, 2, &[100; 40]);
    let newcomers = server.run(20).iter().filter(|(_, batch)| *batch == 2).count();
    assert!((10..=11).contains(&newcomers), "{newcomers}");
}

/// Large batches that come in for ever do not hold up one that is there: each of them starts where the others are.
#[test]
fn newcomers_do_not_starve() {
    let mut server = Server::fcfs();
    server.submit(1, 0, &[100; 40]);
    for batch in 1..10 {
        server.submit(1, batch, &[100; 17]);
    }
    let mut seen = 0;
    for batch in 10..260 {
        seen += server.run(2).iter().filter(|(_, batch)| *batch == 0).count();
        if seen == 40 {
            return;
        }
        server.submit(1, batch, &[100; 17]);
        server.driver.scheduler.cancel_batch(0, batch - 9);
    }
    panic!("only {seen} of 40, where a tenth of 500 is due");
}
