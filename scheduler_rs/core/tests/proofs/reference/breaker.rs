//! Breakers: a backend that fails too often is left alone, then tried. The same machine with all samples in a list.

use super::{Host, Item, Reference, SECOND};

/// Probes that have told nothing have this many times of what their answer was expected to take,
const PATIENCE: f64 = 4.0;
/// but no less than this, doubled for each time in a row that it was in vain, and no more.
const PATIENCE_NS: (u64, u64) = (30 * SECOND, 600 * SECOND);
/// The window slides by a tenth at a time.
const PARTS: u64 = 10;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BreakerTerms {
    pub(crate) error_ratio: f64,
    pub(crate) min_samples: u32,
    pub(crate) window_ns: u64,
    pub(crate) open_ns: u64,
    pub(crate) open_max_ns: u64,
    pub(crate) probes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Closed,
    Open,
    HalfOpen,
}

/// What is seen of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenBreaker {
    pub(crate) state: State,
    pub(crate) since_ns: u64,
    pub(crate) half_open_at_ns: Option<u64>,
    pub(crate) good: u32,
    pub(crate) bad: u32,
    pub(crate) opened: u64,
}

/// What an attempt says of its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Good,
    Bad,
    Nothing,
}

#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    terms: BreakerTerms,
    state: State,
    since_ns: u64,
    /// Until when it is open.
    until_ns: u64,
    repeats: u32,
    opened: u64,
    /// When, and whether it was good.
    samples: Vec<(u64, bool)>,
    /// When those were released that have told nothing yet: they count as good.
    pending: Vec<u64>,
    probes_out: u32,
    probes_good: u32,
    /// Not before the first, and by the second: it may wait for its model to be loaded.
    probes_due_ns: (u64, u64),
    in_vain: u32,
}

fn doubled(ns: u64, times: u32) -> u64 {
    (0..times).fold(ns, |ns, _| ns.saturating_mul(2))
}

impl Breaker {
    fn new(terms: BreakerTerms, now_ns: u64) -> Self {
        Self {
            terms,
            state: State::Closed,
            since_ns: now_ns,
            until_ns: 0,
            repeats: 0,
            opened: 0,
            samples: Vec::new(),
            pending: Vec::new(),
            probes_out: 0,
            probes_good: 0,
            probes_due_ns: (0, 0),
            in_vain: 0,
        }
    }

    pub(super) fn is_shut(&self) -> bool {
        match self.state {
            State::Closed => false,
            State::Open => true,
            State::HalfOpen => self.probes_out + self.probes_good >= self.terms.probes,
        }
    }

    /// Until when it is open, if it is.
    pub(super) fn opens_at_ns(&self) -> Option<u64> {
        (self.state == State::Open).then_some(self.until_ns)
    }

    fn due_ns(&self) -> Option<(u64, u64)> {
        (self.state == State::HalfOpen && self.probes_out > 0).then_some(self.probes_due_ns)
    }

    fn part(&self, at_ns: u64) -> u64 {
        at_ns / (self.terms.window_ns / PARTS)
    }

    fn is_recent(&self, at_ns: u64, now_ns: u64) -> bool {
        self.part(at_ns) + PARTS > self.part(now_ns)
    }

    fn forget(&mut self) {
        self.samples.clear();
        self.pending.clear();
    }

    fn seen(&self, now_ns: u64) -> SeenBreaker {
        let recent = self.samples.iter().filter(|(at_ns, _)| self.is_recent(*at_ns, now_ns));
        let (good, bad): (Vec<bool>, Vec<bool>) =
            recent.map(|&(_, is_good)| is_good).partition(|&is_good| is_good);
        SeenBreaker {
            state: self.state,
            since_ns: self.since_ns,
            half_open_at_ns: self.opens_at_ns(),
            good: good.len() as u32,
            bad: bad.len() as u32,
            opened: self.opened,
        }
    }

    fn enter(&mut self, state: State, now_ns: u64) {
        (self.state, self.since_ns) = (state, now_ns);
        (self.probes_out, self.probes_good) = (0, 0);
        if state == State::Closed {
            self.forget();
            self.in_vain = 0;
        }
    }

