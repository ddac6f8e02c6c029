//! What happens to a ticket in flight: first token, signs of life, the end of the attempt.

use super::Scheduler;
use crate::group::GroupKey;
use crate::groups::routes;
use crate::ticket::{NEVER, Place};
use crate::{AttemptDeadline, AttemptEnd, Error, HistogramName, Outcome, RetryAnswer, TicketId, Usage};

impl Scheduler {
    /// The first token has come: the lane share is free and the idle clock starts. False when it had already come.
    pub fn first_token(&mut self, now_ns: u64, ticket: TicketId) -> Result<bool, Error> {
        let slot = self.in_flight_slot(ticket)?;
        self.advance(now_ns);
        let (ticket, course) = self.tickets.with_course(slot);
        if course.attempt.lane.is_none() {
            return Ok(false);
        }
        let backend = &mut self.backends[course.backend as usize];
        backend.first_token(ticket, course, self.now_ns);
        let attempt = &mut course.attempt;
        attempt.first_token_due_ns = NEVER;
        if backend.config.idle_timeout_ns > 0 {
            attempt.idle_due_ns = self.now_ns.saturating_add(backend.config.idle_timeout_ns);
        }
        if !course.first_token_seen {
            course.first_token_seen = true;
            let ttft_ns = self.now_ns - ticket.arrival_ns;
            backend.counters.histograms.record(HistogramName::Ttft, ticket.class, ttft_ns);
        }
        self.judge_first_token(slot);
        self.arm_ticket(slot);
        Ok(true)
    }

    /// Replaces one of the attempt's deadlines: it is (again) overdue at `at_ns`.
    pub fn rearm(
        &mut self,
        now_ns: u64,
        ticket: TicketId,
        deadline: AttemptDeadline,
        at_ns: u64,
    ) -> Result<(), Error> {
        let slot = self.in_flight_slot(ticket)?;
        self.advance(now_ns);
        let attempt = self.attempt_of_mut(slot);
        match deadline {
            AttemptDeadline::FirstToken => attempt.first_token_due_ns = at_ns,
            AttemptDeadline::Idle => attempt.idle_due_ns = at_ns,
            AttemptDeadline::Attempt => attempt.due_ns = at_ns,
        }
        self.arm_ticket(slot);
        Ok(())
    }

    /// The attempt is over and there shall be another, from `not_before_ns` on: slot and lane are given back.
    ///
    /// With `exclude_backend` the ticket never again goes to the backend that just had it. Any answer but
    /// [`RetryAnswer::Queued`] says why not; then nothing has changed and the ticket is to be finished.
    ///
    /// With `is_asked` it is the backend that wants it to wait. Then that is no time in the queue: its queue timeout counts
    /// from `not_before_ns` on, and so does that of its batch, until what is released after that wait is asked to wait
    /// again and none has ended. Only its batch's deadline and its own queue timeout may end it before.
    ///
    /// After [`Self::turned_away`] it is as if the ticket had not been released: it goes on waiting since when it last
    /// began to, so that its queue timeout still ends it, and its tenant's retry budget pays nothing. Nor does it after
    /// [`Self::not_run`], with `exclude_backend`.
    pub fn retry(
        &mut self,
        now_ns: u64,
        ticket: TicketId,
        not_before_ns: u64,
        exclude_backend: bool,
        is_asked: bool,
    ) -> Result<RetryAnswer, Error> {
        let slot = self.in_flight_slot(ticket)?;
        self.advance(now_ns);
        let course = self.tickets.course(slot);
        if course.attempt.cancelled {
            return Ok(RetryAnswer::Cancelled);
        }
        if self.wait_ends_ns(slot, is_asked) <= not_before_ns.max(self.now_ns) {
            return Ok(RetryAnswer::PastDeadline);
        }
        let backend = self.backends[course.backend as usize].id;
        let mut key = self.groups[self.tickets[slot].group].key.clone();
        let attempt = &course.attempt;
        key.avoided = attempt.moves.then_some(backend);
        if exclude_backend {
            key.avoided = None;
            if let Err(at) = key.excluded.binary_search(&backend) {
                key.excluded.insert(at, backend);
            }
            if routes(&key, &self.backends, &self.backends_by_id).is_empty() {
                return Ok(RetryAnswer::NoOtherBackend);
            }
        }
        let is_free = attempt.turned_away || attempt.not_run && exclude_backend;
        let tenant = self.tenant_of(slot);
        if self.config.retry_ratio > 0.0 && !is_free && !self.retry_budgets.take(tenant) {
            self.counters.retries_denied += 1;
            return Ok(RetryAnswer::BudgetExhausted);
        }
        self.judge_end(slot, None);
        self.settle_flow(slot, None, None);
        self.leave_backend(slot, AttemptEnd::Retry);
        self.requeue(slot, key, not_before_ns, is_asked);
        Ok(RetryAnswer::Queued)
    }

    /// When a ticket in flight that went back to the queue now would end there, as far as that is certain.
    ///
    /// Its batch's queue timeout is so only for the last of a batch: the end of any other restarts that clock. What a
    /// backend asks for comes before it.
    fn wait_ends_ns(&self, slot: u32, is_asked: bool) -> u64 {
        let batch = &self.batches[self.tickets[slot].batch];
        let course = self.tickets.course(slot);
        let own_ns = batch.deadline_ns.min(course.queue_due_ns);
        if batch.len > 1 || is_asked {
            return own_ns;
        }
        let queued_since_ns =
            if course.attempt.turned_away { self.tickets.queued_since_ns(slot) } else { self.now_ns };
        own_ns.min(batch.queue_due_ns(queued_since_ns))
    }

