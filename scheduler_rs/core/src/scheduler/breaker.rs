//! Breakers: what attempts say about their backends, and what is down because of it.

use super::Scheduler;
use crate::breaker::{Breaker, Verdict};
use crate::{Error, Outcome, TicketId};

impl Scheduler {
    /// What has just happened to an attempt speaks against its backend: a refused connection, a 5xx, a time-out, a
    /// broken stream. Then the attempt is to be finished or retried.
    ///
    /// Never to be told of what its caller did wrong (a 4xx). It counts once for each attempt, and not at all for a
    /// ticket that was cancelled: its failure is its caller's doing.
    pub fn blame(&mut self, now_ns: u64, ticket: TicketId) -> Result<(), Error> {
        let slot = self.in_flight_slot(ticket)?;
        self.advance(now_ns);
        if !self.attempt_of(slot).cancelled {
            self.judge(slot, Verdict::Bad);
        }
        Ok(())
    }

    /// The first token of a probe shows that its backend works: the rest of the answer may take minutes.
    pub(super) fn judge_first_token(&mut self, slot: u32) {
        let breaker = &self.backends[self.tickets.course(slot).backend as usize].breaker;
        if breaker.as_ref().is_some_and(Breaker::is_probing) {
            self.judge(slot, Verdict::Good);
        }
    }

    /// An attempt that was not blamed has ended; none stands for a retry.
    pub(super) fn judge_end(&mut self, slot: u32, outcome: Option<Outcome>) {
        let is_success = outcome == Some(Outcome::Success);
        self.judge(slot, if is_success { Verdict::Good } else { Verdict::None });
    }

    fn judge(&mut self, slot: u32, verdict: Verdict) {
        let course = self.tickets.course_mut(slot);
        let (now_ns, backend) = (self.now_ns, course.backend);
        let Some(breaker) = &mut self.backends[backend as usize].breaker else { return };
        if std::mem::replace(&mut course.attempt.judged, true) {
            return;
        }
        if breaker.judge(now_ns, course.released_ns, verdict) {
            self.note_breaker(backend);
        }
    }

    /// What was set for a time is released by itself; a probe that has told nothing until its time speaks against its
    /// backend, though its attempt goes on.
    pub(super) fn fire_backend(&mut self, backend: u32) {
        let (now_ns, of) = (self.now_ns, &mut self.backends[backend as usize]);
        let Some(due_ns) = of.probes_due_ns() else { return };
        if due_ns > now_ns {
            return self.arm_backend(backend, due_ns);
        }
        of.breaker.as_mut().expect("its probes are out").give_up_probes(now_ns);
        self.note_breaker(backend);
    }

    /// A breaker's state has changed. Where it is open again, what waited for its probes may be due.
    fn note_breaker(&mut self, backend: u32) {
        self.backends[backend as usize].refresh_limits(self.now_ns);
        for group in self.groups.slots() {
            if self.groups[group].routes.iter().any(|route| route.backend == backend) {
                self.note_if_down(group);
                self.arm_group(group);
            }
        }
    }
}