    fn open(&mut self, now_ns: u64) {
        self.until_ns = now_ns + doubled(self.terms.open_ns, self.repeats).min(self.terms.open_max_ns);
        self.opened += 1;
        self.enter(State::Open, now_ns);
    }

    /// A word on an attempt that was released at `released_ns`; those from before the present state say nothing.
    fn hear(&mut self, now_ns: u64, released_ns: u64, word: Word) {
        match self.state {
            _ if released_ns < self.since_ns => {}
            State::Open => {}
            State::Closed => {
                let told = self.pending.iter().position(|&at_ns| self.part(at_ns) == self.part(released_ns));
                told.map(|at| self.pending.swap_remove(at));
                self.samples.extend((word != Word::Nothing).then_some((now_ns, word == Word::Good)));
                let SeenBreaker { good, bad, .. } = self.seen(now_ns);
                let pending = self.pending.iter().filter(|at_ns| self.is_recent(**at_ns, now_ns)).count();
                let is_fresh = now_ns - self.since_ns < self.terms.window_ns;
                let all = f64::from(good + bad) + if is_fresh { pending as f64 } else { 0.0 };
                let is_failing = f64::from(bad) >= self.terms.error_ratio * all;
                if word == Word::Bad && good + bad >= self.terms.min_samples && is_failing {
                    let is_repeat = self.opened > 0 && now_ns - self.since_ns < self.terms.window_ns;
                    self.repeats = if is_repeat { self.repeats + 1 } else { 0 };
                    self.open(now_ns);
                }
            }
            State::HalfOpen => {
                self.probes_out -= 1;
                self.probes_good += u32::from(word == Word::Good);
                if word == Word::Bad {
                    self.in_vain = 0;
                    self.repeats += 1;
                    self.open(now_ns);
                } else if self.probes_good >= self.terms.probes {
                    self.enter(State::Closed, now_ns);
                }
            }
        }
    }
}

impl Host {
    /// Whether it may be given work: a breaker that is not closed counts as down.
    pub(crate) fn is_up(&self) -> bool {
        let is_closed = |breaker: &Breaker| breaker.state == State::Closed;
        self.server.available && self.breaker.as_ref().is_none_or(is_closed)
    }

    /// Whether it is being tried, so that nobody knows if it is down.
    pub(crate) fn is_tried(&self) -> bool {
        self.server.available && self.is_probing()
    }

    fn is_probing(&self) -> bool {
        self.breaker.as_ref().is_some_and(|breaker| breaker.state == State::HalfOpen)
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.breaker.as_ref().is_some_and(Breaker::is_shut)
    }

    pub(crate) fn has_breaker_as(&self, seen: Option<SeenBreaker>, now_ns: u64) -> bool {
        self.breaker.as_ref().map(|breaker| breaker.seen(now_ns)) == seen
    }

    /// By when its probes must be judged.
    pub(crate) fn probes_due_ns(&self) -> Option<u64> {
        Some(self.breaker.as_ref()?.due_ns()?.1)
    }

    pub(crate) fn configure_breaker(&mut self, now_ns: u64) {
        self.breaker = match (self.breaker.take(), self.server.breaker) {
            (Some(mut breaker), Some(terms)) => {
                if breaker.terms.window_ns != terms.window_ns {
                    breaker.forget();
                }
                // One that has enough good probes by now is closed by the next.
                breaker.probes_good = breaker.probes_good.min(terms.probes - 1);
                Some(Breaker { terms, ..breaker })
            }
            (_, terms) => terms.map(|terms| Breaker::new(terms, now_ns)),
        };
    }
}

impl Reference {
    /// What an attempt in flight says of its backend; only its first word counts.
    pub(crate) fn judge(&mut self, id: u64, word: Word) {
        let now_ns = self.now_ns;
        let Some(flight) = self.flight_mut(id).copied() else { return };
        let Some(host) = self.hosts.iter_mut().find(|host| host.id == flight.backend) else { return };
        let Some(breaker) = host.breaker.as_mut().filter(|_| !flight.judged) else { return };
        breaker.hear(now_ns, flight.released_ns, word);
        self.flight_mut(id).expect("it is in flight").judged = true;
        self.note_reachable();
    }

