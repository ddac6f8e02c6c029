//! A circuit breaker: a backend that fails too often is left alone for a while and then tried with a few prompts.
//!
//! The pattern is Michael Nygard's ("Release It!", Pragmatic Bookshelf 2007, Stability Patterns); opening by the ratio of
//! failures among enough recent samples, instead of by failures in a row, is how Hystrix and Resilience4j do it.

use crate::Error;

/// When a backend's breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerConfig {
    /// Opens when at least this part of the recent attempts failed; above 0, at most 1. In the first window after it was
    /// closed, attempts that are still on their way count as good until they have told: quick failures come back first,
    /// and a backend that has just been let in again would be shut out by its first few.
    pub error_ratio: f64,
    /// Never on fewer that have told; at least 1.
    pub min_samples: u32,
    /// How far back samples count; at least 1,000.
    pub window_ns: u64,
    /// How long it stays open the first time; at least 1. Twice as long each time that it opens again before it was
    /// closed for a whole window.
    pub open_ns: u64,
    /// The longest that it stays open; at least `open_ns`.
    pub open_max_ns: u64,
    /// How many prompts try a half-open backend at once, and must succeed to close it; at least 1. One that has given no
    /// first token nor ended after four times of what its answer is expected to take, and at least 30 seconds (twice as
    /// long each time that this was in vain, at most 10 minutes), opens it again.
    pub probes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            error_ratio: 0.5,
            min_samples: 20,
            window_ns: 30_000_000_000,
            open_ns: 5_000_000_000,
            open_max_ns: 60_000_000_000,
            probes: 1,
        }
    }
}

impl BreakerConfig {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !(self.error_ratio > 0.0 && self.error_ratio <= 1.0) {
            let rule = "must be above 0 and at most 1";
            return Err(Error::invalid("breaker.error_ratio", &self.error_ratio, rule));
        }
        let least = [
            ("breaker.min_samples", u64::from(self.min_samples), 1),
            ("breaker.window_ns", self.window_ns, 1_000),
            ("breaker.open_ns", self.open_ns, 1),
            ("breaker.open_max_ns", self.open_max_ns, self.open_ns),
            ("breaker.probes", u64::from(self.probes), 1),
        ];
        match least.into_iter().find(|(_, value, least)| value < least) {
            Some((field, value, least)) => {
                Err(Error::invalid(field, &value, format!("must be at least {least}")))
            }
            None => Ok(()),
        }
    }
}

/// Whether a backend is given work, as far as its failures go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Yes.
    Closed,
    /// No, until a known time.
    Open,
    /// A few prompts, to see whether it works again.
    HalfOpen,
}

impl BreakerState {
    /// The name in metrics and across the language boundary.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What an attempt says about the backend that had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Bad,
    /// It was cancelled, or its failure was its caller's own fault.
    None,
}

/// A probe that has told nothing after this many times of what its answer was expected to take speaks against its backend,
const PATIENCE: f64 = 4.0;
/// but not before this, because a backend that has just come back may load its model first; twice as long after each such
/// probe, because it may always be so slow,
const PATIENCE_NS_MIN: u64 = 30_000_000_000;
/// and then at the latest.
const PATIENCE_NS_MAX: u64 = 600_000_000_000;

/// Samples are kept in this many parts of the window: it slides by one of them at a time.
const PARTS: usize = 10;

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// Number of the part since time 0.
    number: u64,
    good: u32,
    bad: u32,
    /// Released in it, and have not told yet.
    pending: u32,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    config: BreakerConfig,
    state: BreakerState,
    since_ns: u64,
    half_open_at_ns: u64,
    /// How often it opened, but the first time, without a whole window closed in between.
    repeats: u32,
    /// How often it opened since start.
    opened: u64,
    /// Probes that have not been judged.
    probes_out: u32,
    probes_good: u32,
    /// Until when those that are out are to be judged.
    probes_due_ns: u64,
    /// How often in a row they were not.
    overdue: u32,
    parts: [Part; PARTS],
}

impl Breaker {
    pub(crate) fn new(config: BreakerConfig, now_ns: u64) -> Self {
        Self {
            config,
            state: BreakerState::Closed,
            since_ns: now_ns,
            half_open_at_ns: 0,
            repeats: 0,
            opened: 0,
            probes_out: 0,
            probes_good: 0,
            probes_due_ns: 0,
            overdue: 0,
            parts: [Part::default(); PARTS],
        }
    }

