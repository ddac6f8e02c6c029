"""How fast calls and batches end, and when there will be room for another: the core's own measure."""

from __future__ import annotations

from expresslane import _scheduler
from expresslane.clock import Clock, monotonic_ns

__all__ = ["EndRate"]


class EndRate:
    """Measures what the service bounds itself, so that a refusal can say when to come back."""

    def __init__(self, clock: Clock = monotonic_ns) -> None:
        self._rate = _scheduler.DrainRate()
        self._clock = clock

    def ended(self, count: int = 1) -> None:
        """So many more have ended."""
        self._rate.record(self._clock(), count)

    def retry_after_ns(self, places: int = 1) -> int:
        """Nanoseconds in which `places` more will have ended: from 0.1 to 60 s, 1 s while nothing is known."""
        return self._rate.retry_after_ns(self._clock(), min(places, 2**32 - 1))
