"""Results that wait for the readers of calls: how many, how large, in all and by tenant, and where it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from expresslane.clock import Clock, monotonic_ns
from expresslane.end_rate import EndRate

if TYPE_CHECKING:
    from collections.abc import Callable

    from expresslane.batches.held import Bounds

__all__ = ["Unread"]


class Unread:
    """Counts what outboxes hold, what their readers have taken and not yet written included.

    `bounds`: results and bytes of answers, 0: no such bound. It is full from the bound on, until half of it has been
    read; `changed` is called soon after that changes. `whole`: what this is a tenant's part of. Being full holds
    batches of which something waits and nobody else's, so it is about: what is at a backend still comes.
    """

    def __init__(
        self,
        bounds: Bounds,
        changed: Callable[[], object] = lambda: None,
        whole: Unread | None = None,
        *,
        clock: Clock = monotonic_ns,
    ) -> None:
        self.bounds = bounds
        self.results = 0
        self.bytes = 0
        self.holders = 0
        """Tenants of whose results any wait."""
        self.full = False
        self._changed = changed
        self._whole = whole
        self._results_rate = EndRate(clock)
        self._bytes_rate = EndRate(clock)

    @property
    def pressed(self) -> bool:
        """Whether a batch of which something waits must be held."""
        return self.full or (self._whole is not None and self._whole.full)

    @property
    def fullest(self) -> str:
        """Which of its bounds is the nearest: `results` or `bytes`."""
        by_count = self.results / self.bounds.count if self.bounds.count else 0.0
        by_bytes = self.bytes / self.bounds.bytes if self.bounds.bytes else 0.0
        return "results" if by_count >= by_bytes else "bytes"

    @property
    def over_share(self) -> bool:
        """Whether all of it is full, and this part is no smaller than the mean: then this is who must read first."""
        whole = self._whole
        if whole is None or not whole.full:
            return False
        by_count = _over(whole.results, whole.bounds.count, 0.5) and self.results * whole.holders >= whole.results
        by_bytes = _over(whole.bytes, whole.bounds.bytes, 0.5) and self.bytes * whole.holders >= whole.bytes
        return by_count or by_bytes

    def add(self, results: int, size_bytes: int) -> None:
        """Count what waits from now on; negative numbers, what no longer does."""
        waited = bool(self.results or self.bytes)
        self.results += results
        self.bytes += size_bytes
        self._measure()
        if self._whole is not None:
            self._whole.holders += bool(self.results or self.bytes) - waited
            self._whole.add(results, size_bytes)

    def read(self, results: int, size_bytes: int) -> None:
        """Readers have got rid of so much: it waits no longer, and says how fast they are."""
        self.add(-results, -size_bytes)
        self.note_read(results, size_bytes)

    def note_read(self, results: int, size_bytes: int) -> None:
        """Remember that so much was read, here and in the whole."""
        self._results_rate.ended(results)
        self._bytes_rate.ended(size_bytes)
        if self._whole is not None:
            self._whole.note_read(results, size_bytes)

    def retry_after_ns(self) -> int:
        """When it may have room again if it is read on as of late: 0.1 to 60 s; growing from 1 s while nothing was."""
        pairs = (
            (self.results, self.bounds.count, self._results_rate),
            (self.bytes, self.bounds.bytes, self._bytes_rate),
        )
        waits = [rate.retry_after_ns(have - most // 2) for have, most, rate in pairs if _over(have, most, 0.5)]
        return max(waits, default=self._results_rate.retry_after_ns())

    def set_bounds(self, bounds: Bounds) -> None:
        """Go by other bounds from now on; what waits beyond them stays."""
        self.bounds = bounds
        self._measure()

    def _measure(self) -> None:
        part = 0.5 if self.full else 1.0
        full = _over(self.results, self.bounds.count, part) or _over(self.bytes, self.bounds.bytes, part)
        if full != self.full:
            self.full = full
            asyncio.get_running_loop().call_soon(self._changed)


def _over(have: int, limit: int, part: float) -> bool:
    """Whether a part of a bound is reached; just half of it is not over half."""
    return limit > 0 and (have >= limit if part == 1.0 else have > limit * part)
