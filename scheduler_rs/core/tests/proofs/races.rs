//! Every interleaving of what can happen to one prompt, up to a length: slot and lane are given back exactly once.

use crate::reference::{BatchTerms, End, Late, Law, Order, Request, Rules, SECOND, Server, Sharing, Used};
use crate::scenario::Event;
use crate::seeded::number;
use crate::world::World;

/// What may come next; the prompt is the first of two, so that its slot is wanted.
#[derive(Clone, Copy, Debug)]
enum Move {
    FirstToken,
    Success,
    Failure,
    RetryAtOnce,
    RetryLaterElsewhere,
    Cancel,
    CancelBatch,
    Timeout,
    Time,
    Poll,
    Hold,
    Lift,
}

const MOVES: [Move; 12] = [
    Move::FirstToken,
    Move::Success,
    Move::Failure,
    Move::RetryAtOnce,
    Move::RetryLaterElsewhere,
    Move::Cancel,
    Move::CancelBatch,
    Move::Timeout,
    Move::Time,
    Move::Poll,
    Move::Hold,
    Move::Lift,
];

fn rules() -> Rules {
    let plain = Rules::plain(Order::Fcfs, Sharing::TenantBatch);
    Rules { queue_limit: 10, no_backend_timeout_ns: SECOND, ..plain }
}

/// Two backends with one slot and lanes; two prompts of a batch whose time ends, the first of them long.
fn world() -> World {
    let mut world = World::new(rules());
    let lanes = Server { lanes: true, first_token_timeout_ns: SECOND, ..Server::plain(1) };
    for backend in 0..2 {
        let server = Server { available: backend == 0, ..lanes.clone() };
        world.act(&Event::Update { backend, server });
    }
    let request = |index, tokens| Request {
        model: 0,
        class: 1,
        tokens,
        output_tokens: 10,
        queue_timeout_ns: 0,
        index,
        sequential: false,
        ttft_deadline_ns: 0,
    };
    let terms = BatchTerms { queue_timeout_ns: 0, deadline_ns: 0, tenant: 0, weight: 1 };
    let requests = vec![request(0, 5_000), request(1, 100)];
    world.act(&Event::Submit { batch: 0, requests, terms, deadline_in_ns: 3 * SECOND });
    world.poll();
    world.act(&Event::Update { backend: 1, server: lanes });
    world
}

fn make(world: &mut World, of: Move) {
    // The first of those in flight, which is the long prompt as long as it is there.
    let pick = 0;
    let event = match of {
        Move::FirstToken => Event::FirstToken(pick),
        Move::Success => Event::Finish {
            pick,
            end: End::Success,
            usage: Some(Used { uncached: 10, cached: 10, output: 10 }),
        },
        Move::Failure => Event::Finish { pick, end: End::Failed, usage: None },
        Move::RetryAtOnce => Event::Retry {
            pick,
            delay_ns: 0,
            exclude_backend: false,
            not_run: false,
            moves: true,
            asked: false,
        },
        Move::RetryLaterElsewhere => Event::Retry {
            pick,
            delay_ns: SECOND,
            exclude_backend: true,
            not_run: true,
            moves: false,
            asked: true,
        },
        Move::Cancel => Event::Cancel(pick),
        Move::CancelBatch => Event::CancelBatch(0),
        Move::Timeout => Event::Rearm { pick, deadline: Late::Attempt, in_ns: 0 },
        Move::Time => Event::ToDeadline,
        Move::Poll => Event::Nothing,
        Move::Hold => Event::Hold { batch: 0, horizon: 1 },
        Move::Lift => Event::Lift(0),
    };
    world.act(&event);
    world.act(&Event::TooLate(0));
    if matches!(of, Move::Poll | Move::Time) {
        world.poll();
    }
}

/// Law 6: under every race of first token, finish, retry, cancel, timeout, time and polls, each prompt ends once and
/// gives back what it held once (A06, A07, O08).
#[test]
fn law_06_every_interleaving() {
    // 12 + 12^2 + 12^3 + 12^4 traces by default, without the last when built without optimisation.
    let length_max = number("RACES", if cfg!(debug_assertions) { 3 } else { 4 }) as u32;
    for length in 1..=length_max {
        for trace in 0..MOVES.len().pow(length) {
            let moves = (0..length).map(|at| MOVES[trace / MOVES.len().pow(at) % MOVES.len()]);
            let moves: Vec<Move> = moves.collect();
            let mut world = world();
            for &of in &moves {
                make(&mut world, of);
            }
            world.poll();
            world.drain(trace as u64);
            let breach = world.model.verdict.breaches.first();
            assert!(
                breach.is_none(),
                "{}\nafter {moves:?}; repeat with\n  RACES={length} cargo test --release -p \
                 expresslane-scheduler --test proofs races::law_06_every_interleaving -- --exact",
                breach.map_or(String::new(), ToString::to_string),
            );
            assert!(
                world.model.ended.iter().sum::<u64>() == 2,
                "{:?} of {:?}",
                world.model.ended,
                Law::Drain
            );
        }
    }
}
