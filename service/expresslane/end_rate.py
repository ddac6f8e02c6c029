"""How fast calls, batches and prompts end, and when there will be room for another: measured, or bounded until then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expresslane import _scheduler
from expresslane.clock import Clock, monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EndRate", "FirstEnds"]

_LONGEST_NS = 60 * 10**9
"""The longest hint that there is."""


class EndRate:
    """Measures what the service bounds itself, so that a refusal can say when to come back."""

    def __init__(self, clock: Clock = monotonic_ns) -> None:
        self._rate = _scheduler.DrainRate()
        self._clock = clock
        self._measured = False
        self._first_asked_ns: int | None = None

    def ended(self, count: int = 1) -> None:
        """So many more have ended."""
        self._measured = True
        self._rate.record(self._clock(), count)

    def retry_after_ns(self, places: int = 1) -> int:
        """Nanoseconds in which `places` more will have ended, from 0.1 to 60 s.

        While none has ended: for as long again as it has been asked in vain, at least 1 s.
        """
        now_ns = self._clock()
        hint_ns = self._rate.retry_after_ns(now_ns, min(places, 2**32 - 1))
        if self._measured:
            return hint_ns
        if self._first_asked_ns is None:
            self._first_asked_ns = now_ns
        return max(hint_ns, min(now_ns - self._first_asked_ns, _LONGEST_NS))


class FirstEnds:
    """Bounds the rate at which prompts end while few or none have, so that it is not measured yet.

    While none has ended in a time, the slots are taken to end together in as long again. Without that every caller that
    finds the queue full would be told to come back in a second, until the first prompt ends.
    """

    def __init__(self) -> None:
        self._since_ns: int | None = None
        self._ended = 0
        self._over = False

    def began(self, now_ns: int) -> None:
        """There is work; only the first time counts."""
        if self._since_ns is None:
            self._since_ns = now_ns

    def ended(self, *, idle: bool) -> None:
        """A prompt has ended. `idle`: it was the last there was, and time without work says nothing."""
        self._ended += 1
        self._over |= idle

    def retry_after_ns(self, now_ns: int, hint_ns: int, places: int, in_flight: Callable[[], int]) -> int:
        """The hint by what is measured, or a longer one, up to 60 s: in which `places` prompts may have ended.

        For the first minute, and on until one has ended. `in_flight`: how many prompts are.
        """
        if self._since_ns is None or self._over:
            return hint_ns
        waited_ns = now_ns - self._since_ns
        if waited_ns >= _LONGEST_NS and self._ended:
            self._over = True
            return hint_ns
        at_once = max(self._ended, in_flight(), 1)
        shortest_ns = 0 if self._ended else waited_ns
        return max(hint_ns, min(max(waited_ns * places // at_once, shortest_ns), _LONGEST_NS))
