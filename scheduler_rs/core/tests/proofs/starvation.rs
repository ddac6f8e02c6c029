//! Law 4: every policy but `sjf` has a bound on what can overtake a prompt, as its documentation states it; `sjf` has
//! promotion. A siege: one prompt waits while rivals come without end, always as many as the queue takes; for the only
//! slot, or for the long lane, past which short prompts go all the time.

use crate::bridge;
use crate::reference::{Law, Order, Request, Rules, SECOND, Server, Sharing, edge_of};
use expresslane_scheduler::{Outcome, Scheduler, Scope, TicketId};

pub(crate) const MS: u64 = SECOND / 1_000;
pub(crate) const SERVICE_NS: u64 = 20 * MS;
pub(crate) const RIVALS: usize = 50;
pub(crate) const RELEASES_MAX: usize = 60_000;

/// Predicted prefill time at 5,000 tokens per second, with the step that every prompt takes.
pub(crate) fn prefill_ns(tokens: u32) -> f64 {
    5e6 + f64::from(edge_of(tokens)) * 200_000.0
}

pub(crate) fn prompt(tokens: u32, ttft_deadline_ns: u64) -> Request {
    Request {
        model: 0,
        class: 1,
        tokens,
        output_tokens: 0,
        queue_timeout_ns: 0,
        index: 0,
        sequential: false,
        ttft_deadline_ns,
    }
}

/// One rival that went first, in nanoseconds.
#[derive(Clone, Copy)]
pub(crate) struct Overtaker {
    pub(crate) model: u32,
    /// How long after the prompt it came; 0 for those that were there before or at once.
    pub(crate) came_after: u64,
    /// How long it and the prompt had waited when it went.
    pub(crate) waited: u64,
    pub(crate) victim_waited: u64,
}

/// One for each policy that meets others in a siege.
const MODELS: [(u32, u32); 2] = [(0, 0), (1, 0)];

/// What all of them wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scarce {
    Slot,
    LongLane,
}

impl Scarce {
    const ALL: [Self; 2] = [Self::Slot, Self::LongLane];

    fn server(self) -> Server {
        match self {
            Self::Slot => Server { models: MODELS.to_vec(), ..Server::plain(1) },
            // Whatever has more than one token is long.
            Self::LongLane => {
                let server = Server { models: MODELS.to_vec(), ..Server::plain(10) };
                Server { lanes: true, long_threshold_tokens: 1, ..server }
            }
        }
    }
}

pub(crate) struct Siege {
    pub(crate) overtakers: Vec<Overtaker>,
    pub(crate) victim_waited_ns: u64,
}

impl Siege {
    fn lay(scarce: Scarce, order: Order, victim: Request, rival: Request) -> Self {
        Self::lay_by_all(scarce, (order, order), victim, &[rival])
    }

