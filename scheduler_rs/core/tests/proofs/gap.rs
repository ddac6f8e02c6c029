//! Law 5: the service of two backlogged contenders stays within a bound, whatever fails, is cancelled or turns out larger.
//! And law 7: a class gets its least share of a backlog, no less and no more.
//!
//! The widest gap reaches 44 % of the bound among tenants and 53 % among batches, and the least share 38 % of its slack
//! (seeds 1 to 3): the bound is for the case that all that is in flight turns out at its worst at once. A gap that were
//! half as wide again would mostly pass; one that grows with time would not.

use crate::dice::Dice;
use crate::reference::{
    BatchTerms, End, Law, Order, Request, Rules, SECOND, Server, Service, Sharing, Used, fairness_gap_bound,
};
use crate::scenario::Event;
use crate::seeded::{number, repeat};
use crate::traces::CASES;
use crate::world::World;

const LARGEST_INPUT: u32 = 4_096;
const LARGEST_OUTPUT: u32 = 1_000;
/// More than fit into a tenant's common flow, so that each batch is a flow of its own.
const BACKLOG: usize = 20;

/// Who shares: tenants with one batch each, or the batches of one tenant.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Among {
    Tenants,
    Batches,
}

struct Contest {
    world: World,
    among: Among,
    slots: u32,
    services: Vec<Service>,
    dice: Dice,
    largest_charge: u64,
}

impl Contest {
    fn new(among: Among, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let slots = dice.between(1, 6) as u32;
        let contenders = dice.between(2, 5);
        let rules = Rules::plain(dice.pick(&Order::ALL), Sharing::TenantBatch);
        let mut world = World::new(Rules { queue_limit: 10_000, ..rules });
        world.act(&Event::Update { backend: 0, server: Server::plain(slots) });
        let weight = |dice: &mut Dice| if among == Among::Tenants { dice.between(1, 4) as u32 } else { 1 };
        let services = (0..contenders).map(|_| Service { tokens: 0, weight: weight(&mut dice) }).collect();
        Self { world, among, slots, services, dice, largest_charge: 0 }
    }

    /// Everybody has more waiting than can be in flight.
    fn fill(&mut self) {
        for batch in 0..self.services.len() as u64 {
            let waiting = self.world.model.waiting().filter(|item| item.batch == batch).count();
            if waiting > BACKLOG {
                continue;
            }
            // One contender's prompts are small, another's are large.
            let scale = 1 + u32::from(batch == 0) * 15;
            let requests = (0..BACKLOG as u32).map(|index| Request {
                model: 0,
                class: 1,
                tokens: self.dice.below(u64::from(LARGEST_INPUT / scale)) as u32,
                output_tokens: self.dice.below(u64::from(LARGEST_OUTPUT / scale)) as u32,
                queue_timeout_ns: 0,
                index,
                sequential: false,
                ttft_deadline_ns: 0,
            });
            let requests: Vec<Request> = requests.collect();
            for request in &requests {
                let charge = Request::charge(request.tokens, request.output_tokens);
                self.largest_charge = self.largest_charge.max(charge);
            }
            let tenant = if self.among == Among::Tenants { batch as u32 } else { 0 };
            let weight = self.services[batch as usize].weight;
            let terms = BatchTerms { queue_timeout_ns: 0, deadline_ns: 0, tenant, weight };
            self.world.act(&Event::Submit { batch, requests, terms, deadline_in_ns: 0 });
        }
    }

    /// One attempt ends in some way; its contender has had what it used, by the documented rules.
    fn end_one(&mut self) {
        let pick = self.dice.word();
        let Some(id) = self.world.pick_in_flight(pick) else { return };
        if self.dice.one_in(2) {
            self.world.act(&Event::FirstToken(pick));
        }
        let item = self.world.model.item(id).expect("it is in flight").clone();
        let in_prefill = item.flight().is_some_and(|flight| flight.in_prefill);
        let end = self.dice.weighted(&[(4, End::Success), (3, End::Failed), (2, End::Cancelled)]);
        let (input, output) = (item.request.tokens, item.request.output_tokens);
        let estimate = Request::charge(input, output);
        let usage = self.dice.one_in(3).then(|| {
            let output = self.dice.below(2 * u64::from(LARGEST_OUTPUT)) as u32;
            let cached = self.dice.below(100_000) as u32;
            Used { uncached: input, cached, output }
        });
        let used = match (usage, end) {
            (Some(usage), _) => usage.service(),
            (None, End::Failed) if in_prefill => 0,
            (None, End::Cancelled) if in_prefill => Request::charge(input, 0),
            (None, _) => estimate,
        };
        self.largest_charge = self.largest_charge.max(used);
        self.world.finish(id, end, usage);
        self.services[item.batch as usize].tokens += used;
    }

