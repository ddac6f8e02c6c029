//! How fast things end, such as tickets: an exponentially weighted mean over one-second windows.

use std::time::Duration;

const WINDOW_NS: u64 = 1_000_000_000;
/// Weight of the past falls to 1/e in this time.
const MEMORY_S: f64 = 10.0;
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_mins(1));
const RETRY_AFTER_UNKNOWN: Duration = Duration::from_secs(1);

/// Counts ends and says when there will be room. Times are monotonic nanoseconds; an earlier one counts as the latest.
///
/// The core has one for its tickets. A driver that bounds something of its own measures it in the same way.
#[derive(Debug, Default)]
pub struct DrainRate {
    window_start_ns: Option<u64>,
    in_window: u64,
    mean_per_s: Option<f64>,
}

impl DrainRate {
    /// So many more have ended.
    pub fn record(&mut self, now_ns: u64, ended: u64) {
        let start_ns = *self.window_start_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(start_ns) >= WINDOW_NS {
            self.mean_per_s = Some(self.per_s(now_ns));
            self.window_start_ns = Some(now_ns);
            self.in_window = 0;
        }
        self.in_window = self.in_window.saturating_add(ended);
    }

    /// Ends per second; 0 before the first.
    #[must_use]
    pub fn per_s(&self, now_ns: u64) -> f64 {
        let Some(start_ns) = self.window_start_ns else { return 0.0 };
        let elapsed_ns = now_ns.saturating_sub(start_ns);
        let elapsed_s = elapsed_ns as f64 / 1e9;
        match self.mean_per_s {
            None => self.in_window as f64 / elapsed_s.max(1.0),
            Some(mean) if elapsed_ns < WINDOW_NS => mean,
            Some(mean) => {
                let kept = (-elapsed_s / MEMORY_S).exp();
                mean * kept + self.in_window as f64 / elapsed_s * (1.0 - kept)
            }
        }
    }

    /// When `places` more may be free: from 0.1 to 60 s, 1 s while nothing is known.
    #[must_use]
    pub fn retry_after(&self, now_ns: u64, places: usize) -> Duration {
        let per_s = self.per_s(now_ns);
        if per_s <= 0.0 {
            return RETRY_AFTER_UNKNOWN;
        }
        hint(places as f64 / per_s)
    }
}

/// When to come back after so long, which may be endless: from 0.1 to 60 s.
pub(crate) fn hint(wait_s: f64) -> Duration {
    let (shortest, longest) = RETRY_AFTER;
    Duration::try_from_secs_f64(wait_s).map_or(longest, |wait| wait.clamp(shortest, longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A steady stream is measured as it is, and silence makes the rate fall.
    #[test]
    fn steady_then_silent() {
        let mut rate = DrainRate::default();
        assert!(rate.per_s(0) <= 0.0);
        assert_eq!(rate.retry_after(0, 10), RETRY_AFTER_UNKNOWN);
        for tick in 0..3_000_u64 {
            rate.record(tick * 10_000_000, 1);
        }
        let end_ns = 30_000_000_000;
        assert!((rate.per_s(end_ns) - 100.0).abs() < 2.0, "{}", rate.per_s(end_ns));
        assert!((0.9..1.1).contains(&rate.retry_after(end_ns, 100).as_secs_f64()));
        assert!(rate.per_s(end_ns + 60_000_000_000) < 5.0);
    }

    /// The hint stays within its bounds however large the shortage.
    #[test]
    fn hint_is_bounded() {
        let mut rate = DrainRate::default();
        rate.record(0, 1);
        assert_eq!(rate.retry_after(1_000_000_000, usize::MAX), RETRY_AFTER.1);
        rate.record(0, 1_000_000);
        assert_eq!(rate.retry_after(1_000_000_000, 1), RETRY_AFTER.0);
    }
}
