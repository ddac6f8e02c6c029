"""Durations of any number of results in bounded memory: all of the first ones, then an even part of all."""

from __future__ import annotations

import random
from array import array
from dataclasses import dataclass

__all__ = ["SAMPLES_MAX", "Percentiles", "Samples"]

SAMPLES_MAX = 16_384
"""Even, because halves of it are taken. 128 KiB: a session of any length costs no more."""
_chance = random.Random(0)  # noqa: S311 - which of neighbours is kept: nobody gains by knowing


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Nearest-rank percentiles of `count` durations, in nanoseconds; all zero when there are none."""

    count: int = 0
    p50_ns: int = 0
    p99_ns: int = 0
    max_ns: int = 0
    mean_ns: int = 0


class Samples:
    """Count, mean, first and greatest value are exact; percentiles up to SAMPLES_MAX values.

    Above that one value of every two, four, eight ... is kept, any of them, so that of results which come in turns from
    two backends both count: at least half of SAMPLES_MAX, from the first to the last. A percentile is then off as one
    of such a sample is, the 99th one of 8,192 by about a tenth of a percent of rank.
    """

    __slots__ = ("_every", "_kept", "_next", "_sum", "count", "first", "greatest")

    def __init__(self) -> None:
        self._kept = array("q")
        self._every = 1
        self._next = 1
        self._sum = 0
        self.count = 0
        self.first = 0
        self.greatest = 0

    def add(self, value: int) -> None:
        """One more, in nanoseconds."""
        self.count += 1
        self._sum += value
        self.greatest = max(self.greatest, value)
        if self.count < self._next:
            return
        if self.count == 1:
            self.first = value
        self._kept.append(value)
        if len(self._kept) == SAMPLES_MAX:
            self._every *= 2
            pairs = zip(self._kept[::2], self._kept[1::2], strict=True)
            self._kept = array("q", [pair[_chance.random() < 0.5] for pair in pairs])
        self._next = len(self._kept) * self._every + 1
        if self._every > 1:
            self._next += int(_chance.random() * self._every)

    def median(self) -> int:
        """The middle one of the values in the order in which they came; 0 of none."""
        return self._kept[(len(self._kept) + 1) // 2 - 1] if self._kept else 0

    def percentiles(self) -> Percentiles:
        """Nearest rank: the smallest value that at least p % of those kept do not exceed."""
        if not self.count:
            return Percentiles()
        ordered = sorted(self._kept)
        kept = len(ordered)
        return Percentiles(
            count=self.count,
            p50_ns=ordered[(kept * 50 + 99) // 100 - 1],
            p99_ns=ordered[(kept * 99 + 99) // 100 - 1],
            max_ns=self.greatest,
            mean_ns=self._sum // self.count,
        )
