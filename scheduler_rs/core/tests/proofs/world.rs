//! The scheduler and the model side by side, in virtual time: each event happens to both.

use crate::adversary::{Adversary, BACKENDS};
use crate::bridge;
use crate::dice::Dice;
use crate::reference::{
    Admission, BatchTerms, Decided, End, Item, Law, Reference, Request, Rules, SECOND, Said, Seen, Server,
    Sharing, Used,
};
use crate::scenario::{Event, Step};
use expresslane_scheduler::{Error, RetryAnswer, Scheduler, Scope, TicketId};

/// Enough for what is learned from eight answers of one backend.
const LESSONS: u64 = 30;

pub(crate) struct World {
    pub(crate) scheduler: Scheduler,
    pub(crate) model: Reference,
    /// Prompts that have ended, the latest last.
    ended: Vec<u64>,
    pub(crate) log: Vec<(u64, Decided)>,
    pub(crate) keeps_log: bool,
    /// How many prompts were released since the trace began.
    pub(crate) releases: u64,
}

impl World {
    pub(crate) fn new(rules: Rules) -> Self {
        let scheduler = Scheduler::new(bridge::config(&rules)).expect("the rules are right");
        let mut model = Reference::new(rules);
        model.now_ns = SECOND;
        Self { scheduler, model, ended: Vec::new(), log: Vec::new(), keeps_log: false, releases: 0 }
    }

    /// What an adversary begins with.
    pub(crate) fn of(adversary: Adversary, seed: u64) -> Self {
        let dice = &mut Dice::new(seed);
        let mut world = Self::new(adversary.rules(dice));
        for backend in 0..BACKENDS {
            world.act(&Event::Update { backend, server: adversary.server(dice) });
        }
        if adversary == Adversary::Learning {
            world.teach(dice);
            world.releases = 0;
        }
        world
    }

    /// Answers before the trace begins, each alone, so that backends are known by then.
    fn teach(&mut self, dice: &mut Dice) {
        let (round_trip_ns, ns_per_token) =
            (dice.pick(&[SECOND / 100, SECOND / 5, SECOND]), dice.pick(&[20_000, 200_000]));
        let decode_ns = dice.pick(&[0, SECOND / 5, 5 * SECOND]);
        for _ in 0..LESSONS {
            let tokens = dice.pick(&[64, 500, 1_000, 5_000, 20_000]);
            let request = Request {
                model: dice.below(3) as u32,
                class: 1,
                tokens,
                output_tokens: 10,
                queue_timeout_ns: 0,
                index: 0,
                sequential: false,
                ttft_deadline_ns: 0,
            };
            let terms = BatchTerms { queue_timeout_ns: 1, deadline_ns: 0, tenant: 0, weight: 1 };
            self.act(&Event::Submit { batch: 0, requests: vec![request], terms, deadline_in_ns: 0 });
            self.poll();
            self.act(&Event::Advance(round_trip_ns + u64::from(tokens) * ns_per_token));
            self.act(&Event::FirstToken(0));
            self.act(&Event::Advance(decode_ns));
            self.act(&Event::Finish { pick: 0, end: End::Success, usage: None });
            self.poll();
        }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        self.act(&step.event);
        if step.polls {
            self.poll();
        }
    }

    pub(crate) fn poll(&mut self) -> Decided {
        let before = bridge::seen(&self.scheduler);
        let decided = bridge::decided(&self.scheduler.poll(self.model.now_ns));
        let after = bridge::seen(&self.scheduler);
        let next_ns = self.scheduler.next_deadline();
        self.releases += decided.sent.len() as u64;
        self.ended.extend(decided.expired.iter().map(|(id, _)| id));
        self.model.note_report(&before, &after, decided.sent.len());
        self.model.poll(&decided);
        self.model.check_memory(&decided, &after);
        self.model.check(&before, &after, next_ns);
        if self.keeps_log {
            self.log.push((self.model.now_ns, decided.clone()));
        }
        decided
    }

