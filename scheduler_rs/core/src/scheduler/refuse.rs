//! A batch that a bound of the driver's keeps out.

use super::Scheduler;

impl Scheduler {
    /// Counts a batch of `prompts` that the driver refuses for a bound of its own; it never gets here.
    ///
    /// Returns the nanoseconds in which `places` tickets will have ended at the measured rate: from 0.1 to 60 s, and 1 s
    /// while nothing is known.
    pub fn refuse(&mut self, now_ns: u64, prompts: u32, places: u32) -> u64 {
        self.advance(now_ns);
        self.counters.refused += u64::from(prompts);
        self.drain_rate.retry_after(self.now_ns, places.max(1) as usize).as_nanos() as u64
    }
}
