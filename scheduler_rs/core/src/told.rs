//! What providers say is left of their own limits, less what they have been given since they said so.

use crate::LimitKind;
use crate::limits::Reported;
use crate::ticket::NEVER;

/// What is left of a provider's limit, as it says in an answer: without what it was given after that request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Requests or tokens.
    pub amount: u64,
    /// The whole limit, which is there after the reset; 0 = not known.
    pub limit: u64,
    /// When all of it is there again; a time that is past = it is now.
    pub reset_at_ns: u64,
}

/// All that a backend was given of a model: requests in the upper half, tokens in the lower, so that one difference
/// counts both. It is right as long as a request is answered before four billion tokens more were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Given(u64);

impl Given {
    pub(crate) const ZERO: Self = Self(0);

    pub(crate) fn add(&mut self, tokens: u64) {
        self.0 = self.0.wrapping_add(1 << 32).wrapping_add(tokens);
    }

    fn since(self, earlier: Self) -> (i64, i64) {
        let given = self.0.wrapping_sub(earlier.0);
        (whole(given >> 32), whole(given & u64::from(u32::MAX)))
    }

    fn is_after(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0).cast_signed() > 0
    }
}

/// What is left of one limit.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// Less than nothing where more was given than there was.
    left: i64,
    /// 0 = not known.
    limit: i64,
    /// What was given after this is taken off: the request whose answer said so, or the last one before a reset.
    since: Given,
    /// All that was given before the last reset: what answers to it say is past.
    began: Option<Given>,
    /// [`NEVER`]: after a reset, until an answer says when the next one is.
    reset_at_ns: u64,
}

impl Rest {
    const UNKNOWN: Self =
        Self { left: i64::MAX, limit: 0, since: Given::ZERO, began: None, reset_at_ns: NEVER };

    /// An answer to the request `of` has said what is left; so much was given after that request.
    fn hear(&mut self, now_ns: u64, of: Given, given_since: i64, told: Left) {
        if self.began.is_some_and(|began| !of.is_after(began)) {
            return; // It was said of what was left before the reset.
        }
        let (amount, limit) = (whole(told.amount), whole(told.limit));
        let is_over = told.reset_at_ns <= now_ns;
        if self.reset_at_ns != NEVER && self.since.is_after(of) {
            // Requests may overtake each other: less can have been left by then, never more.
            if !is_over {
                self.left = self.left.min(amount);
            }
            return;
        }
        let said = match (is_over, limit) {
            (false, _) => amount,
            (true, 0) => i64::MAX,
            (true, limit) => limit,
        };
        let reset_at_ns = if is_over { NEVER } else { told.reset_at_ns };
        *self =
            Self { left: said.saturating_sub(given_since), limit, since: of, began: self.began, reset_at_ns };
    }

    /// After its reset all of it is there; nobody knows the next reset, or how much that is where it was not said.
    fn roll(&mut self, now_ns: u64, given: Given) {
        if self.reset_at_ns <= now_ns {
            self.renew(given);
        }
    }

    fn renew(&mut self, given: Given) {
        let left = if self.limit == 0 { i64::MAX } else { self.limit };
        *self = Self { left, since: given, began: Some(given), reset_at_ns: NEVER, ..*self };
    }

    fn charge(&mut self, amount: i64) {
        self.left = self.left.saturating_sub(amount);
    }

    /// What was charged for the request `of` turned out to be something else.
    fn settle(&mut self, of: Given, charged: i64, used: i64) {
        if of.is_after(self.since) {
            self.left = self.left.saturating_add(charged).saturating_sub(used);
        }
    }

    /// Nothing is in flight, so no answer will say what is left. Where the last one came after its own reset, all of it
    /// is there by now; where none has come since a reset, there may be no limit any more.
    fn fall_silent(&mut self, given: Given) {
        if self.reset_at_ns == NEVER && self.limit > 0 && self.began != Some(self.since) {
            self.renew(given);
        } else if self.reset_at_ns == NEVER {
            self.left = i64::MAX;
        }
    }

    /// Whether so much is left where so much was `given`. What is above the whole limit goes alone after a reset.
    fn admits(&self, amount: i64, given: Given) -> bool {
        self.left >= amount || (self.reset_at_ns == NEVER && self.since == given)
    }
}

/// What is left of the limits of one model at one backend.
#[derive(Debug, Default)]
pub(crate) struct Told {
    requests: Option<Rest>,
    tokens: Option<Rest>,
    /// Why and until when nothing is released, as far as was seen when it was last looked at; [`NEVER`] = until an
    /// answer comes.
    pub(crate) closed: Option<(LimitKind, u64)>,
    pub(crate) reported: Reported,
}

