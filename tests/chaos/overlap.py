"""How far above its cap a backend was used, from the times at which its requests began and ended."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["GRACE_NS", "exceeded"]

GRACE_NS = 50_000_000
"""A request that was cancelled races with its successor: the backend sees the one begin before the other's end."""


def exceeded(spans_ns: Iterable[tuple[int, int]], cap: int, grace_ns: int = GRACE_NS) -> list[tuple[int, int, int]]:
    """Each time that more than `cap` of the spans (begin, end) overlapped for longer than the grace.

    Told as (begin, end, most at once). Where one ends as another begins, the end counts first.
    """
    steps = sorted(chain.from_iterable(((begin, 1), (end, -1)) for begin, end in spans_ns))
    found: list[tuple[int, int, int]] = []
    running = peak = since = 0
    for at, step in steps:
        above = running > cap
        running += step
        peak = max(peak, running)
        if not above and running > cap:
            since, peak = at, running
        elif above and running <= cap and at - since > grace_ns:
            found.append((since, at, peak))
    return found
