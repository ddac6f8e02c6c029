//! Law 4 where policies meet in one flow: what comes of another policy has no more say than what comes of its own.
//!
//! Half of the rivals have the policy of the prompt that they besiege, half another; the bound is that of its own. `edf`,
//! `sjf-aged` and `ljf` reach at least 94 % of it. `hrrn` reaches 49 % of its longest wait and `lars` 40 % of what is
//! beyond the deadline: the bound counts all that wait, and half of them score by another policy.

use crate::reference::{Order, Request, SECOND};
use crate::starvation::{MS, RIVALS, SERVICE_NS, Scarce, Siege, longest_wait_ns, prefill_ns, prompt};

const TOKENS_PER_S: f64 = 100.0;
const AGED: Order = Order::SjfAged { tokens_per_s: TOKENS_PER_S };

/// Sieges by rivals of the same policy, of model 0, and as many of each other one, of model 1.
fn sieges(order: Order, victim: Request, rival: Request) -> impl Iterator<Item = (Order, Siege)> {
    let others = Order::ALL.into_iter().filter(move |other| other.name() != order.name());
    others.map(move |other| {
        let rivals = [rival, Request { model: 1, ..prompt(64, SECOND) }];
        (other, Siege::lay_by_all(Scarce::Slot, (order, other), victim, &rivals))
    })
}

fn presses(siege: &Siege) -> bool {
    siege.overtakers.len() > RIVALS
        && [0, 1].iter().all(|&model| siege.overtakers.iter().any(|rival| rival.model == model))
}

/// Law 4, `fcfs` beside another policy: nothing that came later goes first.
#[test]
fn law_04_fcfs_beside_others() {
    for (other, siege) in sieges(Order::Fcfs, prompt(8_192, 0), prompt(64, 0)) {
        assert!(siege.overtakers.is_empty(), "{} went first beside {other:?}", siege.overtakers.len());
    }
}

/// Law 4, `edf` beside another policy: nothing that comes after a prompt's deadline goes first.
#[test]
fn law_04_edf_beside_others() {
    for (other, siege) in sieges(Order::Edf, prompt(8_192, 10 * SECOND), prompt(64, SECOND)) {
        assert!(presses(&siege), "the siege does not press beside {other:?}");
        assert!(siege.last_came_after_ns() <= 9 * SECOND, "beside {other:?}");
    }
}

/// Law 4, `sjf-aged` beside another policy: what goes first came within n / rate after the prompt.
#[test]
fn law_04_sjf_aged_beside_others() {
    let bound_ns = (8_192.0 - 64.0) / TOKENS_PER_S * 1e9;
    for (other, siege) in sieges(AGED, prompt(8_192, 0), prompt(64, 0)) {
        assert!(presses(&siege), "the siege does not press beside {other:?}");
        assert!(siege.last_came_after_ns() as f64 <= bound_ns, "beside {other:?}");
    }
}

/// Law 4, `ljf` beside another policy: what goes first came within 100 (q - p) after the prompt, q the longest of `ljf`.
#[test]
fn law_04_ljf_beside_others() {
    let bound_ns = 100.0 * (prefill_ns(1_024) - prefill_ns(64));
    for (other, siege) in sieges(Order::Ljf, prompt(64, 0), prompt(1_024, 0)) {
        assert!(presses(&siege), "the siege does not press beside {other:?}");
        assert!(siege.last_came_after_ns() as f64 <= bound_ns, "beside {other:?}");
    }
}

/// Law 4, `hrrn` beside another policy: what goes first after a wait of w came at least w m / s before, m the shortest
/// service time of `hrrn`; so the prompt waits at most s / m times what it takes to release all that wait at once.
#[test]
fn law_04_hrrn_beside_others() {
    let (s, m) = (prefill_ns(8_192), prefill_ns(64));
    for (other, siege) in sieges(Order::Hrrn, prompt(8_192, 0), prompt(64, 0)) {
        assert!(presses(&siege), "the siege does not press beside {other:?}");
        for rival in &siege.overtakers {
            let least_ns = rival.victim_waited as f64 * m / s;
            assert!(rival.waited as f64 * (1.0 + 1e-9) >= least_ns, "beside {other:?}");
        }
        assert!(siege.victim_waited_ns as f64 <= longest_wait_ns(s / m), "beside {other:?}");
    }
}

/// Law 4, `lars` beside another policy: the same with lateness, which begins at the deadline.
#[test]
fn law_04_lars_beside_others() {
    let (s, m) = (prefill_ns(8_192), prefill_ns(64));
    let due_ns = 30 * SECOND;
    for (other, siege) in sieges(Order::Lars, prompt(8_192, due_ns), prompt(64, 100 * MS)) {
        assert!(presses(&siege), "the siege does not press beside {other:?}");
        for rival in siege.overtakers.iter().filter(|rival| rival.victim_waited > due_ns) {
            let least_ns = (rival.victim_waited - due_ns) as f64 * m / s;
            assert!(rival.waited as f64 * (1.0 + 1e-9) >= least_ns, "beside {other:?}");
        }
        let bound_ns = due_ns as f64 + longest_wait_ns(s / m);
        assert!(siege.victim_waited_ns as f64 <= bound_ns, "beside {other:?}");
        assert!(siege.victim_waited_ns > due_ns + SERVICE_NS, "it is never late beside {other:?}");
    }
}
