//! What providers have left of their limits, as their answers say: each release that they may not have counted is kept
//! in a list.

use super::{Host, NEVER, Reference};

/// What an answer says is left of one limit, and the whole limit (0 = it does not say).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) amount: u64,
    pub(crate) limit: u64,
    pub(crate) reset_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Request,
    Token,
}

/// One release of the model to the backend.
#[derive(Clone, Copy, Debug)]
struct Released {
    item: u64,
    estimate: u64,
    tokens: u64,
}

/// At most so much for the releases from number `from` on.
#[derive(Clone, Copy, Debug)]
struct Bound {
    most: i64,
    from: usize,
    limit: u64,
    /// [`NEVER`] = nobody knows.
    until_ns: u64,
}

/// One limit of one model at one backend.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    bound: Option<Bound>,
    /// Releases below this number were before the last reset.
    window_from: usize,
}

/// Everything since the backend began to serve the model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    released: Vec<Released>,
    accounts: [Account; 2],
}

impl Words {
    fn amount(&self, unit: Unit, from: usize) -> i64 {
        let after = self.released.get(from..).unwrap_or_default();
        let amount = |one: &Released| if unit == Unit::Request { 1 } else { one.tokens };
        after.iter().map(amount).sum::<u64>().cast_signed()
    }

    /// The account as of now: a reset that has come begins a new window.
    fn account(&self, unit: Unit, now_ns: u64) -> Account {
        let account = self.accounts[unit as usize];
        let Some(bound) = account.bound.filter(|bound| bound.until_ns <= now_ns) else { return account };
        let from = self.released.len();
        let whole = Bound { most: bound.limit.cast_signed(), from, limit: bound.limit, until_ns: NEVER };
        Account { bound: (bound.limit > 0).then_some(whole), window_from: from }
    }

    fn roll(&mut self, now_ns: u64) {
        for unit in [Unit::Request, Unit::Token] {
            self.accounts[unit as usize] = self.account(unit, now_ns);
        }
    }

    pub(crate) fn release(&mut self, now_ns: u64, item: u64, tokens: u64) {
        self.roll(now_ns);
        self.released.push(Released { item, estimate: tokens, tokens });
    }

    fn number_of(&self, item: u64) -> Option<usize> {
        self.released.iter().rposition(|one| one.item == item)
    }

    pub(crate) fn settle(&mut self, item: u64, used: u64) {
        if let Some(number) = self.number_of(item) {
            self.released[number].tokens = used;
        }
    }

    /// Nothing of the model is in flight, so nobody will say when a reset that is not known comes.
    pub(crate) fn fall_silent(&mut self, now_ns: u64) {
        self.roll(now_ns);
        let from = self.released.len();
        for account in &mut self.accounts {
            let Some(bound) = account.bound.filter(|bound| bound.until_ns == NEVER) else { continue };
            // An answer since the last reset that came after the next one: that was long ago.
            let is_whole = bound.from > account.window_from;
            let whole = Bound { most: bound.limit.cast_signed(), from, ..bound };
            account.bound = is_whole.then_some(whole);
            account.window_from = if is_whole { from } else { account.window_from };
        }
    }

    pub(crate) fn say(&mut self, now_ns: u64, item: u64, unit: Unit, said: Said) {
        self.roll(now_ns);
        let Some(number) = self.number_of(item) else { return };
        let account = self.accounts[unit as usize];
        if number < account.window_from {
            return;
        }
        let is_over = said.reset_ns <= now_ns;
        let known = account.bound.filter(|bound| bound.until_ns < NEVER);
        let bound = match known {
            // A later request was answered before.
            Some(known) if known.from > number + 1 => {
                let given = self.amount(unit, known.from);
                let narrowed = known.most.min(said.amount.cast_signed() + given);
                Some(if is_over { known } else { Bound { most: narrowed, ..known } })
            }
            _ => {
                // What has ended by now counts as it was estimated.
                let later = self.released.iter_mut().skip(number + 1).filter(|_| unit == Unit::Token);
                later.for_each(|one| one.tokens = one.estimate);
                let (most, until_ns) =
                    if is_over { (said.limit, NEVER) } else { (said.amount, said.reset_ns) };
                let bound = Bound { most: most.cast_signed(), from: number + 1, limit: said.limit, until_ns };
                (!is_over || said.limit > 0).then_some(bound)
            }
        };
        self.accounts[unit as usize].bound = bound;
    }