impl Told {
    fn rests(&mut self) -> impl Iterator<Item = &mut Rest> {
        self.requests.iter_mut().chain(&mut self.tokens)
    }

    /// An answer to the request `of` says what is left of one or both; `given` is all by now.
    pub(crate) fn hear(
        &mut self,
        now_ns: u64,
        of: Given,
        given: Given,
        requests: Option<Left>,
        tokens: Option<Left>,
    ) {
        self.refresh(now_ns, given);
        let since = given.since(of);
        if let Some(told) = requests {
            self.requests.get_or_insert(Rest::UNKNOWN).hear(now_ns, of, since.0, told);
        }
        if let Some(told) = tokens {
            self.tokens.get_or_insert(Rest::UNKNOWN).hear(now_ns, of, since.1, told);
        }
        self.close_if_spent(given);
    }

    /// Forgets what was seen before; closed only if nothing is left.
    pub(crate) fn refresh(&mut self, now_ns: u64, given: Given) {
        self.rests().for_each(|rest| rest.roll(now_ns, given));
        self.close_if_spent(given);
    }

    fn close_if_spent(&mut self, given: Given) {
        let is_spent = |rest: &Rest| !rest.admits(1, given);
        let spent = |rest: Option<Rest>| rest.filter(is_spent).map(|rest| rest.reset_at_ns);
        let requests = spent(self.requests).map(|until_ns| (LimitKind::RequestsLeft, until_ns));
        let tokens = spent(self.tokens).map(|until_ns| (LimitKind::TokensLeft, until_ns));
        self.closed = requests.into_iter().chain(tokens).max_by_key(|&(_, until_ns)| until_ns);
    }

    /// Whether nothing is left of one of them, until a time that is known.
    pub(crate) fn is_spent(&self) -> bool {
        let is_spent =
            |rest: Option<Rest>| rest.is_some_and(|rest| rest.reset_at_ns != NEVER && rest.left < 1);
        is_spent(self.requests) || is_spent(self.tokens)
    }

    /// A request of so many tokens goes there, with which so much was `given`.
    pub(crate) fn charge(&mut self, given: Given, tokens: u64) {
        if let Some(rest) = &mut self.requests {
            rest.charge(1);
        }
        if let Some(rest) = &mut self.tokens {
            rest.charge(whole(tokens));
        }
        self.close_if_spent(given);
    }

    pub(crate) fn admits(&self, now_ns: u64, given: Given, tokens: u64) -> bool {
        self.tokens.is_none_or(|mut rest| {
            rest.roll(now_ns, given);
            rest.admits(whole(tokens), given)
        })
    }

    /// Closed for a prompt that asks for more tokens than are left.
    pub(crate) fn close(&mut self) {
        let until_ns = self.tokens.map_or(NEVER, |rest| rest.reset_at_ns);
        self.closed = Some((LimitKind::TokensLeft, until_ns));
    }

    /// What was charged for the request `of` turned out to be `used` tokens.
    pub(crate) fn settle(&mut self, given: Given, of: Given, charged: u64, used: u64) {
        if let Some(rest) = &mut self.tokens {
            rest.settle(of, whole(charged), whole(used));
        }
        self.close_if_spent(given);
    }

    /// The last of the model that was in flight there has ended.
    pub(crate) fn fall_silent(&mut self, now_ns: u64, given: Given) {
        self.rests().for_each(|rest| rest.roll(now_ns, given));
        self.rests().for_each(|rest| rest.fall_silent(given));
        self.close_if_spent(given);
    }
}

