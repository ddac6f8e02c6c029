//! What one contender has had: settled service, and the estimates of what is in flight.

use crate::fair_tree::Rank;

/// Virtual tokens are counted in this fraction, so that weights divide them.
const UNIT: u64 = 4_096;

/// In a serial number: of two that have had the same, who has just come goes before who has had a turn since it came.
const HAD_A_TURN: u64 = 1 << 63;

/// Most releases of one turn: short prompts at a slow backend would make a turn of tokens alone last for minutes.
const TURN_RELEASES_MAX: u32 = 4;

/// Released work counts at once, by estimate, when the next one is chosen; it is settled when its real size is known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// Settled, in units; it never falls.
    settled: u64,
    /// Estimates of what is in flight, in tokens.
    pending: u64,
    /// Releases since its turn began.
    turn_releases: u32,
    /// As it stands in the trees: what it had had when its turn began.
    pub(crate) rank: Rank,
}

impl Account {
    pub(crate) fn settled(&self) -> u64 {
        self.settled
    }

    /// Begins to wait: service that was not asked for is not made up for.
    pub(crate) fn wake(&mut self, clock: u64, serial: u64, weight: u32) {
        self.settled = self.settled.max(clock);
        self.move_to(Rank { had: self.had(weight), serial });
    }

    /// Its place in the trees has changed: a turn begins.
    pub(crate) fn move_to(&mut self, rank: Rank) {
        self.rank = rank;
        self.turn_releases = 0;
    }

    pub(crate) fn charge(&mut self, tokens: u64) {
        self.pending += tokens;
        self.turn_releases += 1;
    }

    /// What was charged as `charged` turned out to be `used`.
    pub(crate) fn settle(&mut self, charged: u64, used: u64, weight: u32) {
        self.pending -= charged;
        self.settled = self.settled.saturating_add(units(used, weight));
    }

    /// Where it belongs now: where it stands until its turn is over, or at what it has had if that is less.
    pub(crate) fn new_rank(&self, weight: u32, turn: u64) -> Rank {
        let had = self.had(weight);
        if had < self.rank.had {
            return Rank { had, ..self.rank };
        }
        if had - self.rank.had <= turn && self.turn_releases < TURN_RELEASES_MAX {
            return self.rank;
        }
        Rank { had, serial: self.rank.serial | HAD_A_TURN }
    }

    /// What newcomers may be lifted to while it is served: they are next after its turn, and an estimate that was far
    /// too high never holds them up.
    pub(crate) fn clock(&self) -> u64 {
        self.settled.min(self.rank.had)
    }

    fn had(&self, weight: u32) -> u64 {
        self.settled.saturating_add(units(self.pending, weight))
    }
}

/// Rounded up, so that service is never free.
pub(crate) fn units(tokens: u64, weight: u32) -> u64 {
    let units = tokens.saturating_mul(UNIT);
    if weight <= 1 { units } else { units.div_ceil(u64::from(weight)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Estimates count until they are settled, and a refund leaves nothing behind.
    #[test]
    fn settle_and_refund() {
        let mut account = Account::default();
        account.wake(1_000, 1, 1);
        assert_eq!(account.rank, Rank { had: 1_000, serial: 1 });
        account.charge(50);
        account.charge(30);
        assert_eq!(account.new_rank(1, 0).had, 1_000 + 80 * UNIT);
        account.settle(50, 0, 1);
        account.settle(30, 10, 1);
        assert_eq!((account.new_rank(1, 0).had, account.settled()), (1_000 + 10 * UNIT, 1_000 + 10 * UNIT));
        account.wake(5, 2, 1);
        assert_eq!(account.settled(), 1_000 + 10 * UNIT);
    }

    /// A rank stays until the turn is over, and falls at once.
    #[test]
    fn turns() {
        let mut account = Account::default();
        account.wake(1_000, 1, 1);
        account.charge(50);
        assert_eq!(account.new_rank(1, 50 * UNIT), account.rank);
        account.rank = account.new_rank(1, 50 * UNIT - 1);
        assert_eq!(account.rank.had, 1_000 + 50 * UNIT);
        assert!(Rank { serial: 2, ..account.rank } < account.rank, "newcomers go before it");
        account.settle(50, 0, 1);
        assert_eq!((account.new_rank(1, 50 * UNIT).had, account.clock()), (1_000, 1_000));
    }

    /// Twice the weight is charged half.
    #[test]
    fn weights() {
        assert_eq!(units(100, 2) * 2, units(100, 1));
        assert_eq!(units(1, u32::MAX), 1);
    }
}
