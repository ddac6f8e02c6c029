//! What is charged at the release gives way to what was really used.

use super::Server;
use expresslane_scheduler::{BatchOptions, Outcome, Prompt, Usage};

/// What is given back counts at once: the one that failed is next after the turn that another has begun.
#[test]
fn refund_within_a_turn() {
    let mut server = Server::in_turns(1_000);
    server.submit(1, 1, &[900; 10]);
    server.submit(2, 2, &[600; 10]);
    let mut order = Vec::new();
    for step in 0..6 {
        let ticket = server.driver.released()[0];
        order.push(server.owner[&ticket].0);
        let outcome = if step == 1 { Outcome::Failed } else { Outcome::Success };
        server.driver.scheduler.finish(0, ticket, outcome).unwrap();
    }
    assert_eq!(order, [1, 1, 2, 2, 1, 1]);
}

/// A failure before the first token is refunded; after it the input and what was made of output is paid for.
#[test]
fn refund() {
    let mut server = Server::fcfs();
    server.submit(1, 1, &[100; 100]);
    server.submit(2, 2, &[100; 100]);
    let mut failed = 0;
    for _ in 0..100 {
        let ticket = server.driver.released()[0];
        if server.owner[&ticket].0 == 1 && failed < 20 {
            failed += 1;
            server.driver.scheduler.finish(0, ticket, Outcome::Failed).unwrap();
        } else {
            server.driver.finish(ticket);
        }
    }
    let tenants = server.driver.scheduler.tenants();
    assert_eq!((tenants[0].used_tokens, tenants[1].used_tokens), (4_000, 4_000));
}

/// Real usage replaces the estimate: who was estimated too high gets the difference back; what was cached is no service.
#[test]
fn settled_on_usage() {
    let mut server = Server::fcfs();
    let options = |tenant| BatchOptions { tenant, ..BatchOptions::default() };
    let prompts = |output_tokens| [Prompt { class: 1, tokens: 100, output_tokens, ..Prompt::default() }; 200];
    let of_first = server.driver.scheduler.submit(0, 1, &prompts(1_000), options(1)).unwrap();
    server.driver.scheduler.submit(0, 2, &prompts(50), options(2)).unwrap();
    for _ in 0..200 {
        let ticket = server.driver.released()[0];
        let cached_input_tokens = if of_first.contains(&ticket) { 9_000 } else { 0 };
        let usage = Usage { uncached_input_tokens: 100, cached_input_tokens, output_tokens: 50 };
        server.driver.first_token(ticket);
        server.driver.scheduler.finish_with_usage(0, ticket, Outcome::Success, Some(usage)).unwrap();
    }
    let tenants = server.driver.scheduler.tenants();
    assert!(tenants[0].used_tokens.abs_diff(tenants[1].used_tokens) <= 2_100, "{tenants:?}");
}
