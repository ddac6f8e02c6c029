"""Whether a backend was used above its cap, from the times at which its requests began and ended."""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["GRACE_NS", "WINDOW_NS", "exceeded"]

GRACE_NS = 50_000_000
"""A request that was cancelled races with its successor: the backend sees the one begin before the other's end."""
WINDOW_NS = 1_000_000_000
"""Within this the times above the cap add up: where a request ends every few milliseconds, no single one is long."""

Span = tuple[int, int, int]
"""Begin, end, most requests at once."""


def exceeded(spans_ns: Iterable[tuple[int, int]], cap: int, grace_ns: int = GRACE_NS) -> list[Span]:
    """Each time that more than `cap` of the spans (begin, end) overlapped for more than the grace within a window.

    A single overlap longer than the grace is such a time too. Where one ends as another begins, the end counts first.
    """
    found: list[Span] = []
    recent: deque[Span] = deque()
    for span in _above(spans_ns, cap):
        recent.append(span)
        while recent[0][1] < span[1] - WINDOW_NS:
            recent.popleft()
        if sum(end - begin for begin, end, _ in recent) > grace_ns:
            found.append((recent[0][0], span[1], max(most for _, _, most in recent)))
            recent.clear()
    return found


def _above(spans_ns: Iterable[tuple[int, int]], cap: int) -> Iterator[Span]:
    """Every stretch of time above the cap, however short."""
    steps = sorted(chain.from_iterable(((begin, 1), (end, -1)) for begin, end in spans_ns))
    running = peak = since = 0
    for at, step in steps:
        above = running > cap
        running += step
        if not above and running > cap:
            since, peak = at, running
        elif above and running <= cap:
            yield since, at, peak
        peak = max(peak, running)
