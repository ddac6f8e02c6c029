//! How fast work is released while some waits: what a queue's length means in time.
//!
//! Time in which nothing waits is left out: then as much is released as comes, which says nothing of what could be.

use crate::estimates::ServiceTime;
use crate::work::{Sums, Work};

/// Weight of the past falls to 1/e in so much time with a backlog, or in the time of so many releases, whichever is
/// longer: few long answers at a time end in waves.
const MEMORY_NS: f64 = 10e9;
const MEMORY_RELEASES: f64 = 16.0;
/// Fewer releases than this tell nothing.
const RELEASES_MIN: u32 = 8;
const WINDOW_NS: f64 = 1e9;
/// The highest rate of late loses half of itself in so long with a backlog.
const BEST_HALF_LIFE_NS: f64 = 600e9;
/// What was learned before so long a time without a backlog is forgotten: the backends may be others by now.
const FORGET_NS: u64 = 60_000_000_000;

#[derive(Debug, Default)]
pub(crate) struct ReleaseRate {
    past: Sums,
    past_ns: f64,
    window: Sums,
    window_ns: f64,
    /// What was released, and in how long, when the most prompts a second were.
    best: (Sums, f64),
    /// Releases since it last knew nothing.
    seen: u32,
    /// Until when there was a backlog.
    until_ns: u64,
}

impl ReleaseRate {
    /// There was a backlog for so long, up to now.
    pub(crate) fn pass(&mut self, now_ns: u64, took_ns: u64) {
        if self.is_forgotten(now_ns - took_ns) {
            *self = Self::default();
        }
        self.until_ns = now_ns;
        self.window_ns += took_ns as f64;
        if self.window_ns >= WINDOW_NS {
            self.fold();
        }
    }

    /// A prompt was released out of the backlog.
    pub(crate) fn released(&mut self, work: Work) {
        self.window += work.sums();
        self.seen = self.seen.saturating_add(1);
    }

    /// Work released per nanosecond, as its time at one backend that runs one prompt after the other; none while too
    /// little is known.
    pub(crate) fn get(&self, now_ns: u64, service: &ServiceTime) -> Option<f64> {
        let total_ns = self.past_ns + self.window_ns;
        let is_known = self.seen >= RELEASES_MIN && total_ns >= WINDOW_NS && !self.is_forgotten(now_ns);
        is_known.then(|| self.total().time_ns(service) / total_ns)
    }

    /// The highest that it was lately.
    pub(crate) fn best(&self, now_ns: u64, service: &ServiceTime) -> Option<f64> {
        let (work, took_ns) = self.best;
        self.get(now_ns, service).map(|rate| rate.max(work.time_ns(service) / took_ns.max(1.0)))
    }

    fn is_forgotten(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.until_ns) > FORGET_NS
    }

    fn total(&self) -> Sums {
        let mut total = self.past;
        total += self.window;
        total
    }

    fn fold(&mut self) {
        let (work, took_ns) = self.best;
        // At its best, or a rate that stood still for long would need as long to be believed again.
        let interval_ns = if work.prompts > 0.0 { took_ns / work.prompts } else { 0.0 };
        let kept = (-self.window_ns / MEMORY_NS.max(MEMORY_RELEASES * interval_ns)).exp();
        self.past = self.past.times(kept);
        self.past += self.window;
        self.past_ns = self.past_ns * kept + self.window_ns;
        let fading_ns = took_ns * (self.window_ns / BEST_HALF_LIFE_NS).exp2();
        self.best = (work, fading_ns);
        if self.past.prompts * fading_ns >= work.prompts * self.past_ns {
            self.best = (self.past, self.past_ns);
        }
        self.window = Sums::default();
        self.window_ns = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimates::Curve;

    const SECOND: u64 = 1_000_000_000;

    /// By which each prompt is a second of work.
    fn service() -> ServiceTime {
        ServiceTime { prefill: Curve::default(), decode_ns: 1e9 }
    }

    fn steady(rate: &mut ReleaseRate, from_s: u64, seconds: u64, per_s: u64) {
        for tick in 1..=seconds * per_s {
            rate.pass(from_s * SECOND + tick * SECOND / per_s, SECOND / per_s);
            rate.released(Work::of(10));
        }
    }

    /// Nothing is said before eight releases, then the rate as it is.
    #[test]
    fn steady_stream() {
        let mut rate = ReleaseRate::default();
        steady(&mut rate, 0, 1, 7);
        assert_eq!(rate.get(SECOND, &service()), None);
        steady(&mut rate, 1, 30, 40);
        let known = rate.get(31 * SECOND, &service()).unwrap();
        assert!((known / 40.0 - 1.0).abs() < 0.05, "{known}");
    }

    /// While a backlog stands still the rate falls towards nothing, and it is never unknown for that.
    #[test]
    fn stalled() {
        let mut rate = ReleaseRate::default();
        steady(&mut rate, 0, 30, 40);
        let mut last = f64::INFINITY;
        for second in 31..=630 {
            rate.pass(second * SECOND, SECOND);
            let known = rate.get(second * SECOND, &service()).unwrap();
            assert!(known < last, "after {second} s");
            last = known;
        }
        assert!(last < 0.4, "{last}");
        let best = rate.best(630 * SECOND, &service()).unwrap();
        assert!((best / 20.0 - 1.0).abs() < 0.05, "half of 40 after ten minutes: {best}");
    }

    /// Time without a backlog changes nothing for a minute; then what was known is forgotten.
    #[test]
    fn idle() {
        let mut rate = ReleaseRate::default();
        steady(&mut rate, 0, 30, 40);
        let known = rate.get(30 * SECOND, &service());
        assert_eq!(rate.get(90 * SECOND, &service()), known);
        assert_eq!(rate.get(90 * SECOND + 1, &service()), None);
        rate.pass(100 * SECOND, SECOND);
        assert_eq!(rate.get(100 * SECOND, &service()), None);
    }

    /// Four answers at a time that take ten seconds each: the rate swings with the waves, by less than a half.
    #[test]
    fn waves() {
        let mut rate = ReleaseRate::default();
        for second in 1..=200 {
            rate.pass(second * SECOND, SECOND);
            if second % 10 == 0 {
                (0..4).for_each(|_| rate.released(Work::of(10)));
            }
            if second > 60 {
                let known = rate.get(second * SECOND, &service()).unwrap();
                assert!((0.25..0.6).contains(&known), "{known} after {second} s");
            }
        }
    }
}
