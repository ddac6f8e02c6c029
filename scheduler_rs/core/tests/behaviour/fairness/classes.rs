//! Between classes: strict order, and least shares for the lower ones.

use super::Server;
use crate::driver::{BULK, Driver, INTERACTIVE, laned, plain};
use expresslane_scheduler::{BackendConfig, BatchOptions, CLASSES, Config, TicketId};

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

/// A class is owed a share only of what it could have had instead: what goes while nothing of it waits, or only what no
/// backend can take, is not made up for when its time comes.
#[test]
fn class_min_share_is_not_saved_up() {
    let mut class_min_shares = [0.0; CLASSES];
    class_min_shares[BULK as usize] = 0.1;
    let (of_interactive, of_bulk) = (1_000, 5_000);
    for waits_for_the_lane in [false, true] {
        let mut driver = Driver::new(Config { class_min_shares, ..Config::default() });
        driver.backend(0, BackendConfig { cap: 2, ..laned(1, 0) });
        let in_the_lane = driver.submit_one(0, BULK, of_bulk);
        assert_eq!(driver.released(), [in_the_lane]);
        let prompts = vec![(0, INTERACTIVE, of_interactive); 1_500];
        driver.try_submit(1, &prompts, BatchOptions::default()).unwrap();
        let submit = |driver: &mut Driver| {
            driver.try_submit(2, &[(0, BULK, of_bulk); 100], BatchOptions::default()).unwrap()
        };
        let waiting = waits_for_the_lane.then(|| submit(&mut driver));
        for _ in 0..1_000 {
            let released = driver.released();
            assert_eq!(released.len(), 1);
            driver.finish(released[0]);
        }
        driver.backend(0, BackendConfig { cap: 1, ..laned(1, 0) });
        driver.finish(in_the_lane);
        let bulk = waiting.unwrap_or_else(|| submit(&mut driver));
        let (mut interactive_had, mut bulk_had) = (0, 0);
        for _ in 0..400 {
            let ticket = driver.released()[0];
            if bulk.contains(&ticket) {
                bulk_had += of_bulk;
            } else {
                interactive_had += of_interactive;
            }
            driver.finish(ticket);
            let had =
                format!("{bulk_had} beside {interactive_had}, in the lane before: {waits_for_the_lane}");
            assert!(9 * bulk_had <= interactive_had + 9 * of_bulk, "more than its share and a prompt: {had}");
            assert!(9 * bulk_had + 9 * of_bulk >= interactive_had, "less than its share and a prompt: {had}");
        }
    }
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