    /// As many rivals of each kind; the second order is that of model 1.
    pub(crate) fn lay_by_all(
        scarce: Scarce,
        (order, order_of_1): (Order, Order),
        victim: Request,
        rivals: &[Request],
    ) -> Self {
        let rules = Rules::plain(order, Sharing::None);
        let mut scheduler = Scheduler::new(bridge::config(&rules)).expect("the rules are right");
        let scope = Scope { class: None, model: Some(1) };
        scheduler.set_policy(0, scope, Some(bridge::policy(order_of_1))).expect("the policy is right");
        scheduler.update_backend(0, 0, bridge::backend(&scarce.server())).expect("the backend is right");
        let submit = |scheduler: &mut Scheduler, now_ns: u64, request: Request| -> TicketId {
            let options = bridge::options(crate::reference::BatchTerms {
                queue_timeout_ns: 0,
                deadline_ns: 0,
                tenant: 0,
                weight: 1,
            });
            scheduler.submit(now_ns, 0, &[bridge::prompt(&request)], options).expect("there is room")[0]
        };
        let began_ns = 100 * SECOND;
        // What runs when the siege begins, so that all others have to wait.
        let mut running = submit(&mut scheduler, began_ns, rivals[0]);
        scheduler.poll(began_ns);
        let mut arrivals = std::collections::BTreeMap::new();
        let long_waiting = submit(&mut scheduler, began_ns, victim);
        let mut now_ns = began_ns;
        let mut overtakers = Vec::new();
        for _ in 0..RELEASES_MAX {
            for &rival in rivals {
                let there = arrivals.values().filter(|(model, _)| *model == rival.model).count();
                for _ in there..RIVALS / rivals.len() {
                    arrivals.insert(submit(&mut scheduler, now_ns, rival), (rival.model, now_ns));
                }
            }
            now_ns += SERVICE_NS;
            running = match scarce {
                Scarce::Slot => {
                    scheduler.finish(now_ns, running, Outcome::Success).expect("it is in flight");
                    scheduler.poll(now_ns).dispatches[0].ticket
                }
                Scarce::LongLane => {
                    let short = submit(&mut scheduler, now_ns, prompt(1, 0));
                    assert_eq!(scheduler.poll(now_ns).dispatches[0].ticket, short, "the lane is not taken");
                    scheduler.finish(now_ns, short, Outcome::Success).expect("it is in flight");
                    assert!(scheduler.poll(now_ns).dispatches.is_empty(), "the lane is not taken");
                    scheduler.first_token(now_ns, running).expect("it is in flight");
                    let next = scheduler.poll(now_ns).dispatches[0].ticket;
                    scheduler.finish(now_ns, running, Outcome::Success).expect("it is in flight");
                    next
                }
            };
            let victim_waited_ns = now_ns - began_ns;
            if running == long_waiting {
                return Self { overtakers, victim_waited_ns };
            }
            let (model, arrived_ns) = arrivals.remove(&running).expect("it waited");
            overtakers.push(Overtaker {
                model,
                came_after: arrived_ns - began_ns,
                waited: now_ns - arrived_ns,
                victim_waited: victim_waited_ns,
            });
        }
        panic!("{}: {order:?} lets {RELEASES_MAX} rivals pass {victim:?} ({scarce:?})", Law::NoStarvation);
    }

    pub(crate) fn last_came_after_ns(&self) -> u64 {
        self.overtakers.iter().map(|rival| rival.came_after).max().unwrap_or(0)
    }
}

/// What is known before the siege: as many releases as prompts wait at once, times the ratio of service times.
pub(crate) fn longest_wait_ns(ratio: f64) -> f64 {
    ratio * ((RIVALS + 1) as u64 * SERVICE_NS) as f64
}

/// Law 4, `fcfs`: nothing that came later goes first.
#[test]
fn law_04_fcfs() {
    for scarce in Scarce::ALL {
        let siege = Siege::lay(scarce, Order::Fcfs, prompt(8_192, 0), prompt(64, 0));
        assert!(siege.overtakers.is_empty(), "{} went first", siege.overtakers.len());
    }
}

/// Law 4, `edf`: nothing that comes after a prompt's deadline overtakes it; without one it is due after a minute.
#[test]
fn law_04_edf() {
    for scarce in Scarce::ALL {
        for deadline_ns in [0, 10 * SECOND] {
            let siege = Siege::lay(scarce, Order::Edf, prompt(8_192, deadline_ns), prompt(64, SECOND));
            let due_ns = if deadline_ns == 0 { 60 * SECOND } else { deadline_ns };
            assert!(siege.overtakers.len() > RIVALS, "the siege does not press");
            assert!(siege.last_came_after_ns() <= due_ns - SECOND);
            assert!(siege.last_came_after_ns() + SERVICE_NS >= due_ns - SECOND, "the bound is not tight");
            assert!(siege.victim_waited_ns <= due_ns + (RIVALS as u64 + 1) * SERVICE_NS);
        }
    }
}

