//! Law 12 against a provider that counts exactly and says what it has left: it is never sent more than it told (A26).

use crate::dice::Dice;
use crate::seeded::seeded;
use expresslane_scheduler::{
    BackendConfig, BatchOptions, Config, Left, ModelRoute, Outcome, Policy, Prompt, Scheduler, TicketId,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const MS: u64 = 1_000_000;
const PROMPTS: u32 = 120;

/// Fixed windows, one after the other: so many requests and tokens in each.
#[derive(Debug)]
struct Provider {
    window_ns: u64,
    requests: u64,
    tokens: u64,
    /// The number of the present window, and what was accepted in each.
    window: u64,
    accepted: BTreeMap<u64, (u64, u64)>,
    refused: u32,
}

impl Provider {
    /// A request arrives: whether it is accepted, and what the answer says is left.
    fn count(&mut self, now_ns: u64, tokens: u64) -> (bool, [Left; 2]) {
        self.window = now_ns / self.window_ns;
        let used = self.accepted.entry(self.window).or_default();
        let is_accepted = used.0 < self.requests && used.1 + tokens <= self.tokens;
        if is_accepted {
            *used = (used.0 + 1, used.1 + tokens);
        } else {
            self.refused += 1;
        }
        let reset_at_ns = (self.window + 1) * self.window_ns;
        let left = |limit: u64, used: u64| Left { amount: limit - used, limit, reset_at_ns };
        (is_accepted, [left(self.requests, used.0), left(self.tokens, used.1)])
    }
}

/// What comes of a request, when it is due.
#[derive(Clone, Copy, Debug)]
enum Coming {
    Headers { left: [Left; 2] },
    End { is_accepted: bool },
}

struct World {
    scheduler: Scheduler,
    provider: Provider,
    dice: Dice,
    now_ns: u64,
    /// By time, in the order in which they were made.
    coming: BTreeMap<(u64, u64), (TicketId, Coming)>,
    tokens: BTreeMap<TicketId, u64>,
    made: u64,
    slowest_ns: u64,
    /// Since when something is known.
    heard: bool,
    /// How many were refused of those that were sent after that.
    refused_since: u32,
}

impl World {
    fn new(cap: u32, provider: Provider, slowest_ns: u64, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let policy: Policy = dice.pick(&Policy::NAMES).parse().expect("a policy's name");
        let mut scheduler = Scheduler::new(Config { policy, ..Config::default() }).expect("it is right");
        let models = vec![ModelRoute { model: 0, cap: 0 }];
        let config = BackendConfig { cap, models, lanes: false, ..BackendConfig::default() };
        scheduler.update_backend(0, 0, config).expect("it is right");
        let (coming, tokens) = (BTreeMap::new(), BTreeMap::new());
        let (heard, refused_since) = (false, 0);
        Self {
            scheduler,
            provider,
            dice,
            now_ns: 1,
            coming,
            tokens,
            made: 0,
            slowest_ns,
            heard,
            refused_since,
        }
    }

    fn submit(&mut self, largest: u64) {
        let prompts: Vec<Prompt> = (0..PROMPTS)
            .map(|index| Prompt {
                class: self.dice.below(3) as u32,
                tokens: self.dice.below(largest) as u32,
                output_tokens: 1,
                index,
                ..Prompt::default()
            })
            .collect();
        let tickets = self.scheduler.submit(self.now_ns, 1, &prompts, BatchOptions::default());
        let sizes = prompts.iter().map(|prompt| u64::from(prompt.tokens) + u64::from(prompt.output_tokens));
        self.tokens.extend(tickets.expect("there is room").into_iter().zip(sizes));
    }

    fn expect(&mut self, from_ns: u64, ticket: TicketId, coming: Coming) -> u64 {
        let at_ns = from_ns + 1 + self.dice.below(self.slowest_ns);
        self.made += 1;
        self.coming.insert((at_ns, self.made), (ticket, coming));
        at_ns
    }

    fn poll(&mut self) {
        for sent in self.scheduler.poll(self.now_ns).dispatches {
            let (is_accepted, left) = self.provider.count(self.now_ns, self.tokens[&sent.ticket]);
            self.refused_since += u32::from(self.heard && !is_accepted);
            let headers_ns = self.expect(self.now_ns, sent.ticket, Coming::Headers { left });
            self.expect(headers_ns, sent.ticket, Coming::End { is_accepted });
        }
    }

    fn meet(&mut self, ticket: TicketId, coming: Coming) {
        match coming {
            Coming::Headers { left: [requests, tokens] } => {
                let told = self.scheduler.told(self.now_ns, ticket, Some(requests), Some(tokens));
                told.expect("it is in flight");
                self.heard = true;
            }
            Coming::End { is_accepted: true } => {
                self.scheduler.finish(self.now_ns, ticket, Outcome::Success).expect("it is in flight");
                self.tokens.remove(&ticket);
            }
            Coming::End { is_accepted: false } => {
                self.scheduler.turned_away(self.now_ns, ticket).expect("it is in flight");
                let answer = self.scheduler.retry(self.now_ns, ticket, self.now_ns, false, false);
                assert!(answer.expect("it is in flight").is_queued());
            }
        }
    }

    /// From event to event, until everything has ended.
    fn run(&mut self) {
        self.poll();
        while !self.tokens.is_empty() {
            let next_ns = self.coming.first_key_value().map(|(&(at_ns, _), _)| at_ns);
            let due_ns = self.scheduler.next_deadline();
            let at_ns = next_ns.into_iter().chain(due_ns).min();
            self.now_ns = at_ns.expect("what waits with nothing in flight has a timer");
            while let Some(first) = self.coming.first_entry().filter(|first| first.key().0 <= self.now_ns) {
                let (ticket, coming) = first.remove();
                self.meet(ticket, coming);
            }
            self.poll();
        }
    }
}

seeded! {
    /// However slow its answers, a provider that has said what it has left is never sent a request too many, in no later
    /// window either; and all prompts end.
    #[test]
    fn law_12_never_more_than_it_told(
        seed in any::<u64>(),
        cap in 1..20_u32,
        requests in 1..15_u64,
        tokens in prop::sample::select(vec![1_000_u64, 2_500, 1_000_000]),
        window_ns in prop::sample::select(vec![100 * MS, 1_000 * MS, 60_000 * MS]),
        slowest_ns in prop::sample::select(vec![MS, 50 * MS, 400 * MS, 70_000 * MS]),
    ) {
        let accepted = BTreeMap::new();
        let provider = Provider { window_ns, requests, tokens, window: 0, accepted, refused: 0 };
        let mut world = World::new(cap, provider, slowest_ns, seed);
        world.submit(999);
        world.run();
        prop_assert_eq!(world.refused_since, 0, "{:?}", world.provider);
        // What went before anything was known may have been too much.
        prop_assert!(world.provider.refused < cap);
    }

    /// Where answers are quick, nothing of what is left is left unused while prompts wait.
    #[test]
    fn law_03_all_that_it_told(seed in any::<u64>(), cap in 1..20_u32, requests in 1..15_u64) {
        let accepted = BTreeMap::new();
        let window_ns = 60_000 * MS;
        let provider = Provider { window_ns, requests, tokens: 1 << 40, window: 0, accepted, refused: 0 };
        let mut world = World::new(cap, provider, MS, seed);
        world.submit(999);
        world.run();
        let mut used: Vec<u64> = world.provider.accepted.values().map(|&(requests, _)| requests).collect();
        used.pop();
        prop_assert!(used.iter().all(|&used| used == requests), "{:?}", world.provider);
        let windows: Vec<u64> = world.provider.accepted.keys().copied().collect();
        prop_assert!(windows.is_sorted_by(|a, b| a + 1 == *b), "{:?}", windows);
    }
}
