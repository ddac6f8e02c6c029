//! Deadlines: arming them, and what happens when they are due.

use super::Scheduler;
use crate::group::Group;
use crate::ticket::{NEVER, Place, Ticket, due_ns};
use crate::timers::Owner;
use crate::{BatchOptions, Decisions, Expired, ExpiryReason, Outcome, Overdue, OverdueReason};

impl Scheduler {
    /// When [`Self::poll`] must be called next if nothing else happens; may change after any other call.
    ///
    /// It may be too early, never too late: a deadline that moved back is found when its old time comes.
    pub fn next_deadline(&mut self) -> Option<u64> {
        loop {
            let (at_ns, owner) = self.timers.peek()?;
            if self.is_live(at_ns, owner) {
                return Some(at_ns);
            }
            self.timers.pop_stale();
        }
    }

    pub(super) fn run_timers(&mut self, out: &mut Decisions) {
        while self.timers.first_ns() <= self.now_ns {
            let Some((at_ns, owner)) = self.timers.peek() else { break };
            if self.is_live(at_ns, owner) {
                self.timers.pop_live();
                self.fire(owner, out);
            } else {
                self.timers.pop_stale();
            }
        }
        if self.timers.wants_compaction() {
            let mut timers = std::mem::take(&mut self.timers);
            timers.compact(|at_ns, owner| self.is_live(at_ns, owner));
            self.timers = timers;
        }
    }

    fn is_live(&self, at_ns: u64, owner: Owner) -> bool {
        let timer_ns = match owner {
            Owner::Backend(slot) => Some(self.backends[slot as usize].timer_ns),
            Owner::Batch(slot) => self.batches.timer_ns(slot),
            Owner::Group(slot) => Some(self.groups[slot].timer_ns),
            Owner::Tenant(id) => self.tenant_limits.find(id).map(|limit| limit.timer_ns),
            Owner::Ticket(id) => self.tickets.find(id).map(|slot| self.tickets.course(slot).timer_ns),
        };
        timer_ns == Some(at_ns)
    }

    fn fire(&mut self, owner: Owner, out: &mut Decisions) {
        match owner {
            Owner::Backend(slot) => {
                // The release that follows finds it open.
                self.backends[slot as usize].timer_ns = NEVER;
                self.fire_backend(slot);
            }
            Owner::Batch(slot) => {
                self.batches[slot].timer_ns = NEVER;
                self.fire_batch(slot, out);
            }
            Owner::Group(slot) => {
                self.groups[slot].timer_ns = NEVER;
                self.fire_group(slot, out);
            }
            Owner::Tenant(id) => {
                let limit = self.tenant_limits.find_mut(id);
                limit.expect("a live timer has its tenant").timer_ns = NEVER;
                self.flows.reconsider.insert(id);
            }
            Owner::Ticket(id) => {
                self.tickets.course_mut(id.slot()).timer_ns = NEVER;
                self.fire_ticket(id.slot(), out);
            }
        }
    }

    fn fire_ticket(&mut self, slot: u32, out: &mut Decisions) {
        let now_ns = self.now_ns;
        let ticket = &self.tickets[slot];
        match ticket.place {
            Place::InFlight => self.report_overdue(slot, out),
            _ if self.own_queue_due_ns(ticket) <= now_ns => {
                return self.expire(slot, ExpiryReason::Queue, out);
            }
            _ if self.no_backend_due_ns(ticket) <= now_ns => {
                return self.expire(slot, ExpiryReason::NoBackend, out);
            }
            Place::RetryWait if self.tickets.course_of(ticket).not_before_ns <= now_ns => {
                self.counters.retry_waiting -= 1;
                self.return_to_bucket(slot);
            }
            _ => {}
        }
        self.arm_ticket(slot);
    }