/// Nobody counts further.
fn whole(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A model at a backend, given requests of 100 tokens.
    struct World {
        told: Told,
        given: Given,
    }

    impl World {
        fn new() -> Self {
            Self { told: Told::default(), given: Given::ZERO }
        }

        fn give(&mut self, now_ns: u64) -> Given {
            self.told.refresh(now_ns, self.given);
            self.given.add(100);
            self.told.charge(self.given, 100);
            self.given
        }

        fn hear(&mut self, now_ns: u64, of: Given, amount: u64, limit: u64, reset_s: u64) {
            let told = Left { amount, limit, reset_at_ns: reset_s * SECOND };
            self.told.hear(now_ns, of, self.given, Some(told), None);
        }

        fn left(&self) -> i64 {
            self.told.requests.expect("something was said").left
        }
    }

    /// What was given after the request is taken off, and what is given from then on.
    #[test]
    fn less_what_was_given_since() {
        let mut world = World::new();
        let first = world.give(0);
        world.give(0);
        world.give(0);
        world.hear(1, first, 4, 0, 60);
        assert_eq!((world.left(), world.told.closed), (2, None));
        world.give(2);
        world.give(2);
        assert_eq!(world.told.closed, Some((LimitKind::RequestsLeft, 60 * SECOND)));
    }

    /// The word of the later request counts; one of an earlier request that comes after it may narrow, never lift.
    #[test]
    fn later_requests_count() {
        let mut world = World::new();
        let [first, second, third] = [(); 3].map(|()| world.give(0));
        world.hear(1, second, 5, 0, 60);
        assert_eq!(world.left(), 4);
        world.hear(2, first, 9, 0, 90);
        assert_eq!(world.left(), 4);
        world.hear(3, first, 1, 0, 90);
        assert_eq!(world.left(), 1, "they arrived the other way round");
        world.hear(4, third, 7, 0, 60);
        assert_eq!(world.left(), 7, "more has come back");
    }

    /// After the reset the whole limit is there, until an answer to something since says more; answers to what was
    /// before say nothing.
    #[test]
    fn after_the_reset() {
        let mut world = World::new();
        let before = world.give(0);
        let late = world.give(0);
        world.hear(1, before, 1, 2, 60);
        assert_eq!(world.told.closed, Some((LimitKind::RequestsLeft, 60 * SECOND)));
        let after = world.give(60 * SECOND);
        assert_eq!((world.left(), world.told.closed), (1, None));
        world.give(60 * SECOND);
        assert_eq!(world.told.closed, Some((LimitKind::RequestsLeft, NEVER)), "an answer is on its way");
        world.hear(61 * SECOND, late, 9, 2, 90);
        assert_eq!(world.left(), 0);
        world.hear(62 * SECOND, after, 3, 2, 120);
        assert_eq!((world.left(), world.told.closed), (2, None));
    }

    /// When nothing is in flight that could say more, nothing is held against the backend.
    #[test]
    fn nobody_left_to_say() {
        let mut world = World::new();
        let old = world.give(0);
        world.hear(1, old, 0, 1, 60);
        world.told.fall_silent(59 * SECOND, world.given);
        world.told.refresh(59 * SECOND, world.given);
        assert!(world.told.closed.is_some(), "its time is known");
        world.give(60 * SECOND);
        world.told.refresh(61 * SECOND, world.given);
        assert_eq!(world.told.closed, Some((LimitKind::RequestsLeft, NEVER)));
        world.told.fall_silent(61 * SECOND, world.given);
        world.told.refresh(61 * SECOND, world.given);
        assert_eq!(world.told.closed, None);
    }

    /// An answer that comes after its reset says the whole limit, less all that was given after its request.
    #[test]
    fn slow_answers() {
        let mut world = World::new();
        let slow = world.give(0);
        world.give(0);
        world.hear(61 * SECOND, slow, 0, 3, 60);
        assert_eq!((world.left(), world.told.closed), (2, None));
    }

    /// Without a limit the reset lifts it, and one that is past says nothing.
    #[test]
    fn lifted() {
        let mut world = World::new();
        let of = world.give(0);
        world.hear(1, of, 0, 0, 60);
        world.told.refresh(60 * SECOND - 1, world.given);
        assert!(world.told.closed.is_some() && world.told.is_spent());
        world.told.refresh(60 * SECOND, world.given);
        assert!(world.told.closed.is_none() && !world.told.is_spent());
        let of = world.give(61 * SECOND);
        world.hear(62 * SECOND, of, 0, 0, 90);
        world.hear(63 * SECOND, of, 0, 0, 63);
        assert_eq!(world.told.closed, None);
    }

    /// Tokens are settled by what was used; a prompt above the whole limit goes alone after the reset.
    #[test]
    fn tokens() {
        let mut world = World::new();
        let first = world.give(0);
        let second = world.give(0);
        let told = Left { amount: 150, limit: 200, reset_at_ns: 60 * SECOND };
        world.told.hear(1, first, world.given, None, Some(told));
        let admits = |world: &mut World, now_ns, tokens| world.told.admits(now_ns, world.given, tokens);
        assert!(admits(&mut world, 1, 50) && !admits(&mut world, 1, 51));
        world.told.settle(world.given, first, 100, 10);
        assert!(!admits(&mut world, 1, 51), "the provider had counted it");
        world.told.settle(world.given, second, 100, 30);
        assert!(admits(&mut world, 1, 120) && !admits(&mut world, 1, 121));
        assert!(!admits(&mut world, 60 * SECOND - 1, 5_000) && admits(&mut world, 60 * SECOND, 5_000));
        world.give(60 * SECOND);
        assert!(admits(&mut world, 60 * SECOND, 100) && !admits(&mut world, 60 * SECOND, 101));
    }
}