    /// A storm: much of what one contender has waiting is cancelled.
    fn cancel_some(&mut self) {
        let batch = self.dice.below(self.services.len() as u64);
        for _ in 0..BACKLOG / 2 {
            let pick = self.dice.word();
            let waits = |item: &crate::reference::Item| item.batch == batch && item.is_waiting();
            let Some(id) = self.world.pick(pick, waits) else { return };
            let at = self.world.model.items.iter().position(|item| item.id == id).expect("it waits");
            self.world.act(&Event::Cancel(at as u64));
        }
    }

    fn gap(&self) -> f64 {
        let shares = self.services.iter().map(|service| service.per_weight());
        let (least, most) =
            shares.fold((f64::INFINITY, 0.0_f64), |(least, most), share| (least.min(share), most.max(share)));
        most - least
    }
}

fn stays_bounded(test: &str, among: Among) {
    let quantum_tokens = u64::from(expresslane_scheduler::Config::default().turn_tokens);
    let (seed, cases) = (number("SEED", 1), number("CASES", CASES) / 8);
    for case in 0..cases.max(1) {
        let mut contest = Contest::new(among, seed.wrapping_mul(1_000_003).wrapping_add(case));
        for step in 0..400 {
            contest.fill();
            contest.world.poll();
            if contest.dice.one_in(40) {
                contest.cancel_some();
            }
            contest.world.act(&Event::Advance(SECOND / 20));
            contest.end_one();
            let bound = fairness_gap_bound(quantum_tokens, contest.largest_charge, contest.slots);
            let gap = contest.gap();
            assert!(
                gap <= bound,
                "{}: a gap of {gap} tokens per share after {step} steps, the bound is {bound}: \
                 {:?}\ncase {case}, {}",
                Law::FairnessGap,
                contest.services,
                repeat("proofs", test, seed, 8 * (case + 1)),
            );
        }
        let breach = contest.world.model.verdict.breaches.first();
        assert!(breach.is_none(), "{breach:?}\n{}", repeat("proofs", test, seed, 8 * (case + 1)));
    }
}

/// Law 5: two backlogged tenants are never further apart than the bound, per weight, with failures, cancels and wrong
/// estimates (VTC, Sheng et al., OSDI 2024).
#[test]
fn law_05_fairness_gap_of_tenants() {
    stays_bounded("gap::law_05_fairness_gap_of_tenants", Among::Tenants);
}

/// Law 5: nor are two large batches of one tenant.
#[test]
fn law_05_fairness_gap_of_batches() {
    stays_bounded("gap::law_05_fairness_gap_of_batches", Among::Batches);
}

/// Law 7: while both have work, a class with a least share gets that of all tokens, give or take two prompts.
#[test]
fn law_07_least_share() {
    let share = 0.2;
    let rules = Rules::plain(Order::Fcfs, Sharing::None);
    let class_min_shares = [0.0, share, 0.0];
    let mut world = World::new(Rules { queue_limit: 10_000, class_min_shares, ..rules });
    world.act(&Event::Update { backend: 0, server: Server::plain(1) });
    let seed = number("SEED", 1);
    let mut dice = Dice::new(seed);
    let mut had = [0.0; 2];
    for _ in 0..400 {
        for class in 0..2 {
            if world.model.waiting().any(|item| item.request.class == class) {
                continue;
            }
            let tokens = dice.between(1, u64::from(LARGEST_INPUT)) as u32;
            let request = Request::plain(class, 0, tokens);
            let terms = BatchTerms { queue_timeout_ns: 0, deadline_ns: 0, tenant: 0, weight: 1 };
            let batch = u64::from(class);
            world.act(&Event::Submit { batch, requests: vec![request], terms, deadline_in_ns: 0 });
        }
        for sent in world.poll().sent {
            let class = world.model.item(sent.id).map_or(0, |item| item.request.class);
            had[class as usize] += f64::from(sent.tokens);
            world.finish(sent.id, End::Success, None);
        }
        let (due, slack) = (share * (had[0] + had[1]), 2.0 * f64::from(LARGEST_INPUT));
        assert!(
            (had[1] - due).abs() <= slack,
            "{}: {had:?} tokens, {share} of all is {due}\n{}",
            Law::ClassOrder,
            repeat("proofs", "gap::law_07_least_share", seed, 1),
        );
    }
}
