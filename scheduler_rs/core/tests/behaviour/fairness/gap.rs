//! The gap between contenders that always have work stays bounded; alone, fairness changes nothing.

use super::Server;
use crate::driver::{MS, SECOND, laned, plain, policy};
use crate::seeded::seeded;
use expresslane_scheduler::{BatchOptions, Config, Fairness, Outcome, Policy, Prompt, TicketId, Usage};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Two tenants at 1.5 and 3 requests a second with 256 tokens in and out, at a server that can do 3: in order of
/// arrival the gap grows with time, fairly shared it does not.
#[test]
fn overloaded_pair() {
    let gap_after = |fairness, turn_tokens, seconds: u64| {
        let config = Config { policy: policy("fcfs"), fairness, turn_tokens, ..Config::default() };
        let mut server = Server::new(config, plain(1));
        let mut done = [0_u64; 2];
        for tick in 0..seconds * 6 {
            for (tenant, every) in [(0, 4), (1, 2)] {
                if tick % every == 0 {
                    let options = BatchOptions { tenant, ..BatchOptions::default() };
                    let prompt = Prompt { class: 1, tokens: 256, output_tokens: 256, ..Prompt::default() };
                    let batch = tick * 2 + u64::from(tenant);
                    let now_ns = server.driver.now_ns;
                    let id = server.driver.scheduler.submit(now_ns, batch, &[prompt], options).unwrap()[0];
                    server.owner.insert(id, (tenant, batch, 256));
                }
            }
            if tick % 2 == 1 {
                for ticket in server.driver.released() {
                    done[server.owner[&ticket].0 as usize] += 768;
                    server.driver.finish(ticket);
                }
            }
            server.driver.advance(SECOND / 6);
        }
        done[0].abs_diff(done[1])
    };
    assert!(gap_after(Fairness::None, 0, 600) > gap_after(Fairness::None, 0, 60) * 8);
    for turn_tokens in [0, Config::default().turn_tokens] {
        assert!(gap_after(Fairness::TenantBatch, turn_tokens, 600) <= u64::from(turn_tokens) + 2 * 768);
    }
}

#[derive(Clone, Debug)]
enum End {
    Success { output_tokens: u32 },
    Failure,
    Retry,
    Cancel,
}

fn ends() -> impl Strategy<Value = End> {
    prop_oneof![
        6 => (0..400_u32).prop_map(|output_tokens| End::Success { output_tokens }),
        1 => Just(End::Failure),
        1 => Just(End::Retry),
        1 => Just(End::Cancel),
    ]
}

seeded! {
    /// The service gap between two tenants that always have work is bounded, also under failures, retries and cancels:
    /// by a turn, one prompt's charge and what is in flight, whatever has been done before.
    #[test]
    fn invariant_5_service_gap_is_bounded(
        weights in prop::collection::vec(1..5_u32, 2..5),
        cap in 1..6_u32,
        turn_tokens in prop::sample::select(vec![0, 1_000, 8_192]),
        steps in prop::collection::vec((ends(), any::<usize>(), 1..2_000_u32), 200..600),
    ) {
        let config = Config { policy: policy("hrrn"), turn_tokens, ..Config::default() };
        let mut server = Server::new(config, plain(cap));
        let mut used = vec![0_u64; weights.len()];
        let mut in_flight: Vec<TicketId> = Vec::new();
        let mut sizes: BTreeMap<TicketId, (usize, u32)> = BTreeMap::new();
        let output_tokens = 400;
        for (step, (end, pick, tokens)) in steps.into_iter().enumerate() {
            for (tenant, &weight) in weights.iter().enumerate() {
                let options = BatchOptions { tenant: tenant as u32, weight, ..BatchOptions::default() };
                let prompt = Prompt { class: 1, tokens, output_tokens, ..Prompt::default() };
                let batch = (tenant * 10 + step % 3) as u64;
                let ready = server.driver.scheduler.tenants();
                let count = ready.iter().find(|known| known.tenant == tenant as u32).map_or(0, |known| known.ready);
                if count < 8 {
                    for id in server.driver.scheduler.submit(0, batch, &[prompt; 8], options).unwrap() {
                        sizes.insert(id, (tenant, tokens));
                    }
                }
            }
            in_flight.extend(server.driver.released());
            let id = in_flight.swap_remove(pick % in_flight.len());
            let (tenant, tokens) = sizes[&id];
            let scheduler = &mut server.driver.scheduler;
            match end {
                End::Success { output_tokens } => {
                    scheduler.first_token(0, id).unwrap();
                    let usage = Usage { uncached_input_tokens: tokens, output_tokens, ..Usage::default() };
                    scheduler.finish_with_usage(0, id, Outcome::Success, Some(usage)).unwrap();
                    used[tenant] += u64::from(tokens + 2 * output_tokens);
                }
                End::Failure => scheduler.finish(0, id, Outcome::Failed).unwrap(),
                End::Retry => assert!(scheduler.retry(0, id, 0, false, false).unwrap().is_queued()),
                End::Cancel => {
                    scheduler.finish(0, id, Outcome::Cancelled).unwrap();
                    used[tenant] += u64::from(tokens);
                }
            }
            let bound = f64::from(turn_tokens) + f64::from(cap + 1) * f64::from(2_000 + 2 * output_tokens);
            let shares = used.iter().zip(&weights).map(|(&used, &weight)| used as f64 / f64::from(weight));
            let (least, most) = shares.fold((f64::MAX, 0.0_f64), |(a, b), share| (a.min(share), b.max(share)));
            prop_assert!(most - least <= bound, "step {step}: gap {} > {bound}", most - least);
        }
    }

    /// With one tenant and one batch fairness changes nothing at all.
    #[test]
    fn one_batch_is_as_without(
        name in prop::sample::select(Policy::NAMES.to_vec()),
        steps in prop::collection::vec((1..20_000_u32, 0..3_u32, any::<bool>(), 0..2_000_u64), 1..120),
    ) {
        let run = |fairness| {
            let config = Config { policy: policy(name), fairness, ..Config::default() };
            let mut server = Server::new(config, laned(1, 2_048));
            let mut in_flight = Vec::new();
            let mut order: Vec<TicketId> = Vec::new();
            for &(tokens, class, ends, gap_ms) in &steps {
                server.driver.try_submit(1, &[(0, class, tokens)], BatchOptions::default()).unwrap();
                let released = server.driver.released();
                order.extend(&released);
                in_flight.extend(released);
                server.driver.advance(gap_ms * MS);
                if ends && !in_flight.is_empty() {
                    let ticket = in_flight.remove(0);
                    server.driver.finish(ticket);
                }
            }
            order
        };
        prop_assert_eq!(run(Fairness::TenantBatch), run(Fairness::None));
    }
}