    pub(crate) fn act(&mut self, event: &Event) {
        let now_ns = self.model.now_ns;
        match *event {
            Event::Submit { batch, ref requests, terms, deadline_in_ns } => {
                let deadline_ns = if deadline_in_ns == 0 { 0 } else { now_ns + deadline_in_ns };
                self.submit(batch, requests, BatchTerms { deadline_ns, ..terms });
            }
            Event::FirstToken(pick) => {
                let Some(id) = self.pick_in_flight(pick) else { return };
                let is_first = self.scheduler.first_token(now_ns, TicketId(id));
                let expected = self.model.first_token(id);
                self.must(Law::Conservation, is_first == Ok(expected), || {
                    format!("first_token of {id} is {is_first:?}, should be {expected}")
                });
            }
            Event::Finish { pick, end, usage } => {
                let Some(id) = self.pick_in_flight(pick) else { return };
                self.finish(id, end, usage);
            }
            Event::Retry { pick, delay_ns, exclude_backend, not_run, moves, asked } => {
                let Some(id) = self.pick_in_flight(pick) else { return };
                if not_run {
                    self.not_run(id);
                }
                self.retry(id, delay_ns, exclude_backend, moves, asked);
            }
            Event::Blame(pick) => self.blame(pick),
            Event::TurnedAway { pick, pause_ns, asked } => self.turn_away(pick, pause_ns, asked),
            Event::Said { pick, requests, tokens } => self.say(pick, requests, tokens),
            Event::Cancel(pick) => {
                let Some(id) = self.pick(pick, |_| true) else { return };
                let cancelled = self.scheduler.cancel(now_ns, TicketId(id));
                self.cancelled(&[id], &cancelled);
            }
            Event::CancelBatch(batch) => {
                let cancelled = self.scheduler.cancel_batch(now_ns, batch);
                self.model.early_horizons.remove(&batch);
                let of_batch = self.model.items.iter().filter(|item| item.batch == batch);
                let ids: Vec<u64> = of_batch.map(|item| item.id).collect();
                self.cancelled(&ids, &cancelled);
            }
            Event::Hold { batch, horizon } => {
                self.scheduler.hold_batch(now_ns, batch, horizon);
                self.model.move_horizon(batch, horizon);
            }
            Event::Lift(batch) => {
                self.scheduler.release_batch(now_ns, batch);
                self.model.move_horizon(batch, u32::MAX);
            }
            Event::Update { backend, ref server } => {
                let is_done = self.scheduler.update_backend(now_ns, backend, bridge::backend(server));
                assert_eq!(is_done, Ok(()), "{server:?}");
                let times = bridge::times(&self.scheduler.snapshot());
                let own = times.iter().find(|(id, _)| *id == backend).expect("it was just described");
                self.model.update(backend, server, own.1);
            }
            Event::Pause { backend, model, for_ns } => {
                self.scheduler.pause(now_ns, backend, model, now_ns + for_ns);
                self.model.pause(backend, model, now_ns + for_ns);
            }
            Event::Avoid { backend, model, for_ns } => {
                self.scheduler.avoid(now_ns, backend, model, now_ns + for_ns);
                self.model.avoid(backend, model, now_ns + for_ns);
            }
            Event::SetOrder { class, model, order } => {
                let is_set =
                    self.scheduler.set_policy(now_ns, Scope { class, model }, order.map(bridge::policy));
                let expected = order.is_some() || class.is_some() || model.is_some();
                assert_eq!(is_set.is_ok(), expected);
                self.model.set_order(class, model, order);
            }
            Event::LimitTenant { tenant, requests_per_min, tokens_per_min } => {
                let is_set =
                    self.scheduler.set_tenant_limits(now_ns, tenant, requests_per_min, tokens_per_min);
                let is_none = self.model.rules.sharing == Sharing::None;
                let expected = !is_none || (requests_per_min, tokens_per_min) == (0, 0);
                assert_eq!(is_set.is_ok(), expected, "{is_set:?}");
                if expected {
                    self.model.limit_tenant(tenant, requests_per_min, tokens_per_min);
                }
            }
            Event::Rearm { pick, deadline, in_ns } => {
                let Some(id) = self.pick_in_flight(pick) else { return };
                self.rearm(id, deadline, now_ns + in_ns);
            }
            Event::Advance(by_ns) => self.model.now_ns += by_ns,
            Event::ToDeadline => {
                let next_ns = self.scheduler.next_deadline().unwrap_or(now_ns);
                self.model.now_ns = next_ns.max(now_ns);
            }
            Event::TooLate(pick) => self.too_late(pick),
            Event::Nothing => {}
        }
    }

