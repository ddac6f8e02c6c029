"""When memory is given back: after a flood, once, and not while there is much to do."""

from __future__ import annotations

from expresslane.memory import FEW, GROWN_BYTES, Ebb

START = 80 * 2**20


class Held:
    """Open calls and prompts, as told."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def started() -> tuple[Ebb, Held]:
    """At rest with 80 MiB."""
    held = Held()
    ebb = Ebb(held)
    ebb.gave_back(START)
    return ebb, held


def test_due_when_the_flood_is_over() -> None:
    """Memory that has grown is given back once few calls are open, or a tenth of the most that were."""
    ebb, held = started()
    held.now = 9_000
    assert not ebb.is_due(START + 10 * GROWN_BYTES)
    held.now = 901
    assert not ebb.is_due(START + 10 * GROWN_BYTES)
    held.now = 900
    assert ebb.is_due(START + 10 * GROWN_BYTES)
    ebb, held = started()
    held.now = FEW
    assert ebb.is_due(START + GROWN_BYTES)


def test_not_due_without_growth() -> None:
    """What is left after it was given back is in use: it is tried again only when there is more, at least 16 MiB."""
    ebb, _ = started()
    assert not ebb.is_due(START + GROWN_BYTES - 1)
    assert ebb.is_due(START + GROWN_BYTES)
    ebb.gave_back(START + GROWN_BYTES)
    assert not ebb.is_due(START + GROWN_BYTES)
    assert not ebb.is_due(START + 2 * GROWN_BYTES - 1)
    assert ebb.is_due(START + 2 * GROWN_BYTES)


def test_growth_counts_from_the_least() -> None:
    """When what was in use has gone by itself, the next growth is counted from there."""
    ebb, _ = started()
    ebb.gave_back(START + 4 * GROWN_BYTES)
    assert not ebb.is_due(START)
    assert ebb.is_due(START + GROWN_BYTES)