/// Law 4, `sjf-aged`: a prompt of n tokens is overtaken only by what comes within n / rate after it.
#[test]
fn law_04_sjf_aged() {
    for scarce in Scarce::ALL {
        let tokens_per_s = 100.0;
        let siege = Siege::lay(scarce, Order::SjfAged { tokens_per_s }, prompt(8_192, 0), prompt(64, 0));
        let bound_ns = (8_192.0 - 64.0) / tokens_per_s * 1e9;
        assert!(siege.overtakers.len() > RIVALS, "the siege does not press");
        assert!(siege.last_came_after_ns() as f64 <= bound_ns);
        assert!((siege.last_came_after_ns() + SERVICE_NS) as f64 >= bound_ns, "the bound is not tight");
    }
}

/// Law 4, `ljf`: a prompt of p is overtaken by a longer one of q only when that comes within 100 (q - p) after it.
#[test]
fn law_04_ljf() {
    for scarce in Scarce::ALL {
        let siege = Siege::lay(scarce, Order::Ljf, prompt(64, 0), prompt(1_024, 0));
        let bound_ns = 100.0 * (prefill_ns(1_024) - prefill_ns(64));
        assert!(siege.overtakers.len() > RIVALS, "the siege does not press");
        assert!(siege.last_came_after_ns() as f64 <= bound_ns);
        assert!((siege.last_came_after_ns() + SERVICE_NS) as f64 >= bound_ns, "the bound is not tight");
    }
}

/// Law 4, `hrrn`: a prompt of p that has waited w is overtaken by one of q only when that has waited w q / p; so it goes
/// at the latest when w is p / q times the longest wait of its rivals, and when w is p / q times what it takes to release
/// all that wait at once.
#[test]
fn law_04_hrrn() {
    for scarce in Scarce::ALL {
        let (p, q) = (prefill_ns(8_192), prefill_ns(64));
        let siege = Siege::lay(scarce, Order::Hrrn, prompt(8_192, 0), prompt(64, 0));
        assert!(siege.overtakers.len() > RIVALS, "the siege does not press");
        for rival in &siege.overtakers {
            assert!(rival.waited as f64 * p * (1.0 + 1e-9) >= rival.victim_waited as f64 * q);
        }
        let longest_ns = siege.overtakers.iter().map(|rival| rival.waited).max().unwrap_or(0);
        assert!(siege.victim_waited_ns as f64 <= p / q * longest_ns as f64 + SERVICE_NS as f64);
        let bound_ns = longest_wait_ns(p / q);
        assert!(siege.victim_waited_ns as f64 <= bound_ns);
        assert!(siege.overtakers.len() as f64 <= bound_ns / SERVICE_NS as f64);
        assert!(
            siege.victim_waited_ns as f64 >= 0.9 * bound_ns,
            "the siege does not show that the bound is tight"
        );
    }
}

