//! Among tenants: shares by weight, turns, and who comes and goes.

use super::Server;
use crate::driver::{laned, policy};
use expresslane_scheduler::{Config, TenantId};

/// A tenant with a hundred batches has one share, as has one with a single batch.
#[test]
fn tenants_first() {
    let mut server = Server::fcfs();
    for batch in 0..100 {
        server.submit(1, batch, &[100; 20]);
    }
    server.submit(2, 100, &[100; 200]);
    assert_eq!(server.runs_of_tenant(1, 100), 50);
}

/// Who is first stays first for a turn of so many tokens and at most four releases, then the others have theirs.
#[test]
fn turns() {
    for (tokens, releases) in [(500, 3), (100, 4)] {
        let mut server = Server::in_turns(1_000);
        for tenant in 1..4 {
            server.submit(tenant, u64::from(tenant), &[tokens; 100]);
        }
        let order: Vec<TenantId> = server.run(6 * releases).iter().map(|(tenant, _)| *tenant).collect();
        let turns: Vec<(TenantId, usize)> =
            order.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
        assert_eq!(turns, [1, 2, 3, 1, 2, 3].map(|tenant| (tenant, releases)));
    }
}

/// However many wait and have had their turns, a newcomer is next.
#[test]
fn newcomer_is_next() {
    let mut server = Server::in_turns(1_000);
    for tenant in 1..100 {
        server.submit(tenant, u64::from(tenant), &[500; 100]);
    }
    server.run(99 * 3 + 1);
    server.submit(100, 100, &[100; 3]);
    let order: Vec<TenantId> = server.run(6).iter().map(|(tenant, _)| *tenant).collect();
    assert_eq!(order, [100, 100, 100, 1, 1, 2]);
}

/// Twice the weight is twice the service.
#[test]
fn weights() {
    let mut server = Server::fcfs();
    server.submit_weighted(1, 3, 1, &[100; 400]);
    server.submit_weighted(2, 1, 2, &[100; 400]);
    let runs = server.runs_of_tenant(1, 400);
    assert!((299..=301).contains(&runs), "{runs}");
}

/// Service is counted in tokens, not in prompts.
#[test]
fn tokens_count() {
    let mut server = Server::fcfs();
    server.submit(1, 1, &[1_000; 100]);
    server.submit(2, 2, &[100; 500]);
    let runs = server.runs_of_tenant(1, 220);
    assert!((19..=21).contains(&runs), "{runs}");
}

/// Who was idle has saved nothing up, and who comes in is served at once.
#[test]
fn idle_saves_nothing() {
    let mut server = Server::fcfs();
    server.submit(1, 1, &[100; 500]);
    server.run(300);
    server.submit(2, 2, &[100; 100]);
    let runs = server.run(20);
    assert!(runs[..2].contains(&(2, 2)), "{runs:?}");
    assert!((9..=11).contains(&runs.iter().filter(|(tenant, _)| *tenant == 2).count()));
}

/// Who leaves and comes back is still charged for what it had.
#[test]
fn leaving_forgives_nothing() {
    let mut server = Server::fcfs();
    server.submit(1, 1, &[100; 200]);
    for round in 0..50 {
        server.submit(2, 2 + round, &[100]);
        while server.driver.scheduler.tenants().iter().any(|known| (known.tenant, known.ready) == (2, 1)) {
            server.run(1);
        }
    }
    let used: Vec<u64> = server.driver.scheduler.tenants().iter().map(|tenant| tenant.used_tokens).collect();
    assert!(used[0].abs_diff(used[1]) <= 300, "{used:?}");
}

/// A tenant whose prompts wait for the long lane holds up nobody, and newcomers are not raised to its old account.
#[test]
fn blocked_tenants_are_passed() {
    let mut server = Server::new(Config { policy: policy("fcfs"), ..Config::default() }, laned(1, 8_192));
    let long = server.submit(1, 1, &[20_000; 30]);
    assert_eq!(server.driver.released(), long[..1]);
    for tenant in 2..1_000 {
        server.submit(tenant, u64::from(tenant), &[20_000]);
    }
    let shorts = server.submit(1_000, 1_000, &[64; 5]);
    assert_eq!(server.driver.released(), shorts);
}
