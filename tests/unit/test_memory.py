"""When memory is given back: after a flood, once, and not while there is much to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from expresslane.memory import FEW, GROWN_BYTES, Ebb, usable_bytes

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