    fn blame(&mut self, pick: u64) {
        let Some(id) = self.pick_in_flight(pick) else { return };
        let is_done = self.scheduler.blame(self.model.now_ns, TicketId(id));
        self.must(Law::Conservation, is_done.is_ok(), || format!("blame of {id} in flight is {is_done:?}"));
        self.model.blame(id);
    }

    fn say(&mut self, pick: u64, requests: Option<Said>, tokens: Option<Said>) {
        let Some(id) = self.pick_in_flight(pick) else { return };
        let now_ns = self.model.now_ns;
        let at = |said: Said| Said { reset_ns: now_ns + said.reset_ns, ..said };
        let (requests, tokens) = (requests.map(at), tokens.map(at));
        let (first, second) = (requests.map(bridge::left), tokens.map(bridge::left));
        let is_heard = self.scheduler.told(now_ns, TicketId(id), first, second);
        self.must(Law::Conservation, is_heard.is_ok(), || format!("told of {id} in flight is {is_heard:?}"));
        self.model.said(id, requests, tokens);
    }

    fn submit(&mut self, batch: u64, requests: &[Request], terms: BatchTerms) {
        let prompts: Vec<_> = requests.iter().map(bridge::prompt).collect();
        let answer = self.scheduler.submit(self.model.now_ns, batch, &prompts, bridge::options(terms));
        let expected = self.model.admission(batch, requests, terms);
        let told = match &answer {
            Ok(_) => Some(Admission::Accepted),
            Err(Error::BatchTooLarge { .. }) => Some(Admission::BatchTooLarge),
            Err(Error::QueueFull { .. }) => Some(Admission::QueueFull),
            Err(Error::AboveLimit { .. }) => Some(Admission::AboveLimit),
            Err(_) => None,
        };
        self.must(Law::Conservation, told == Some(expected), || {
            format!("a submit of {} is answered {answer:?}, should be {expected:?}", requests.len())
        });
        if matches!(told, Some(Admission::BatchTooLarge | Admission::QueueFull)) {
            self.model.refused += requests.len() as u64;
        }
        let Ok(tickets) = answer else { return };
        let ids: Vec<u64> = tickets.iter().map(|ticket| ticket.0).collect();
        let is_later = ids.is_sorted() && self.model.items.iter().all(|item| item.id < ids[0]);
        self.must(Law::Conservation, is_later && ids.len() == requests.len(), || {
            format!("the tickets {ids:?} are not later than all before")
        });
        self.model.submit(&ids, batch, requests, terms);
    }

    pub(crate) fn finish(&mut self, id: u64, end: End, usage: Option<Used>) {
        let now_ns = self.model.now_ns;
        let outcome = bridge::outcome(end);
        let first = self.scheduler.finish_with_usage(now_ns, TicketId(id), outcome, usage.map(bridge::usage));
        let again = self.scheduler.finish(now_ns, TicketId(id), outcome);
        self.must(Law::Conservation, first.is_ok() && again.is_err(), || {
            format!("finish of {id} in flight is {first:?}, then {again:?}")
        });
        self.model.note_times(&bridge::times(&self.scheduler.snapshot()));
        self.model.finish(id, end, usage);
        self.ended.push(id);
    }

    fn turn_away(&mut self, pick: u64, pause_ns: u64, asked: bool) {
        let Some(id) = self.pick_in_flight(pick) else { return };
        let Some(item) = self.model.item(id) else { return };
        let (model, flight) = (item.request.model, item.flight().copied());
        let is_done = self.scheduler.turned_away(self.model.now_ns, TicketId(id));
        self.must(Law::Conservation, is_done.is_ok(), || {
            format!("turned_away of {id} in flight is {is_done:?}")
        });
        self.model.turned_away(id);
        if let Some(backend) = flight.map(|flight| flight.backend).filter(|_| pause_ns > 0) {
            self.act(&Event::Pause { backend, model: Some(model), for_ns: pause_ns });
            self.retry(id, pause_ns, false, false, asked);
        }
    }

