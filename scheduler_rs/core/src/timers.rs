//! Deadlines, the earliest first: an owner has at most one time that counts, superseded entries are dropped when met or
//! when they are about half. A slot that is used again may make an old entry good once more: then it is met early, or
//! twice, and the second time nothing is due.
//!
//! Nearly all deadlines are now plus one of a few timeouts, so they come in a few ascending runs: entry and exit are a
//! look at the ends of a few queues. What fits behind none of them goes into a heap.

use crate::TenantId;
use crate::ticket::{NEVER, TicketId};
use crate::tight;
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
/// Where the front of the rest stands among those of the runs.
const REST: usize = RUNS;

#[derive(Debug)]
pub(crate) struct Timers {
    /// Each ascending by time.
    runs: [VecDeque<Entry>; RUNS],
    /// The time at the front of each run and of the rest, and at the back of each run: [`NEVER`] and 0 where it is empty.
    fronts: [u64; RUNS + 1],
    backs: [u64; RUNS],
    /// Where the earliest front is, the first of them.
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
            fronts: [NEVER; RUNS + 1],
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
        let mut best = REST;
        for run in 0..RUNS {
            if self.backs[run] <= at_ns && (best == REST || self.backs[run] > self.backs[best]) {
                best = run;
            }
        }
        if best == REST {
            self.rest.push(Reverse((at_ns, owner)));
        } else {
            tight::push_back(&mut self.runs[best], (at_ns, owner));
            self.backs[best] = at_ns;
        }
        self.fronts[best] = self.fronts[best].min(at_ns);
        if (self.fronts[best], best) < (self.fronts[self.first], self.first) {
            self.first = best;
        }
    }

    /// The earliest time; [`NEVER`] if there is none.
    #[inline]
    pub(crate) fn first_ns(&self) -> u64 {
        self.fronts[self.first]
    }

    pub(crate) fn peek(&self) -> Option<Entry> {
        if self.first == REST {
            return self.rest.peek().map(|&Reverse(entry)| entry);
        }
        self.runs[self.first].front().copied()
    }

    pub(crate) fn pop_live(&mut self) {
        self.len -= 1;
        if self.first == REST {
            self.rest.pop();
        } else {
            self.runs[self.first].pop_front();
        }
        self.refresh(self.first);
        self.find_first();
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
        self.refresh(REST);
        self.find_first();
        self.len = self.runs.iter().map(VecDeque::len).sum::<usize>() + self.rest.len();
        self.stale = 0;
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A run, or the rest, has other ends now.
    fn refresh(&mut self, at: usize) {
        if at == REST {
            self.fronts[REST] = self.rest.peek().map_or(NEVER, |&Reverse((at_ns, _))| at_ns);
            return;
        }
        self.fronts[at] = self.runs[at].front().map_or(NEVER, |&(at_ns, _)| at_ns);
        self.backs[at] = self.runs[at].back().map_or(0, |&(at_ns, _)| at_ns);
    }

    fn find_first(&mut self) {
        let mut first = 0;
        for at in 1..self.fronts.len() {
            if self.fronts[at] < self.fronts[first] {
                first = at;
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