    /// Its backend is to blame; not for what was cancelled.
    pub(crate) fn blame(&mut self, id: u64) {
        if self.item(id).is_some_and(|item| !item.cancelled) {
            self.judge(id, Word::Bad);
        }
    }

    /// The first token of a probe shows that its backend works.
    pub(crate) fn judge_first_token(&mut self, id: u64) {
        let backend = self.item(id).and_then(Item::flight).map(|flight| flight.backend);
        if backend.and_then(|backend| self.host(backend)).is_some_and(Host::is_probing) {
            self.judge(id, Word::Good);
        }
    }

    /// The start of a poll: probes that have told nothing in their time speak against their backend.
    pub(crate) fn give_up_probes(&mut self) {
        let now_ns = self.now_ns;
        for host in &mut self.hosts {
            let Some(breaker) = host.breaker.as_mut() else { continue };
            let Some((from_ns, by_ns)) = breaker.due_ns() else { continue };
            // In between, what was seen of it counts.
            let has_opened = self.report.opened.contains(&(host.id, breaker.opened + 1));
            if now_ns >= by_ns || now_ns >= from_ns && has_opened {
                breaker.in_vain += 1;
                breaker.repeats += 1;
                breaker.open(now_ns);
            }
        }
    }

    /// Once what is due has expired: what was open for long enough is tried.
    pub(crate) fn try_again(&mut self) {
        let now_ns = self.now_ns;
        for breaker in self.hosts.iter_mut().filter_map(|host| host.breaker.as_mut()) {
            if breaker.opens_at_ns().is_some_and(|until_ns| until_ns <= now_ns) {
                breaker.enter(State::HalfOpen, now_ns);
            }
        }
    }

    /// Before a prompt goes to a backend: if that is being tried, its answer is waited for.
    pub(crate) fn note_attempt(&mut self, item: &Item, backend: u32) {
        let now_ns = self.now_ns;
        let host = self.hosts.iter_mut().find(|host| host.id == backend);
        let Some(breaker) = host.and_then(|host| host.breaker.as_mut()) else { return };
        if breaker.state != State::HalfOpen {
            breaker.pending.push(now_ns);
            return;
        }
        let host = self.host(backend).expect("it is probing");
        let in_prefill = self.at_host(backend).filter(|(_, flight)| flight.in_prefill);
        let mut edges: Vec<u64> = in_prefill.map(|(other, _)| other.edge.into()).collect();
        edges.push(item.edge.into());
        let sum: u64 = edges.iter().sum();
        let squares: u64 = edges.iter().map(|edge| edge * edge).sum();
        let [c0, c1, c2] = host.in_force.prefill_ns;
        let is_loaded =
            host.server.max_loaded_models == 0 || self.running(host).contains(&item.request.model);
        // None, or two, because another model must come back.
        let loads_ns = [0.0, if is_loaded { 0.0 } else { 2.0 * host.load_ns }];
        let ttft_ns = c0 + c1 * sum as f64 + c2 * squares as f64;
        let expected_ns = loads_ns.map(|load_ns| ttft_ns + load_ns + host.in_force.decode_ns);
        let host = self.hosts.iter_mut().find(|host| host.id == backend).expect("it is probing");
        let breaker = host.breaker.as_mut().expect("it is probing");
        let least_ns = doubled(PATIENCE_NS.0, breaker.in_vain).min(PATIENCE_NS.1);
        #[expect(clippy::cast_sign_loss, reason = "no time is below 0")]
        let due =
            |expected_ns: f64| now_ns + ((PATIENCE * expected_ns) as u64).clamp(least_ns, PATIENCE_NS.1);
        breaker.probes_out += 1;
        breaker.probes_due_ns = (due(expected_ns[0]), due(expected_ns[1]));
    }
}