    fn report_overdue(&mut self, slot: u32, out: &mut Decisions) {
        let now_ns = self.now_ns;
        let (ticket, course) = self.tickets.with_course(slot);
        let attempt = &mut course.attempt;
        let dues = [
            (&mut attempt.first_token_due_ns, OverdueReason::FirstToken),
            (&mut attempt.idle_due_ns, OverdueReason::Idle),
            (&mut attempt.due_ns, OverdueReason::Attempt),
        ];
        for (due_ns, reason) in dues {
            if *due_ns <= now_ns {
                *due_ns = NEVER;
                out.overdue.push(Overdue { ticket: ticket.id, reason });
            }
        }
    }

    fn expire(&mut self, slot: u32, reason: ExpiryReason, out: &mut Decisions) {
        out.expired.push(Expired { ticket: self.tickets[slot].id, reason });
        self.end_queued(slot, Outcome::Expired);
    }

    fn fire_batch(&mut self, slot: u32, out: &mut Decisions) {
        let batch = &mut self.batches[slot];
        let (id, now_ns) = (batch.id, self.now_ns);
        if batch.deadline_ns <= now_ns && batch.deadline_pending {
            batch.deadline_pending = false;
            self.end_batch_time(slot, out);
        } else {
            let tickets = batch.tickets.iter(&self.tickets);
            let queued = tickets.filter(|&slot| self.tickets[slot].is_queued());
            let is_due = |&slot: &u32| batch.queue_due_ns(self.tickets.queued_since_ns(slot)) <= now_ns;
            for slot in queued.take_while(is_due).collect::<Vec<_>>() {
                self.expire(slot, ExpiryReason::Queue, out);
            }
        }
        if let Some(slot) = self.batches.find(id) {
            self.arm_batch_anew(slot);
        }
    }

    fn end_batch_time(&mut self, slot: u32, out: &mut Decisions) {
        let batch = &mut self.batches[slot];
        let is_told = batch.overdue_reported_ns == batch.deadline_ns;
        batch.overdue_reported_ns = batch.deadline_ns;
        for slot in self.batches[slot].unfinished(&self.tickets) {
            let ticket = &self.tickets[slot];
            if ticket.is_queued() {
                self.expire(slot, ExpiryReason::Batch, out);
            } else if !is_told {
                out.overdue.push(Overdue { ticket: ticket.id, reason: OverdueReason::Batch });
            }
        }
    }

    /// One pass over all tickets for each time that a group goes down or that probes have failed. Each has its own timer
    /// then, as those have that come later, so the group needs none until its time may have come nearer.
    fn fire_group(&mut self, slot: u32, out: &mut Decisions) {
        let waiting = self.tickets.iter().filter(|(_, ticket)| ticket.group == slot && ticket.is_queued());
        let mut waiting: Vec<_> = waiting.map(|(slot, ticket)| (ticket.id, slot)).collect();
        waiting.sort_unstable();
        for (_, slot) in waiting {
            if self.no_backend_due_ns(&self.tickets[slot]) <= self.now_ns {
                self.expire(slot, ExpiryReason::NoBackend, out);
            } else {
                // While probes were out it had no such time.
                self.arm_ticket(slot);
            }
        }
    }

    /// The queue timeout as far as the ticket's own timer tells of it; the batch's tells of the rest.
    fn own_queue_due_ns(&self, ticket: &Ticket) -> u64 {
        let course = self.tickets.course_of(ticket);
        if !course.asked {
            return course.queue_due_ns;
        }
        course.queue_due_ns.min(self.batches[ticket.batch].queue_due_ns(course.queued_since_ns))
    }

    fn no_backend_due_ns(&self, ticket: &Ticket) -> u64 {
        // What was turned away goes on with its wait, but a backend had it until then.
        let course = self.tickets.course_of(ticket);
        let waits_since_ns = ticket.arrival_ns.max(course.queued_since_ns).max(course.released_ns);
        self.down_due_ns(&self.groups[ticket.group], waits_since_ns)
    }

