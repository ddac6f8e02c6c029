"""How long a model is left alone after a 429 that does not say: longer for each round that is turned away (A26)."""

from __future__ import annotations

import random

import pytest
from expresslane.refusals import Refusals

from tests.unit.service.test_retries import Highest
from tests.unit.service.world import SECOND

BACKEND, MODEL = 3, 7


class Lowest(random.Random):
    """Always the lower bound."""

    def uniform(self, a: float, b: float) -> float:
        """The lower bound."""
        return min(a, b)


def refused(
    refusals: Refusals, started_ns: int, now_ns: int, asked_s: float | None = None, *, max_s: float = 60.0
) -> float:
    """One refusal; returns for how many seconds from now the model is left alone."""
    until_ns = refusals.refused(
        BACKEND, MODEL, started_ns=started_ns, now_ns=now_ns, asked_s=asked_s, base_s=1.0, max_s=max_s
    )
    return (until_ns - now_ns) / SECOND


def rounds(refusals: Refusals, count: int, *, max_s: float = 60.0) -> list[float]:
    """Pauses of so many rounds, each begun when the pause before it was over."""
    now_ns, pauses = SECOND, []
    for _ in range(count):
        pauses.append(refused(refusals, now_ns, now_ns, max_s=max_s))
        now_ns += int(pauses[-1] * SECOND)
    return pauses


@pytest.mark.parametrize(("chance", "part"), [(Highest(), 1.0), (Lowest(), 0.5)])
def test_it_doubles_up_to_a_bound(chance: random.Random, part: float) -> None:
    """1, 2, 4 ... 60 s, or by chance down to half of that."""
    bounds = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert rounds(Refusals(chance), 8) == pytest.approx([bound * part for bound in bounds])


def test_it_is_bounded_for_ever() -> None:
    """Ten thousand rounds later it is the bound still, and one pair of numbers is all that is kept."""
    refusals = Refusals(Highest())
    assert rounds(refusals, 10_000, max_s=5.0)[-1] == 5.0
    assert len(refusals._runs) == 1


def test_a_burst_is_one_round() -> None:
    """What was on its way when the pause began neither doubles nor moves it, however late its answer comes."""
    refusals = Refusals(Highest())
    assert refused(refusals, SECOND, 2 * SECOND) == 1.0
    assert refused(refusals, SECOND, 2 * SECOND + 1) == pytest.approx(1.0)
    assert refused(refusals, 2 * SECOND, 10 * SECOND) == -7.0, "it is over"
    assert refused(refusals, 3 * SECOND, 11 * SECOND) == 2.0


def test_a_success_ends_the_run() -> None:
    """After a success the next refusal is a first one; what succeeds but was on its way before says nothing."""
    refusals = Refusals(Highest())
    rounds(refusals, 3)
    refusals.answered(BACKEND, MODEL, SECOND)
    assert refusals.is_refusing(BACKEND, MODEL)
    refusals.answered(BACKEND, MODEL, 100 * SECOND)
    assert not refusals.is_refusing(BACKEND, MODEL)
    assert refused(refusals, 101 * SECOND, 101 * SECOND) == 1.0


def test_what_is_asked_for_counts() -> None:
    """A word of the backend is kept in full, beyond the bound of the default and inside a burst; up to a day."""
    refusals = Refusals(Highest())
    assert refused(refusals, SECOND, SECOND, 100.0) == 100.0
    assert refused(refusals, SECOND, 2 * SECOND, 200.0) == 200.0
    assert refused(refusals, SECOND, 3 * SECOND, 5.0) == 199.0, "the later of two counts"
    assert refused(refusals, 300 * SECOND, 300 * SECOND, 1e300) == 86_400.0
    assert refused(refusals, 10**6 * SECOND, 10**6 * SECOND, 0.0) == 4.0, "nothing asked: the third pause of the run"


def test_pairs_do_not_mix() -> None:
    """One model of one backend; others begin on their own."""
    refusals = Refusals(Highest())
    rounds(refusals, 4)
    assert not refusals.is_refusing(BACKEND, MODEL + 1)
    assert not refusals.is_refusing(BACKEND + 1, MODEL)
    refusals.answered(BACKEND + 1, MODEL, 100 * SECOND)
    assert refusals.is_refusing(BACKEND, MODEL)
