//! How many prompts of one model a backend gets at once after it has turned one away: half, then slowly more.
//!
//! Additive increase, multiplicative decrease: Chiu and Jain, "Analysis of the increase and decrease algorithms for
//! congestion avoidance in computer networks", 1989; the steps are those of TCP's congestion avoidance, RFC 5681.

/// A soft cap beside the hard ones: half of what was in flight when a prompt was turned away, one more for each round
/// of as many successes, gone when it reaches the hard cap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ramp {
    /// Most in flight; `u32::MAX` = no limit.
    limit: u32,
    /// Successes since it last changed.
    successes: u32,
    /// When it was last cut.
    cut_at_ns: Option<u64>,
}

impl Ramp {
    pub(crate) const OPEN: Self = Self { limit: u32::MAX, successes: 0, cut_at_ns: None };

    /// Most in flight; `u32::MAX` = no limit.
    #[inline]
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// One of `in_flight` prompts, released at `released_ns`, was turned away where `hard_cap` may be in flight.
    ///
    /// What was released before the last cut is the burst that it answered: one cut for each round, as in TCP.
    pub(crate) fn cut(&mut self, now_ns: u64, released_ns: u64, in_flight: u32, hard_cap: u32) {
        if self.is_stale(released_ns) {
            return;
        }
        let limit = (in_flight / 2).max(1);
        *self = Self { limit, successes: 0, cut_at_ns: Some(now_ns) };
        self.open_at(hard_cap);
    }

    /// A prompt that was released at `released_ns` has succeeded where `hard_cap` may be in flight.
    pub(crate) fn grow(&mut self, released_ns: u64, hard_cap: u32) {
        if self.limit == u32::MAX || self.is_stale(released_ns) {
            return;
        }
        self.successes += 1;
        if self.successes >= self.limit {
            self.limit += 1;
            self.successes = 0;
        }
        self.open_at(hard_cap);
    }

    /// At the hard cap it limits nothing.
    pub(crate) fn open_at(&mut self, hard_cap: u32) {
        if self.limit >= hard_cap {
            self.limit = u32::MAX;
        }
    }

    fn is_stale(&self, released_ns: u64) -> bool {
        self.cut_at_ns.is_some_and(|cut_at_ns| released_ns <= cut_at_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a cut to four: a fifth after four successes, a sixth after five more, and none at the hard cap.
    #[test]
    fn one_more_each_round() {
        let mut ramp = Ramp::OPEN;
        ramp.cut(10, 5, 8, 6);
        let limits: Vec<u32> = (0..9)
            .map(|_| {
                ramp.grow(11, 6);
                ramp.limit()
            })
            .collect();
        assert_eq!(limits, [4, 4, 4, 5, 5, 5, 5, 5, u32::MAX]);
    }

    /// A burst that is turned away as a whole cuts once, one of the next round again, and never below one.
    #[test]
    fn one_cut_each_round() {
        let mut ramp = Ramp::OPEN;
        for released_ns in [0, 3, 10] {
            ramp.cut(10, released_ns, 8, 8);
            assert_eq!(ramp.limit(), 4);
        }
        ramp.grow(10, 8);
        assert_eq!(ramp.successes, 0, "it was on its way before the cut");
        ramp.cut(20, 11, 3, 8);
        ramp.cut(30, 21, 1, 8);
        assert_eq!(ramp.limit(), 1);
    }
}
