//! A limit over any minute: what was charged stays in the window for 60 seconds.

use std::collections::VecDeque;
use std::num::NonZeroU8;

pub(crate) const WINDOW_NS: u64 = 60_000_000_000;
/// Charges this close together leave together, with the last of them: so the log is bounded and errs on the safe side.
const SLOT_NS: u64 = 100_000_000;

#[derive(Clone, Copy, Debug)]
struct Slot {
    first_ns: u64,
    last_ns: u64,
    amount: u64,
}

/// A token bucket would let twice the limit through a window; this never lets more than the limit.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// 0 = none.
    limit: u64,
    slots: VecDeque<Slot>,
    sum: u64,
    /// Which log this is: another one once it was thrown away.
    log: u8,
}

/// Names come round after 255.
pub(crate) fn next_log(log: u8) -> u8 {
    if log == u8::MAX - 1 { 0 } else { log + 1 }
}

impl Window {
    /// An empty one without limit, whose first log is this.
    pub(crate) fn with_log(log: u8) -> Self {
        Self { log, ..Self::default() }
    }

    pub(crate) fn set_limit(&mut self, limit: u64) {
        if limit == 0 && self.limit > 0 {
            self.slots.clear();
            self.sum = 0;
            self.log = next_log(self.log);
        }
        self.limit = limit;
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// What is in the window at this time.
    pub(crate) fn sum_at(&self, now_ns: u64) -> u64 {
        let gone = self.slots.iter().take_while(|slot| slot.last_ns + WINDOW_NS <= now_ns);
        self.sum - gone.map(|slot| slot.amount).sum::<u64>()
    }

    /// Names the log that a charge goes into now; none while there is no limit. A name comes again after 255 logs:
    /// limits are not switched that often while a prompt is in flight.
    pub(crate) fn log(&self) -> Option<NonZeroU8> {
        if self.limit == 0 { None } else { NonZeroU8::new(self.log + 1) }
    }

    /// Lets go of what is older than the window.
    pub(crate) fn advance(&mut self, now_ns: u64) {
        while let Some(slot) = self.slots.front().filter(|slot| slot.last_ns + WINDOW_NS <= now_ns) {
            self.sum -= slot.amount;
            self.slots.pop_front();
        }
    }

    /// When `amount` fits if nothing else is charged: 0 = now. What is above the limit itself fits an empty window.
    pub(crate) fn fits_at_ns(&self, amount: u64) -> u64 {
        if self.limit == 0 {
            return 0;
        }
        let room = self.limit.saturating_sub(amount);
        let mut sum = self.sum;
        let mut at_ns = 0;
        for slot in &self.slots {
            if sum <= room {
                break;
            }
            sum -= slot.amount;
            at_ns = slot.last_ns + WINDOW_NS;
        }
        at_ns
    }

    pub(crate) fn charge(&mut self, now_ns: u64, amount: u64) {
        if self.limit == 0 {
            return;
        }
        self.sum += amount;
        match self.slots.back_mut() {
            Some(slot) if now_ns - slot.first_ns < SLOT_NS => {
                slot.last_ns = now_ns;
                slot.amount += amount;
            }
            _ => self.slots.push_back(Slot { first_ns: now_ns, last_ns: now_ns, amount }),
        }
    }

    /// What was charged to `log` at `at_ns` as `charged` turned out to be `used`.
    pub(crate) fn settle(&mut self, log: Option<NonZeroU8>, at_ns: u64, charged: u64, used: u64) {
        if log.is_none() || log != self.log() {
            return;
        }
        let at = self.slots.partition_point(|slot| slot.last_ns < at_ns);
        let Some(slot) = self.slots.get_mut(at).filter(|slot| slot.first_ns <= at_ns) else { return };
        let charged = charged.min(slot.amount);
        slot.amount = slot.amount - charged + used;
        self.sum = self.sum - charged + used;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::seeded;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    /// What was settled lower makes room at once, what left the window is settled no more.
    #[test]
    fn settling() {
        let mut window = Window::default();
        window.set_limit(100);
        window.charge(0, 60);
        window.charge(SECOND, 40);
        assert_eq!(window.fits_at_ns(10), WINDOW_NS);
        let log = window.log();
        window.settle(log, SECOND, 40, 10);
        assert_eq!((window.fits_at_ns(30), window.fits_at_ns(31)), (0, WINDOW_NS));
        assert_eq!((window.sum_at(WINDOW_NS - 1), window.sum_at(WINDOW_NS)), (70, 10));
        window.advance(WINDOW_NS);
        window.settle(log, 0, 60, 0);
        assert_eq!(window.sum_at(WINDOW_NS), 10);
        assert_eq!(
            window.fits_at_ns(500),
            SECOND + WINDOW_NS,
            "what is above the limit waits for an empty window"
        );
    }

    /// What was released while there was no limit is not settled at the cost of what was charged at the same time.
    #[test]
    fn settling_what_was_not_charged() {
        let mut window = Window::default();
        let before = window.log();
        window.set_limit(100);
        window.charge(0, 60);
        window.settle(before, 0, 60, 0);
        assert_eq!(window.sum_at(0), 60);
        let log = window.log();
        window.set_limit(0);
        window.set_limit(100);
        window.charge(0, 50);
        window.settle(log, 0, 60, 0);
        assert_eq!(window.sum_at(0), 50);
    }

    seeded! {
        /// Over any 60 seconds no more than the limit is let in, and the log stays short.
        #[test]
        fn no_window_exceeds_the_limit(
            limit in 1..1_000_u64,
            steps in prop::collection::vec((0..3_000_000_000_u64, 1..100_u64), 1..400),
        ) {
            let mut window = Window::default();
            window.set_limit(limit);
            let mut let_in: Vec<(u64, u64)> = Vec::new();
            let mut now_ns = 0;
            for (gap_ns, amount) in steps {
                now_ns += gap_ns;
                window.advance(now_ns);
                if amount > limit || window.fits_at_ns(amount) > now_ns {
                    continue;
                }
                window.charge(now_ns, amount);
                let_in.push((now_ns, amount));
                let recent = let_in.iter().filter(|(at_ns, _)| at_ns + WINDOW_NS > now_ns);
                prop_assert!(recent.map(|(_, amount)| amount).sum::<u64>() <= limit);
                prop_assert!(window.slots.len() as u64 <= WINDOW_NS / SLOT_NS + 1);
            }
        }
    }
}