    fn not_run(&mut self, id: u64) {
        let is_noted = self.scheduler.not_run(self.model.now_ns, TicketId(id));
        self.must(Law::Retries, is_noted.is_ok(), || format!("not_run of {id} in flight is {is_noted:?}"));
        if let Some(flight) = self.model.flight_mut(id) {
            flight.not_run = true;
        }
    }

    fn retry(&mut self, id: u64, delay_ns: u64, exclude_backend: bool, moves: bool, asked: bool) {
        let not_before_ns = self.model.now_ns + delay_ns;
        let Some(item) = self.model.item(id) else { return };
        let makes_sense = self.model.makes_sense(item, not_before_ns, exclude_backend, asked);
        let is_allowed = self.model.budget_allows(item, exclude_backend);
        if moves {
            let is_noted = self.scheduler.move_on(self.model.now_ns, TicketId(id));
            self.must(Law::Retries, is_noted.is_ok(), || {
                format!("move_on of {id} in flight is {is_noted:?}")
            });
            if let Some(flight) = self.model.flight_mut(id) {
                flight.moves = true;
            }
        }
        let now_ns = self.model.now_ns;
        let answer = self.scheduler.retry(now_ns, TicketId(id), not_before_ns, exclude_backend, asked);
        let is_queued = answer == Ok(RetryAnswer::Queued);
        let is_denied = answer == Ok(RetryAnswer::BudgetExhausted);
        let is_right = answer.is_ok()
            && (is_queued, is_denied) == (makes_sense && is_allowed, makes_sense && !is_allowed);
        self.must(Law::Retries, is_right, || {
            format!("a retry of {id} is {answer:?}; it makes sense: {makes_sense}, the budget allows it: {is_allowed}")
        });
        if is_queued {
            self.model.retry(id, not_before_ns, exclude_backend, asked);
            let holds = self.scheduler.first_token(self.model.now_ns, TicketId(id)).is_ok();
            self.must(Law::Retries, !holds, || format!("{id} waits for a retry and still holds its slot"));
        }
    }

    fn rearm(&mut self, id: u64, late: crate::reference::Late, at_ns: u64) {
        let Some(deadline) = bridge::deadline(late) else { return };
        let is_done = self.scheduler.rearm(self.model.now_ns, TicketId(id), deadline, at_ns);
        self.must(Law::Conservation, is_done.is_ok(), || format!("rearm of {id} in flight is {is_done:?}"));
        let Some(flight) = self.model.flight_mut(id) else { return };
        match late {
            crate::reference::Late::FirstToken => flight.first_token_due_ns = at_ns,
            crate::reference::Late::Idle => flight.idle_due_ns = at_ns,
            _ => flight.attempt_due_ns = at_ns,
        }
    }

    /// Nothing that comes after the end of an attempt has any effect.
    fn too_late(&mut self, pick: u64) {
        let now_ns = self.model.now_ns;
        let waiting = self.pick(pick, Item::is_waiting);
        let ended = self.ended.len().checked_sub(1 + (pick % 4) as usize).map(|at| self.ended[at]);
        for id in [waiting, ended].into_iter().flatten() {
            let ticket = TicketId(id);
            let answers = [
                self.scheduler.blame(now_ns, ticket).is_err(),
                self.scheduler.not_run(now_ns, ticket).is_err(),
                self.scheduler.first_token(now_ns, ticket).is_err(),
                self.scheduler.finish(now_ns, ticket, bridge::outcome(End::Success)).is_err(),
                self.scheduler.retry(now_ns, ticket, now_ns, false, false).is_err(),
                self.scheduler
                    .rearm(now_ns, ticket, expresslane_scheduler::AttemptDeadline::Idle, now_ns)
                    .is_err(),
            ];
            self.must(Law::Conservation, answers == [true; 6], || {
                format!("calls about {id}, not in flight, are refused: {answers:?}")
            });
        }
        if let Some(id) = ended {
            let cancelled = self.scheduler.cancel(now_ns, TicketId(id));
            self.cancelled(&[], &cancelled);
        }
    }

