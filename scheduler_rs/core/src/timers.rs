//! Deadlines, the earliest first: an owner has at most one time that counts, superseded entries are dropped when met or
//! when they are about half. A slot that is used again may make an old entry good once more: then it is met early, or
//! twice, and the second time nothing is due.
//!
//! Nearly all deadlines are now plus one of a few timeouts, so they come in a few ascending runs: entry and exit are a
//! look at the ends of a few queues. What fits behind none of them goes into a heap.

use crate::TenantId;
use crate::ticket::{NEVER, TicketId};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Backend(u32),
    Batch(u32),
    Group(u32),
    Tenant(TenantId),
    Ticket(TicketId),
}

type Entry = (u64, Owner);

/// More than there are timeouts: for the queue, first token, idle and attempt, and two to spare.
const RUNS: usize = 6;

#[derive(Debug)]
pub(crate) struct Timers {
    /// Each ascending by time.
    runs: [VecDeque<Entry>; RUNS],
    /// The time at the front of each run, and at its back: [`NEVER`] and 0 where it is empty.
    fronts: [u64; RUNS],
    backs: [u64; RUNS],
    /// The run with the earliest front.
    first: usize,
    rest: BinaryHeap<Reverse<Entry>>,
    /// Entries in the runs and the rest.
    len: usize,
    /// About how many entries are superseded: never more than there are.
    stale: usize,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            runs: Default::default(),
            fronts: [NEVER; RUNS],
            backs: [0; RUNS],
            first: 0,
            rest: BinaryHeap::new(),
            len: 0,
            stale: 0,
        }
    }
}

impl Timers {
    /// Brings the time at which an owner is due forward; a later one is found when the old time comes.
    pub(crate) fn arm(&mut self, timer_ns: &mut u64, due_ns: u64, owner: Owner) {
        if due_ns < *timer_ns {
            self.disarm(*timer_ns);
            self.push(due_ns, owner);
            *timer_ns = due_ns;
        }
    }

    /// An owner no longer waits for its entry, if it has one.
    pub(crate) fn disarm(&mut self, timer_ns: u64) {
        self.stale += usize::from(timer_ns != NEVER);
    }

    /// Behind the run whose last entry is the nearest before it.
    fn push(&mut self, at_ns: u64, owner: Owner) {
        self.len += 1;
        let mut best = RUNS;
        for run in 0..RUNS {
            if self.backs[run] <= at_ns && (best == RUNS || self.backs[run] > self.backs[best]) {
                best = run;
            }
        }
        if best == RUNS {
            self.rest.push(Reverse((at_ns, owner)));
            return;
        }
        self.runs[best].push_back((at_ns, owner));
        self.backs[best] = at_ns;
        self.fronts[best] = self.fronts[best].min(at_ns);
        if self.fronts[best] < self.fronts[self.first] {
            self.first = best;
        }
    }

    pub(crate) fn peek(&self) -> Option<Entry> {
        if self.rest_is_first() {
            return self.rest.peek().map(|&Reverse(entry)| entry);
        }
        self.runs[self.first].front().copied()
    }

    pub(crate) fn pop_live(&mut self) {
        self.len -= 1;
        if self.rest_is_first() {
            self.rest.pop();
        } else {
            let run = &mut self.runs[self.first];
            run.pop_front();
            if let Some(&(at_ns, _)) = run.front() {
                self.fronts[self.first] = at_ns;
                self.find_first();
            } else {
                self.refresh(self.first);
            }
        }
    }

    fn rest_is_first(&self) -> bool {
        self.rest.peek().is_some_and(|&Reverse((at_ns, _))| at_ns < self.fronts[self.first])
    }

    pub(crate) fn pop_stale(&mut self) {
        self.pop_live();
        self.stale = self.stale.saturating_sub(1);
    }

    pub(crate) fn wants_compaction(&self) -> bool {
        const SMALL: usize = 64;
        self.len > SMALL && self.stale * 2 > self.len
    }

    pub(crate) fn compact(&mut self, mut is_live: impl FnMut(u64, Owner) -> bool) {
        for run in 0..RUNS {
            self.runs[run].retain(|&(at_ns, owner)| is_live(at_ns, owner));
            self.refresh(run);
        }
        self.rest.retain(|&Reverse((at_ns, owner))| is_live(at_ns, owner));
        self.len = self.runs.iter().map(VecDeque::len).sum::<usize>() + self.rest.len();
        self.stale = 0;
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A run has other ends now.
    fn refresh(&mut self, run: usize) {
        self.fronts[run] = self.runs[run].front().map_or(NEVER, |&(at_ns, _)| at_ns);
        self.backs[run] = self.runs[run].back().map_or(0, |&(at_ns, _)| at_ns);
        self.find_first();
    }

    fn find_first(&mut self) {
        let mut first = 0;
        for run in 1..RUNS {
            if self.fronts[run] < self.fronts[first] {
                first = run;
            }
        }
        self.first = first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::seeded;
    use proptest::prelude::*;

    seeded! {
        /// In whatever order times come, they leave in ascending order, and none is lost but those dropped as stale.
        #[test]
        fn leave_in_order(steps in prop::collection::vec(prop::option::weighted(0.7, 1..50_u64), 1..200)) {
            let mut timers = Timers::default();
            let mut model: Vec<u64> = Vec::new();
            for (number, step) in (0..).zip(steps) {
                if let Some(at_ns) = step {
                    timers.push(at_ns, Owner::Batch(number));
                    model.push(at_ns);
                } else if let Some((at_ns, _)) = timers.peek() {
                    model.sort_unstable();
                    prop_assert_eq!(model.remove(0), at_ns);
                    timers.pop_live();
                }
                prop_assert_eq!(timers.len(), model.len());
            }
            timers.compact(|at_ns, _| at_ns % 2 == 0);
            model.retain(|at_ns| at_ns % 2 == 0);
            model.sort_unstable();
            for at_ns in model {
                prop_assert_eq!(timers.peek().map(|(at_ns, _)| at_ns), Some(at_ns));
                timers.pop_live();
            }
            prop_assert_eq!(timers.peek(), None);
        }
    }
}