/// Law 4, `lars`: the same with lateness, which begins ten prefill times after the arrival or at the deadline.
#[test]
fn law_04_lars() {
    for scarce in Scarce::ALL {
        let (p, q) = (prefill_ns(8_192), prefill_ns(64));
        for (victim_deadline_ns, rival_deadline_ns) in
            [(0, 0), (30 * SECOND, 0), (0, 100 * MS), (30 * SECOND, 100 * MS)]
        {
            let siege = Siege::lay(
                scarce,
                Order::Lars,
                prompt(8_192, victim_deadline_ns),
                prompt(64, rival_deadline_ns),
            );
            let due_ns = |deadline_ns: u64, own_ns: f64| {
                if deadline_ns == 0 { 10.0 * own_ns } else { deadline_ns as f64 }
            };
            let (victim_due_ns, rival_due_ns) = (due_ns(victim_deadline_ns, p), due_ns(rival_deadline_ns, q));
            let passed = siege.overtakers.len();
            assert!(
                passed > RIVALS,
                "the siege does not press: {passed} of {rival_deadline_ns} pass {victim_deadline_ns}"
            );
            let mut latest_ns = 0.0_f64;
            for rival in &siege.overtakers {
                let (late_ns, victim_late_ns) =
                    (rival.waited as f64 - rival_due_ns, rival.victim_waited as f64 - victim_due_ns);
                assert!(late_ns / q >= victim_late_ns / p - 1e-9 * (victim_late_ns / p).abs());
                latest_ns = latest_ns.max(late_ns);
            }
            let bound_ns = victim_due_ns + p / q * latest_ns + SERVICE_NS as f64;
            assert!(siege.victim_waited_ns as f64 <= bound_ns);
            // No rival is due at once, so none is late for as long as it waits. Without deadlines that is hrrn's bound.
            let longest_ns = victim_due_ns + longest_wait_ns(p / q) - p / q * rival_due_ns;
            assert!(siege.victim_waited_ns as f64 <= longest_ns);
            assert!(siege.victim_waited_ns as f64 >= 0.9 * longest_ns, "the bound is not tight");
        }
    }
}

/// Law 4, `sjf`: no bound by itself; promotion lets nine times a prompt's own tokens pass it once it has waited a minute.
#[test]
fn law_04_sjf_promotes() {
    for scarce in Scarce::ALL {
        let siege = Siege::lay(scarce, Order::Sjf, prompt(8_192, 0), prompt(64, 0));
        assert!(siege.overtakers.len() > RIVALS, "the siege does not press");
        let overdue = siege.overtakers.iter().filter(|rival| rival.victim_waited > 60 * SECOND);
        assert_eq!(overdue.count() as u32, 9 * 8_192 / 64);
    }
}

/// Law 4, lanes: what does not fit the short lane is passed by no more than a sixteenth of the lane's tokens, and one prompt.
#[test]
fn law_04_unfit_heads() {
    let rules = Rules::plain(Order::Fcfs, Sharing::None);
    let budget = 2_048;
    let server = Server { lanes: true, short_budget_tokens: Some(budget), ..Server::plain(10_000) };
    let mut scheduler = Scheduler::new(bridge::config(&rules)).expect("the rules are right");
    scheduler.update_backend(0, 0, bridge::backend(&server)).expect("the backend is right");
    let terms = crate::reference::BatchTerms { queue_timeout_ns: 0, deadline_ns: 0, tenant: 0, weight: 1 };
    let submit = |scheduler: &mut Scheduler, request: Request| {
        let tickets = scheduler.submit(0, 0, &[bridge::prompt(&request)], bridge::options(terms));
        tickets.expect("there is room")[0]
    };
    let mut in_prefill = std::collections::VecDeque::new();
    for _ in 0..budget / 64 {
        submit(&mut scheduler, prompt(64, 0));
    }
    in_prefill.extend(scheduler.poll(0).dispatches.iter().map(|dispatch| dispatch.ticket));
    let victim = submit(&mut scheduler, prompt(budget, 0));
    let mut passed_tokens = 0;
    for now_ns in 1..10_000 {
        submit(&mut scheduler, prompt(64, 0));
        if let Some(oldest) = in_prefill.pop_front() {
            scheduler.first_token(now_ns, oldest).expect("it is in flight");
        }
        let released: Vec<TicketId> =
            scheduler.poll(now_ns).dispatches.iter().map(|sent| sent.ticket).collect();
        if released.contains(&victim) {
            assert!(
                passed_tokens >= budget / 16,
                "only {passed_tokens} tokens may pass: the lane is kept too early"
            );
            return;
        }
        passed_tokens += 64 * released.len() as u32;
        in_prefill.extend(released);
        assert!(
            passed_tokens <= budget / 16 + 64,
            "law 4 (NoStarvation): {passed_tokens} tokens pass an unfit head"
        );
    }
    panic!("{}: the unfit head starves", Law::NoStarvation);
}