    /// Until when so much is not left; none = it is.
    fn lacks_until_ns(&self, unit: Unit, now_ns: u64, amount: u64) -> Option<u64> {
        let bound = self.account(unit, now_ns).bound?;
        let given = self.amount(unit, bound.from);
        // What is above a whole limit goes alone, after a reset.
        let is_alone = bound.until_ns == NEVER && bound.from >= self.released.len();
        let has_left = bound.most - given >= amount.cast_signed() && bound.most > given;
        (!has_left && !is_alone).then_some(bound.until_ns)
    }

    /// Whether nothing is left once so much more is given.
    fn is_spent_by(&self, unit: Unit, now_ns: u64, amount: u64) -> bool {
        let bound = self.account(unit, now_ns).bound;
        bound.is_some_and(|bound| bound.most <= self.amount(unit, bound.from) + amount.cast_signed())
    }
}

impl Host {
    fn words(&self, model: u32) -> Option<&Words> {
        self.pausable.iter().find(|known| known.model == model).map(|known| &known.words)
    }

    pub(crate) fn words_mut(&mut self, model: u32) -> Option<&mut Words> {
        self.pausable.iter_mut().find(|known| known.model == model).map(|known| &mut known.words)
    }

    /// Until when its provider has no request, or not so many tokens, left for a model.
    pub(crate) fn lacks_until_ns(&self, now_ns: u64, model: u32, tokens: u64) -> [Option<u64>; 2] {
        let Some(words) = self.words(model) else { return [None; 2] };
        [words.lacks_until_ns(Unit::Request, now_ns, 1), words.lacks_until_ns(Unit::Token, now_ns, tokens)]
    }

    /// Whether its provider has nothing left for a model after a release of so many tokens.
    pub(crate) fn is_spent_by(&self, now_ns: u64, model: u32, tokens: u64) -> bool {
        let of = [(Unit::Request, 1), (Unit::Token, tokens)];
        let words = self.words(model);
        words.is_some_and(|words| of.iter().any(|&(unit, amount)| words.is_spent_by(unit, now_ns, amount)))
    }

    /// Whether it wants nothing of a model for a time that is known: a pause, or nothing is left.
    pub(crate) fn is_paused(&self, now_ns: u64, model: u32) -> bool {
        let mut spent = self.lacks_until_ns(now_ns, model, 0).into_iter().flatten();
        self.paused_until_ns(model) > now_ns || spent.any(|until_ns| until_ns < NEVER)
    }
}

impl Reference {
    /// The answer to a prompt in flight says what is left.
    pub(crate) fn said(&mut self, id: u64, requests: Option<Said>, tokens: Option<Said>) {
        let now_ns = self.now_ns;
        let Some(item) = self.item(id) else { return };
        let (Some(flight), model) = (item.flight().copied(), item.request.model) else { return };
        let host = self.hosts.iter_mut().find(|host| host.id == flight.backend);
        let Some(words) = host.and_then(|host| host.words_mut(model)) else { return };
        for (unit, said) in [(Unit::Request, requests), (Unit::Token, tokens)] {
            if let Some(said) = said {
                words.say(now_ns, id, unit, said);
            }
        }
    }

    /// An attempt at a backend is over; to be called when it no longer counts as in flight.
    pub(crate) fn note_left(&mut self, backend: u32, model: u32) {
        let now_ns = self.now_ns;
        if self.at_host(backend).any(|(item, _)| item.request.model == model) {
            return;
        }
        let host = self.hosts.iter_mut().find(|host| host.id == backend);
        if let Some(words) = host.and_then(|host| host.words_mut(model)) {
            words.fall_silent(now_ns);
        }
    }
}
