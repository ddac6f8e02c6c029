//! Waits that a backend asks for are no time in the queue: they are waited for in full.

use crate::driver::{Driver, MS, SECOND, STANDARD, plain};
use expresslane_scheduler::{BatchOptions, ExpiryReason, Prompt, RetryAnswer, TicketId};

const TIMEOUT: BatchOptions =
    BatchOptions { queue_timeout_ns: 2 * SECOND, deadline_ns: 0, tenant: 0, weight: 1, may_wait: false };

fn submit(driver: &mut Driver, prompts: usize, options: BatchOptions) -> Vec<TicketId> {
    driver.try_submit(1, &vec![(0, STANDARD, 10); prompts], options).unwrap()
}

fn expired(driver: &mut Driver) -> Vec<(TicketId, ExpiryReason)> {
    driver.poll().expired.iter().map(|one| (one.ticket, one.reason)).collect()
}

/// Goes from deadline to deadline and returns what expired when.
fn run_timer(driver: &mut Driver, until_ns: u64) -> Vec<(u64, TicketId)> {
    let mut all = Vec::new();
    while let Some(at_ns) = driver.scheduler.next_deadline().filter(|&at_ns| at_ns <= until_ns) {
        driver.now_ns = at_ns;
        all.extend(expired(driver).into_iter().map(|(ticket, _)| (at_ns, ticket)));
    }
    all
}

/// Four seconds asked for, two in the queue: whether alone or not, a prompt waits the four and goes (A22).
#[test]
fn waited_for_in_full() {
    for prompts in [1, 2] {
        let mut driver = Driver::with("fcfs", &[plain(2)]);
        let tickets = submit(&mut driver, prompts, TIMEOUT);
        assert_eq!(driver.released(), tickets);
        for &ticket in &tickets {
            assert_eq!(driver.retry_as_asked(ticket, 4 * SECOND), RetryAnswer::Queued);
        }
        driver.advance(4 * SECOND - MS);
        let early = driver.poll();
        assert!(early.expired.is_empty() && early.dispatches.is_empty());
        driver.advance(MS);
        assert_eq!(driver.released(), tickets);
    }
}

/// A back-off of the service's own is time in the queue: it is not begun where it would end there.
#[test]
fn own_back_off_counts() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let ticket = submit(&mut driver, 1, TIMEOUT)[0];
    driver.poll();
    let answer = driver.scheduler.retry(0, ticket, 4 * SECOND, false, false);
    assert_eq!(answer, Ok(RetryAnswer::PastDeadline));
}

/// The queue timeout begins when the wait is over, for the one that was asked and for what waits behind it.
#[test]
fn queue_timeout_begins_after_it() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let tickets = submit(&mut driver, 2, TIMEOUT);
    driver.poll();
    driver.scheduler.pause(0, 0, None, 9 * SECOND);
    assert_eq!(driver.retry_as_asked(tickets[0], 4 * SECOND), RetryAnswer::Queued);
    assert_eq!(run_timer(&mut driver, 8 * SECOND), [(6 * SECOND, tickets[1]), (6 * SECOND, tickets[0])]);
}

/// One that is asked again and again waits by its own timer: what joins its batch meanwhile has its own queue time.
#[test]
fn newcomers_beside_a_long_wait() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let asked = submit(&mut driver, 1, TIMEOUT)[0];
    assert_eq!(driver.released(), [asked]);
    for (at_ns, delay_ns) in [(3 * SECOND, SECOND), (7 * SECOND, 30 * SECOND)] {
        driver.now_ns = at_ns;
        driver.poll();
        assert_eq!(driver.retry_as_asked(asked, delay_ns), RetryAnswer::Queued);
        driver.advance(delay_ns.min(SECOND));
        driver.poll();
    }
    let other = driver.submit(2, &[10])[0];
    assert_eq!(driver.released(), [other]);
    let newcomer = submit(&mut driver, 1, TIMEOUT)[0];
    assert_eq!(run_timer(&mut driver, 20 * SECOND), [(10 * SECOND, newcomer)]);
}

/// The caller's deadline and the prompt's own queue timeout are not put off: what would end there is told so at once.
#[test]
fn not_beyond_what_the_caller_set() {
    let own = Prompt { model: 0, class: 1, tokens: 10, queue_timeout_ns: 3 * SECOND, ..Prompt::default() };
    let any = Prompt { queue_timeout_ns: 0, ..own };
    let until = BatchOptions { deadline_ns: 3 * SECOND, ..TIMEOUT };
    for (prompt, options) in [(own, TIMEOUT), (any, until)] {
        let mut driver = Driver::with("fcfs", &[plain(1)]);
        let ticket = driver.scheduler.submit(0, 1, &[prompt], options).unwrap()[0];
        driver.poll();
        assert_eq!(driver.retry_as_asked(ticket, 3 * SECOND), RetryAnswer::PastDeadline);
        assert_eq!(driver.retry_as_asked(ticket, 3 * SECOND - MS), RetryAnswer::Queued);
    }
}