    /// Never while a backend is tried: what that tells is waited for, and a probe has its time.
    fn down_due_ns(&self, group: &Group, waits_since_ns: u64) -> u64 {
        let Some(since_ns) = group.down_since_ns else { return NEVER };
        let mut timeout_ns = self.config.no_backend_timeout_ns;
        for route in &group.routes {
            let backend = &self.backends[route.backend as usize];
            if backend.is_tried() {
                return NEVER;
            }
            if !backend.config.available {
                timeout_ns = timeout_ns.max(backend.config.absence_timeout_ns);
            }
        }
        since_ns.max(waits_since_ns).saturating_add(timeout_ns)
    }

    /// So early that the first token, which brings a deadline with it, is no reason to set it anew.
    pub(super) fn arm_released(&mut self, slot: u32, backend: u32) {
        let (ticket, course) = self.tickets.with_course(slot);
        let idle_due_ns = due_ns(self.now_ns, self.backends[backend as usize].config.idle_timeout_ns);
        let due_ns = course.attempt.first_due_ns().min(idle_due_ns);
        self.timers.arm(&mut course.timer_ns, due_ns, Owner::Ticket(ticket.id));
    }

    /// To be called whenever one of the ticket's times has changed.
    pub(super) fn arm_ticket(&mut self, slot: u32) {
        let ticket = &self.tickets[slot];
        let due_ns = match ticket.place {
            Place::InFlight => self.attempt_of(slot).first_due_ns(),
            Place::RetryWait => {
                let not_before_ns = self.tickets.course_of(ticket).not_before_ns;
                self.own_queue_due_ns(ticket).min(not_before_ns).min(self.no_backend_due_ns(ticket))
            }
            _ => self.own_queue_due_ns(ticket).min(self.no_backend_due_ns(ticket)),
        };
        if due_ns < NEVER {
            let owner = Owner::Ticket(ticket.id);
            self.timers.arm(&mut self.tickets.course_mut(slot).timer_ns, due_ns, owner);
        }
    }

    fn arm_batch_anew(&mut self, slot: u32) {
        let due_ns = self.batches[slot].due_ns(&self.tickets);
        self.arm_batch(slot, due_ns);
    }

    pub(super) fn arm_batch(&mut self, slot: u32, due_ns: u64) {
        self.timers.arm(&mut self.batches[slot].timer_ns, due_ns, Owner::Batch(slot));
    }

    /// For the tickets that were already waiting when the group went down.
    pub(super) fn arm_group(&mut self, slot: u32) {
        let group = &self.groups[slot];
        let due_ns = if group.queued > 0 { self.down_due_ns(group, 0) } else { NEVER };
        self.timers.arm(&mut self.groups[slot].timer_ns, due_ns, Owner::Group(slot));
    }

