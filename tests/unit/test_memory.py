"""When memory is given back: after a flood, once, and not while there is much to do."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from expresslane.memory import COLLECTION_S, FEW, GROWN_BYTES, Collections, Ebb, give_back, usable_bytes

if TYPE_CHECKING:
    from pathlib import Path

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
    for held.now in (9_000, 901, 901, 900):
        assert not ebb.is_due(START + 10 * GROWN_BYTES)
    assert ebb.is_due(START + 10 * GROWN_BYTES)
    ebb, held = started()
    held.now = FEW
    assert ebb.is_due(START + GROWN_BYTES)


def test_not_due_while_calls_still_end() -> None:
    """What the last ones of a flood hold would stay, because afterwards there is no growth."""
    ebb, held = started()
    held.now = 2 * FEW
    assert not ebb.is_due(START + GROWN_BYTES)
    for held.now in (FEW, FEW - 1, 0):
        assert not ebb.is_due(START + GROWN_BYTES)
    assert ebb.is_due(START + GROWN_BYTES)
    held.now = 1
    assert ebb.is_due(START + GROWN_BYTES), "one call more is no flood that ends"


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


@pytest.mark.parametrize(
    ("v2", "v1", "usable"),
    [
        ("1048576\n", None, 2**20),
        (None, "2097152\n", 2**21),
        ("max\n", "2097152\n", 2**21),
        ("max\n", None, 2**30),
        (None, "9223372036854771712\n", 2**30),
        (None, None, 2**30),
    ],
)
def test_memory_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, v2: str | None, v1: str | None, usable: int
) -> None:
    """A limit of the container counts, of either kind of control group; without one there is the machine's memory."""
    pages = {"SC_PHYS_PAGES": 2**18, "SC_PAGE_SIZE": 2**12}
    limits = tmp_path / "v2", tmp_path / "v1"
    for limit, text in zip(limits, (v2, v1), strict=True):
        if text is not None:
            limit.write_text(text)
    monkeypatch.setattr(os, "sysconf", pages.get)
    monkeypatch.setattr("expresslane.memory._CONTAINER_LIMITS", limits)
    assert usable_bytes() == usable


class Heap:
    """Memory blocks whose collection takes a microsecond each, and leaves those that are held."""

    def __init__(self, settled: int) -> None:
        self.held = settled
        self.garbage = 0
        self.times = 0
        self._settled = settled
        self._spent_s = 0.0
        self.collections = Collections(
            collect=self._collect, blocks=lambda: self.held + self.garbage, processor_s=lambda: self._spent_s
        )

    def _collect(self) -> None:
        self._spent_s += (self.held + self.garbage - self._settled) * 1e-6
        self.garbage = 0
        self.times += 1


LONG = round(COLLECTION_S * 1e6)
"""More blocks than these take too long."""


def test_no_second_long_collection() -> None:
    """While much is held it stops the service once, not again until so much has gone that it would be short."""
    heap = Heap(settled=10 * LONG)
    heap.held += 16 * LONG
    assert heap.collections.try_one()
    heap.garbage = LONG // 2
    assert not heap.collections.try_one()
    heap.held -= 15 * LONG
    assert not heap.collections.try_one()
    heap.held -= LONG // 2
    assert heap.collections.try_one()
    assert (heap.times, heap.garbage) == (2, 0)
    assert heap.collections.try_one()


def test_garbage_is_worth_a_long_collection() -> None:
    """What takes long for garbage alone does so once for each flood: all of it is collected every time."""
    heap = Heap(settled=0)
    heap.held = LONG - 1
    for times in (1, 2, 3):
        heap.garbage = 100 * LONG
        assert heap.collections.try_one()
        assert (heap.times, heap.garbage) == (times, 0)


def test_nothing_to_collect() -> None:
    """Less than there was at the beginning is as good as nothing."""
    heap = Heap(settled=LONG)
    heap.held = 0
    assert heap.collections.try_one()
    assert heap.collections.try_one()


def test_names_are_let_go() -> None:
    """A name that was made for one look-up is not kept when memory is given back: it would keep all around it."""
    names = ["".join(("name_", str(number))) for number in range(100)]
    held = [sys.getrefcount(name) for name in names]
    assert not any(hasattr(Heap, name) for name in names)
    assert [sys.getrefcount(name) for name in names] != held, (
        "CPython keeps no names: give_back need not let go of them"
    )
    give_back(Collections())
    assert [sys.getrefcount(name) for name in names] == held