    fn cancelled(&mut self, asked: &[u64], cancelled: &expresslane_scheduler::Cancelled) {
        let ids = |tickets: &[TicketId]| -> Vec<u64> { tickets.iter().map(|ticket| ticket.0).collect() };
        self.ended.extend(ids(&cancelled.removed));
        self.model.cancel(asked, &ids(&cancelled.removed), &ids(&cancelled.in_flight));
    }

    /// One of the prompts that have not ended.
    pub(crate) fn pick(&self, pick: u64, of: impl Fn(&Item) -> bool) -> Option<u64> {
        let some: Vec<u64> = self.model.items.iter().filter(|item| of(item)).map(|item| item.id).collect();
        some.get((pick % some.len().max(1) as u64) as usize).copied()
    }

    pub(crate) fn pick_in_flight(&self, pick: u64) -> Option<u64> {
        self.pick(pick, |item| item.flight().is_some())
    }

    fn must(&mut self, law: Law, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.model.verdict.breach(law, self.model.now_ns, what());
        }
    }

    /// The ways in which everything comes to an end.
    pub(crate) fn drain(&mut self, how: u64) {
        match how % 3 {
            0 => self.drain_by_serving(),
            1 => self.drain_by_cancelling(),
            _ => self.drain_by_losing_all_backends(),
        }
        let seen = bridge::seen(&self.scheduler);
        let left = (seen.queued, seen.in_flight, seen.held, seen.retry_waiting, seen.queued_tokens);
        self.must(Law::Drain, left == (0, 0, 0, 0, 0), || format!("after the drain there is left: {seen:?}"));
        for backend in seen.backends {
            let held = (backend.in_flight, backend.long_in_prefill, backend.reserved_for);
            let tokens = (backend.short_tokens_in_prefill, backend.outstanding_prefill_tokens);
            self.must(Law::Drain, held == (0, 0, None) && tokens == (0, 0), || {
                format!("after the drain a backend still holds something: {backend:?}")
            });
        }
        self.poll();
    }

    /// Good backends, no horizons, each attempt a success.
    fn drain_by_serving(&mut self) {
        for backend in 0..BACKENDS {
            let models = (0..3).map(|model| (model, 0)).collect();
            self.act(&Event::Update { backend, server: Server { models, ..Server::plain(4) } });
            self.act(&Event::Pause { backend, model: None, for_ns: 0 });
            for model in 0..3 {
                self.act(&Event::Avoid { backend, model, for_ns: 0 });
            }
        }
        for tenant in self.model.allowances.keys().copied().collect::<Vec<_>>() {
            self.act(&Event::LimitTenant { tenant, requests_per_min: 0, tokens_per_min: 0 });
        }
        for batch in self.model.groups.iter().map(|group| group.id).collect::<Vec<_>>() {
            self.act(&Event::Lift(batch));
        }
        self.poll();
        self.finish_all(End::Success);
    }

    fn drain_by_cancelling(&mut self) {
        for batch in self.model.groups.iter().map(|group| group.id).collect::<Vec<_>>() {
            self.act(&Event::CancelBatch(batch));
        }
        let waits = self.model.waiting().count();
        self.must(Law::Drain, waits == 0, || format!("{waits} wait though all is cancelled"));
        self.finish_all(End::Cancelled);
    }

    fn drain_by_losing_all_backends(&mut self) {
        for backend in 0..BACKENDS {
            self.act(&Event::Update { backend, server: Server { available: false, ..Server::plain(4) } });
        }
        self.poll();
        self.finish_all(End::Failed);
    }

    fn finish_all(&mut self, end: End) {
        for _ in 0..10_000 {
            if self.model.items.is_empty() || self.model.verdict.is_lost {
                return;
            }
            if let Some(id) = self.pick_in_flight(0) {
                self.finish(id, end, None);
            } else {
                let next_ns = self.scheduler.next_deadline();
                self.must(Law::Drain, next_ns.is_some(), || "what waits off-slot has no timer".to_owned());
                if next_ns.is_none() {
                    return;
                }
                self.act(&Event::ToDeadline);
            }
            self.poll();
        }
        self.must(Law::Drain, false, || "10,000 steps are not enough to drain".to_owned());
    }

    /// A quick look at everything, for traces of millions of events.
    pub(crate) fn seen(&self) -> Seen {
        bridge::seen(&self.scheduler)
    }
}