    /// A ticket in flight ends: slot and lane are given back.
    pub fn finish(&mut self, now_ns: u64, ticket: TicketId, outcome: Outcome) -> Result<(), Error> {
        self.finish_with_usage(now_ns, ticket, outcome, None)
    }

    /// Like [`Self::finish`], with the tokens that were really used if they are known.
    ///
    /// Without them the flow keeps being charged the estimate; before the first token a failure is free, and a cancel
    /// or an expiry costs the input only.
    pub fn finish_with_usage(
        &mut self,
        now_ns: u64,
        ticket: TicketId,
        outcome: Outcome,
        usage: Option<Usage>,
    ) -> Result<(), Error> {
        let slot = self.in_flight_slot(ticket)?;
        self.advance(now_ns);
        self.judge_end(slot, Some(outcome));
        self.settle_flow(slot, Some(outcome), usage);
        self.learn(slot, outcome, usage);
        if outcome == Outcome::Success {
            self.grow_ramp(slot);
        }
        self.leave_backend(slot, AttemptEnd::Ticket(outcome));
        if !self.attempt_of(slot).turned_away {
            self.batches[self.tickets[slot].batch].moved_on(self.now_ns);
        }
        self.end(slot, outcome);
        Ok(())
    }

    fn leave_backend(&mut self, slot: u32, end: AttemptEnd) {
        let (ticket, course) = self.tickets.with_course(slot);
        let backend = &mut self.backends[course.backend as usize];
        let model = self.groups[ticket.group].key.model;
        backend.give_back_lane(ticket, &mut course.attempt);
        backend.give_back_slot(model, self.now_ns);
        backend.note_left(self.now_ns, model);
        self.may_have_room = true;
        backend.counters.outcomes[end.position()] += 1;
        course.busy_ns += self.now_ns - course.released_ns;
        self.counters.in_flight -= 1;
    }

    fn requeue(&mut self, slot: u32, key: GroupKey, not_before_ns: u64, is_asked: bool) {
        let group = self.group_for(key);
        let ticket = &mut self.tickets[slot];
        self.groups[ticket.group].users -= 1;
        self.groups[group].users += 1;
        ticket.group = group;
        self.rejoin_flow(slot);
        let course = self.tickets.course_mut(slot);
        course.not_before_ns = not_before_ns;
        if is_asked || !course.attempt.turned_away {
            self.wait_anew(slot, is_asked);
        }
        self.tickets.course_mut(slot).released_ns = self.now_ns;
        self.count_queued(slot);
        self.counters.retried += 1;
        if not_before_ns > self.now_ns {
            self.tickets[slot].place = Place::RetryWait;
            self.counters.retry_waiting += 1;
        } else {
            self.return_to_bucket(slot);
        }
        self.arm_ticket(slot);
        if !self.tickets.course(slot).asked {
            let batch = self.tickets[slot].batch;
            self.arm_batch(batch, self.batches[batch].queue_due_ns(self.tickets.queued_since_ns(slot)));
        }
    }

    /// A wait in the queue begins: now, or once the one is over that a backend asks for.
    fn wait_anew(&mut self, slot: u32, is_asked: bool) {
        let batch = &mut self.batches[self.tickets[slot].batch];
        let course = self.tickets.course_mut(slot);
        course.wait += 1;
        course.queued_since_ns = if is_asked { course.not_before_ns.max(self.now_ns) } else { self.now_ns };
        course.asked = is_asked;
        if is_asked {
            batch.asked_to_wait(self.now_ns, course.released_ns, course.queued_since_ns);
        }
        batch.push(&self.tickets, slot);
    }
}

#[cfg(test)]
mod tests {
    use crate::{BackendConfig, BatchOptions, Config, ModelRoute, Outcome, Prompt, RetryAnswer, Scheduler};

    /// What is or was in flight has a course, and nothing else has, however the ones before have ended.
    #[test]
    fn a_course_for_each_released() {
        let mut scheduler = Scheduler::new(Config::default()).unwrap();
        let models = vec![ModelRoute { model: 0, cap: 0 }];
        let config = BackendConfig { cap: 8, models, lanes: false, ..BackendConfig::default() };
        scheduler.update_backend(0, 0, config).unwrap();
        let prompts = [0, 1, 2, 3].map(|index| Prompt { tokens: 10, index, ..Prompt::default() });
        for now_ns in 0..10 {
            scheduler.submit(now_ns, now_ns, &prompts, BatchOptions::default()).unwrap();
            let tickets = scheduler.poll(now_ns).dispatches;
            let [finished, retried, ended_waiting, failed] = [0, 1, 2, 3].map(|at| tickets[at].ticket);
            assert_eq!(scheduler.tickets.courses(), 4);
            scheduler.finish(now_ns, finished, Outcome::Success).unwrap();
            scheduler.finish(now_ns, failed, Outcome::Failed).unwrap();
            for ticket in [retried, ended_waiting] {
                assert_eq!(scheduler.retry(now_ns, ticket, 0, false, false), Ok(RetryAnswer::Queued));
            }
            assert_eq!(scheduler.tickets.courses(), 2);
            scheduler.cancel(now_ns, ended_waiting);
            assert_eq!(scheduler.poll(now_ns).dispatches[0].ticket, retried);
            assert_eq!(scheduler.tickets.courses(), 1);
            scheduler.finish(now_ns, retried, Outcome::Success).unwrap();
            assert_eq!(scheduler.tickets.courses(), 0);
        }
    }
}
