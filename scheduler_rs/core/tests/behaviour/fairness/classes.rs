//! Between classes: strict order, and least shares for the lower ones.

use super::Server;
use crate::driver::{BULK, Driver, INTERACTIVE, plain};
use expresslane_scheduler::{BatchOptions, CLASSES, Config, TicketId};

/// Fairness is between tenants of a class; classes stay strict.
#[test]
fn classes_come_first() {
    let mut server = Server::fcfs();
    server.submit(1, 1, &[10_000; 3]);
    let options = BatchOptions { tenant: 1, ..BatchOptions::default() };
    server.run(1);
    let urgent = server.driver.try_submit(2, &[(0, INTERACTIVE, 5_000); 2], options).unwrap();
    server.submit(2, 3, &[1; 2]);
    let order: Vec<TicketId> = server.driver.run_one_at_a_time(0);
    assert_eq!(order[..2], urgent);
}

/// A lower class gets its least share while it has work, and a higher one all the rest.
#[test]
fn class_min_share() {
    let mut class_min_shares = [0.0; CLASSES];
    class_min_shares[BULK as usize] = 0.1;
    let mut driver = Driver::new(Config { class_min_shares, ..Config::default() });
    driver.backend(0, plain(1));
    let prompts = [[(0, INTERACTIVE, 100); 500], [(0, BULK, 300); 500]].concat();
    let tickets = driver.try_submit(1, &prompts, BatchOptions::default()).unwrap();
    let (mut interactive, mut bulk) = (0, 0);
    for _ in 0..400 {
        let ticket = driver.released()[0];
        if tickets[..500].contains(&ticket) {
            interactive += 100;
        } else {
            bulk += 300;
        }
        driver.finish(ticket);
    }
    assert!(bulk * 10 >= interactive + bulk - 3_000, "{bulk} of {}", interactive + bulk);
    assert!(bulk * 10 <= interactive + bulk + 3_000, "{bulk} of {}", interactive + bulk);
}

/// Shares that leave nothing for the rest, or are below zero, are refused by name.
#[test]
fn bad_shares() {
    for class_min_shares in [[0.0, -0.1, 0.0], [0.0, 0.5, 0.5], [f64::NAN, 0.0, 0.0]] {
        let config = Config { class_min_shares, ..Config::default() };
        let refused = expresslane_scheduler::Scheduler::new(config).unwrap_err().to_string();
        assert!(refused.contains("class_min_shares"), "{refused}");
    }
}