    pub(super) fn set_batch_timeouts(&mut self, slot: u32, options: BatchOptions) {
        let batch = &mut self.batches[slot];
        let deadline_ns = if options.deadline_ns == 0 { NEVER } else { options.deadline_ns };
        let is_same = (batch.queue_timeout_ns, batch.deadline_ns) == (options.queue_timeout_ns, deadline_ns);
        let is_armed = batch.timer_ns <= batch.queue_due_ns(self.now_ns);
        if is_same && is_armed && deadline_ns == NEVER {
            return;
        }
        let is_other_timeout = batch.queue_timeout_ns != options.queue_timeout_ns;
        batch.queue_timeout_ns = options.queue_timeout_ns;
        batch.deadline_ns = deadline_ns;
        batch.deadline_pending = options.deadline_ns != 0;
        self.arm_batch_anew(slot);
        if is_other_timeout {
            for ticket in self.batches[slot].asked.iter(&self.tickets).collect::<Vec<_>>() {
                self.arm_ticket(ticket);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        BackendConfig, BatchOptions, Config, Decisions, ModelRoute, OverdueReason, Prompt, Scheduler,
        TicketId,
    };

    const SECOND: u64 = 1_000_000_000;

    fn one_backend() -> Scheduler {
        let mut scheduler = Scheduler::new(Config::default()).unwrap();
        let models = vec![ModelRoute { model: 0, cap: 0 }];
        let config = BackendConfig { models, attempt_timeout_ns: 600 * SECOND, ..BackendConfig::default() };
        scheduler.update_backend(0, 0, config).unwrap();
        scheduler
    }

    fn run_one(scheduler: &mut Scheduler, now_ns: u64) -> TicketId {
        let prompt =
            Prompt { model: 0, class: 1, tokens: 10, queue_timeout_ns: 0, index: 0, ..Prompt::default() };
        let options =
            BatchOptions { queue_timeout_ns: 300 * SECOND, deadline_ns: 0, ..BatchOptions::default() };
        scheduler.submit(now_ns, now_ns, &[prompt], options).unwrap();
        scheduler.poll(now_ns).dispatches[0].ticket
    }

    /// Timers of ended tickets and batches do not pile up, however long they had to run.
    #[test]
    fn superseded_timers_are_compacted() {
        let mut scheduler = one_backend();
        for now_ns in 0..10_000 {
            let ticket = run_one(&mut scheduler, now_ns);
            scheduler.finish(now_ns, ticket, crate::Outcome::Success).unwrap();
            assert!(scheduler.timers.len() <= 130, "{} entries", scheduler.timers.len());
        }
        assert_eq!(scheduler.next_deadline(), None);
    }

    /// Timers of batches whose memory has gone back are stale like others.
    #[test]
    fn timers_of_thousands_of_batches() {
        const BATCHES: u64 = 5_000;
        let mut scheduler = one_backend();
        let options = BatchOptions { queue_timeout_ns: SECOND, ..BatchOptions::default() };
        for batch in 0..BATCHES {
            scheduler.submit(0, batch, &[Prompt { tokens: 10, ..Prompt::default() }], options).unwrap();
        }
        for batch in 0..BATCHES {
            scheduler.cancel_batch(0, batch);
        }
        assert_eq!(scheduler.next_deadline(), None);
        assert_eq!(scheduler.poll(SECOND), Decisions::default());
    }

    /// A ticket whose timer goes back to a time that it had given up is reported once, also after a compaction.
    #[test]
    fn same_time_again() {
        let mut scheduler = one_backend();
        let models = vec![ModelRoute { model: 0, cap: 0 }];
        let config = BackendConfig { cap: 100, models, lanes: false, ..BackendConfig::default() };
        scheduler.update_backend(0, 0, config).unwrap();
        let tickets: Vec<TicketId> = (0..100).map(|batch| run_one(&mut scheduler, batch)).collect();
        for &ticket in &tickets {
            scheduler.rearm(100, ticket, crate::AttemptDeadline::Attempt, 600 * SECOND).unwrap();
            scheduler.rearm(100, ticket, crate::AttemptDeadline::Idle, SECOND).unwrap();
        }
        assert_eq!(scheduler.poll(SECOND).overdue.len(), 100);
        for &ticket in &tickets[..10] {
            scheduler.finish(SECOND, ticket, crate::Outcome::Success).unwrap();
        }
        scheduler.poll(SECOND);
        assert_eq!(scheduler.poll(600 * SECOND).overdue.len(), 90);
        assert_eq!(scheduler.next_deadline(), None);
    }

    /// A deadline that is moved back is reported at its new time only, once.
    #[test]
    fn rearmed_deadline() {
        let mut scheduler = one_backend();
        let ticket = run_one(&mut scheduler, 0);
        let deadline = crate::AttemptDeadline::Attempt;
        scheduler.rearm(SECOND, ticket, deadline, 900 * SECOND).unwrap();
        assert!(scheduler.poll(899 * SECOND).overdue.is_empty());
        assert_eq!(scheduler.next_deadline(), Some(900 * SECOND));
        assert_eq!(scheduler.poll(900 * SECOND).overdue[0].reason, OverdueReason::Attempt);
        assert!(scheduler.poll(901 * SECOND).overdue.is_empty());
        scheduler.rearm(901 * SECOND, ticket, deadline, 902 * SECOND).unwrap();
        assert_eq!(scheduler.poll(902 * SECOND).overdue.len(), 1);
    }
}