/// A backend that asks again and again is waited for each time by the one it asks; what never got there does not wait
/// for ever behind that one.
#[test]
fn again_and_again() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let tickets = submit(&mut driver, 2, TIMEOUT);
    let mut gone = Vec::new();
    for _ in 0..4 {
        let dispatches = driver.poll();
        gone.extend(dispatches.expired.iter().map(|one| (driver.now_ns, one.ticket)));
        assert_eq!(dispatches.dispatches[0].ticket, tickets[0]);
        driver.scheduler.turned_away(driver.now_ns, tickets[0]).unwrap();
        driver.scheduler.pause(driver.now_ns, 0, None, driver.now_ns + 3 * SECOND);
        assert_eq!(driver.retry_as_asked(tickets[0], 3 * SECOND), RetryAnswer::Queued);
        driver.advance(3 * SECOND - MS);
        gone.extend(expired(&mut driver).iter().map(|&(ticket, _)| (driver.now_ns, ticket)));
        driver.advance(MS);
    }
    assert_eq!(gone, [(6 * SECOND - MS, tickets[1])], "three seconds asked for, and two in the queue");
}

/// As soon as one of the batch ends, what is asked for by then is waited for by all of it, however often that is.
#[test]
fn as_long_as_it_moves_on() {
    let mut driver = Driver::with("fcfs", &[plain(2)]);
    let tickets = submit(&mut driver, 12, TIMEOUT);
    for round in 0..5 {
        let released = driver.released();
        assert_eq!(released, tickets[round..round + 2]);
        driver.scheduler.turned_away(driver.now_ns, released[1]).unwrap();
        driver.scheduler.pause(driver.now_ns, 0, None, driver.now_ns + 9 * SECOND);
        assert_eq!(driver.retry_as_asked(released[1], 9 * SECOND), RetryAnswer::Queued);
        driver.advance(SECOND);
        driver.finish(released[0]);
        let until_ns = driver.now_ns + 8 * SECOND;
        assert_eq!(run_timer(&mut driver, until_ns - MS), []);
        driver.now_ns = until_ns;
    }
}

/// After a wait one is asked again and another ends: then the rest waits for the second one too, and two seconds more.
#[test]
fn one_is_asked_again_and_another_ends() {
    let mut driver = Driver::with("fcfs", &[plain(2)]);
    let tickets = submit(&mut driver, 3, TIMEOUT);
    for wait_s in [3, 9] {
        assert_eq!(driver.released(), tickets[..2]);
        for &ticket in tickets.iter().take(if wait_s == 3 { 2 } else { 1 }) {
            driver.scheduler.turned_away(driver.now_ns, ticket).unwrap();
            driver.scheduler.pause(driver.now_ns, 0, None, driver.now_ns + wait_s * SECOND);
            assert_eq!(driver.retry_as_asked(ticket, wait_s * SECOND), RetryAnswer::Queued);
        }
        driver.advance(if wait_s == 3 { 3 * SECOND } else { SECOND });
    }
    driver.finish(tickets[1]);
    driver.scheduler.pause(driver.now_ns, 0, None, 99 * SECOND);
    let mut gone = run_timer(&mut driver, 90 * SECOND);
    gone.sort_unstable();
    assert_eq!(gone, [(14 * SECOND, tickets[0]), (14 * SECOND, tickets[2])]);
}

/// Of a burst that is asked to wait the longest wait counts for all of the batch, not the first.
#[test]
fn longest_of_a_burst() {
    let mut driver = Driver::with("fcfs", &[plain(2)]);
    let tickets = submit(&mut driver, 3, TIMEOUT);
    assert_eq!(driver.released(), tickets[..2]);
    for (&ticket, wait_s) in tickets.iter().zip([1, 7]) {
        driver.advance(MS);
        driver.scheduler.pause(driver.now_ns, 0, None, driver.now_ns + wait_s * SECOND);
        driver.scheduler.turned_away(driver.now_ns, ticket).unwrap();
        driver.retry_as_asked(ticket, wait_s * SECOND);
    }
    driver.scheduler.pause(driver.now_ns, 0, None, 99 * SECOND);
    let at_ns = 9 * SECOND + 2 * MS;
    let mut gone = run_timer(&mut driver, 90 * SECOND);
    gone.sort_unstable();
    assert_eq!(gone, tickets.iter().map(|&ticket| (at_ns, ticket)).collect::<Vec<_>>());
}

/// A later submit with a shorter queue timeout holds for what was asked to wait too.
#[test]
fn another_timeout_for_the_batch() {
    let mut driver = Driver::with("fcfs", &[plain(1)]);
    let ticket = submit(&mut driver, 1, TIMEOUT)[0];
    driver.poll();
    driver.scheduler.pause(0, 0, None, 9 * SECOND);
    driver.retry_as_asked(ticket, 4 * SECOND);
    let shorter = BatchOptions { queue_timeout_ns: SECOND, ..TIMEOUT };
    let later = submit(&mut driver, 1, shorter)[0];
    let mut gone = run_timer(&mut driver, 20 * SECOND);
    gone.retain(|&(_, one)| one == ticket || one == later);
    assert_eq!(gone, [(5 * SECOND, later), (5 * SECOND, ticket)]);
}