    /// Its state and samples stay; an opening that has begun keeps its end.
    pub(crate) fn configure(&mut self, config: BreakerConfig) {
        if config.window_ns != self.config.window_ns {
            self.parts = [Part::default(); PARTS];
        }
        // Fewer probes than have already succeeded: one more closes it.
        self.probes_good = self.probes_good.min(config.probes - 1);
        self.config = config;
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.state
    }

    pub(crate) fn since_ns(&self) -> u64 {
        self.since_ns
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// When an open one lets a probe in.
    pub(crate) fn half_open_at_ns(&self) -> Option<u64> {
        (self.state == BreakerState::Open).then_some(self.half_open_at_ns)
    }

    /// Whether its backend is given work as far as failures go.
    pub(crate) fn is_closed(&self) -> bool {
        self.state == BreakerState::Closed
    }

    /// Whether what goes there now is a probe, whose first token tells something.
    pub(crate) fn is_probing(&self) -> bool {
        self.state == BreakerState::HalfOpen
    }

    /// Whether nothing more may be released now.
    pub(crate) fn is_shut(&self) -> bool {
        match self.state {
            BreakerState::Closed => false,
            BreakerState::Open => true,
            BreakerState::HalfOpen => self.probes_out >= self.missing(),
        }
    }

    /// (good, bad) samples within the window.
    pub(crate) fn samples(&self, now_ns: u64) -> (u32, u32) {
        (self.sum(now_ns, |part| part.good), self.sum(now_ns, |part| part.bad))
    }

    fn sum(&self, now_ns: u64, of: impl Fn(&Part) -> u32) -> u32 {
        let oldest = (self.part_of(now_ns) + 1).saturating_sub(PARTS as u64);
        let recent = self.parts.iter().filter(|part| part.number >= oldest);
        recent.fold(0, |sum, part| sum.saturating_add(of(part)))
    }

    /// An open one whose time is over becomes half-open.
    pub(crate) fn refresh(&mut self, now_ns: u64) {
        if self.state == BreakerState::Open && self.half_open_at_ns <= now_ns {
            self.enter(BreakerState::HalfOpen, now_ns);
        }
    }

    /// An attempt was released, whose answer is not known yet.
    pub(crate) fn released(&mut self, now_ns: u64) {
        let part = self.part_at(now_ns);
        part.pending = part.pending.saturating_add(1);
    }

    /// A probe was released, whose answer is expected to take `expected_ns`.
    pub(crate) fn probe(&mut self, now_ns: u64, expected_ns: f64) {
        let least_ns = doubled(PATIENCE_NS_MIN, self.overdue).min(PATIENCE_NS_MAX);
        #[expect(clippy::cast_sign_loss, reason = "no time is below 0")]
        let patience_ns = ((PATIENCE * expected_ns) as u64).clamp(least_ns, PATIENCE_NS_MAX);
        self.probes_out += 1;
        self.probes_due_ns = now_ns.saturating_add(patience_ns);
    }

    /// When the probes that are out have had their time, counted from the release of the last.
    pub(crate) fn probes_due_ns(&self) -> Option<u64> {
        (self.is_probing() && self.probes_out > 0).then_some(self.probes_due_ns)
    }

    /// The probes that are out have had their time: it opens again, and what they still say does not count.
    pub(crate) fn give_up_probes(&mut self, now_ns: u64) {
        self.overdue += 1;
        self.repeats += 1;
        self.open(now_ns);
    }

    /// What an attempt that was released at `released_ns` says, to be told once. Returns whether the state changed.
    ///
    /// What was released before the present state began says nothing about it: late failures neither open a breaker
    /// that a probe has just closed, nor late successes close one.
    pub(crate) fn judge(&mut self, now_ns: u64, released_ns: u64, verdict: Verdict) -> bool {
        if released_ns < self.since_ns {
            return false;
        }
        match self.state {
            BreakerState::Open => return false,
            BreakerState::Closed => {
                self.record(now_ns, released_ns, verdict);
                if verdict != Verdict::Bad || !self.is_failing(now_ns) {
                    return false;
                }
                let was_closed_ns = now_ns - self.since_ns;
                let is_repeat = self.opened > 0 && was_closed_ns < self.config.window_ns;
                self.repeats = if is_repeat { self.repeats + 1 } else { 0 };
                self.open(now_ns);
            }
            BreakerState::HalfOpen => {
                self.probes_out -= 1;
                self.probes_good += u32::from(verdict == Verdict::Good);
                if verdict == Verdict::Bad {
                    self.overdue = 0;
                    self.repeats += 1;
                    self.open(now_ns);
                } else if self.missing() == 0 {
                    self.enter(BreakerState::Closed, now_ns);
                } else {
                    return false;
                }
            }
        }
        true
    }

    fn missing(&self) -> u32 {
        self.config.probes.saturating_sub(self.probes_good)
    }

    fn is_failing(&self, now_ns: u64) -> bool {
        let (good, bad) = self.samples(now_ns);
        let told = good.saturating_add(bad);
        // Later on, what is on its way stands for as many that have told, and time-outs come back last.
        let is_fresh = now_ns - self.since_ns < self.config.window_ns;
        let pending = if is_fresh { self.sum(now_ns, |part| part.pending) } else { 0 };
        let all = told.saturating_add(pending);
        told >= self.config.min_samples && f64::from(bad) >= self.config.error_ratio * f64::from(all)
    }

    fn open(&mut self, now_ns: u64) {
        let open_ns = doubled(self.config.open_ns, self.repeats).min(self.config.open_max_ns);
        self.half_open_at_ns = now_ns.saturating_add(open_ns);
        self.opened += 1;
        self.enter(BreakerState::Open, now_ns);
    }

    fn enter(&mut self, state: BreakerState, now_ns: u64) {
        self.state = state;
        self.since_ns = now_ns;
        self.probes_out = 0;
        self.probes_good = 0;
        if state == BreakerState::Closed {
            self.overdue = 0;
            self.parts = [Part::default(); PARTS];
        }
    }

    fn record(&mut self, now_ns: u64, released_ns: u64, verdict: Verdict) {
        let released_in = self.part_of(released_ns);
        let part = &mut self.parts[(released_in % PARTS as u64) as usize];
        if part.number == released_in {
            part.pending = part.pending.saturating_sub(1);
        }
        let part = self.part_at(now_ns);
        match verdict {
            Verdict::Good => part.good = part.good.saturating_add(1),
            Verdict::Bad => part.bad = part.bad.saturating_add(1),
            Verdict::None => {}
        }
    }

    /// The part that a time is in, begun anew if it is the first since then.
    fn part_at(&mut self, now_ns: u64) -> &mut Part {
        let number = self.part_of(now_ns);
        let part = &mut self.parts[(number % PARTS as u64) as usize];
        if part.number != number {
            *part = Part { number, ..Part::default() };
        }
        part
    }

    fn part_of(&self, now_ns: u64) -> u64 {
        now_ns / (self.config.window_ns / PARTS as u64)
    }
}

/// Twice as long each time, without overflow.
fn doubled(ns: u64, times: u32) -> u64 {
    ns.saturating_mul(1_u64.checked_shl(times).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// However often probes were in vain, the next ones are given as long as the longest, and the breaker stays open
    /// for as long as the longest.
    #[test]
    fn in_vain_for_days() {
        let config = BreakerConfig { min_samples: 1, ..BreakerConfig::default() };
        let mut breaker = Breaker::new(config, 0);
        breaker.judge(0, 0, Verdict::Bad);
        for times in 0..200 {
            let at_ns = breaker.half_open_at_ns().expect("it is open");
            breaker.refresh(at_ns);
            breaker.probe(at_ns, 0.0);
            let due_ns = breaker.probes_due_ns().expect("one is out");
            let expected_s = [30, 60, 120, 240, 480].get(times).copied().unwrap_or(600);
            assert_eq!(due_ns - at_ns, expected_s * SECOND, "after {times} in vain");
            breaker.give_up_probes(due_ns);
            let open_s = [10, 20, 40].get(times).copied().unwrap_or(60);
            assert_eq!(breaker.half_open_at_ns(), Some(due_ns + open_s * SECOND), "after {times} in vain");
        }
    }
}
