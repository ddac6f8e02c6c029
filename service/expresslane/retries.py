"""When to try again: exponential back-off with jitter, or as long as the backend asks.

Full, equal and decorrelated jitter: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal

from expresslane.errors import BackendError, Reason

__all__ = ["MAX_WAIT_S", "Jitter", "RetryPolicy", "asked_ns", "plain_seconds"]

MAX_WAIT_S = 86_400.0

Jitter = Literal["full", "equal", "decorrelated", "none"]

_OTHER_BACKEND = frozenset({Reason.FIRST_TOKEN_TIMEOUT, Reason.IDLE_TIMEOUT, Reason.ATTEMPT_TIMEOUT})


def asked_ns(retry_after_s: float | None) -> int:
    """Nanoseconds that a backend asks to be left alone for, waited for in full up to a day; 0: it asks for nothing."""
    return int(min(retry_after_s or 0.0, MAX_WAIT_S) * 1e9)


def plain_seconds(duration_ns: int) -> str:
    """A duration as callers read it: seconds without an exponent, to the millisecond."""
    text = f"{duration_ns / 1e9:.3f}"
    return text.rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `attempts`; the n-th back-off is bounded by min(cap_s, base_s * 2^(n-1)) and spread by `jitter`.

    A decorrelated one is bounded by min(cap_s, 3 * last) instead, where before the first the last one counts as base_s.
    """

    attempts: int
    base_s: float
    cap_s: float
    jitter: Jitter = "full"
    random: random.Random = field(default_factory=random.Random)

    def back_off_ns(self, attempt: int, error: BackendError, last_ns: int = 0) -> int | None:
        """Nanoseconds of back-off after failed attempt number `attempt` (from 1); None: do not try again.

        `last_ns` is the back-off before that attempt, without what a backend asked for beyond it.
        """
        if not (self.allows(attempt) and error.retryable):
            return None
        return int(self._back_off_s(attempt, last_ns / 1e9) * 1e9)

    def allows(self, attempt: int) -> bool:
        """Whether there may be another attempt after the one with this number (from 1)."""
        return attempt < self.attempts

    def _back_off_s(self, attempt: int, last_s: float) -> float:
        bound = min(self.cap_s, self.base_s * 2.0 ** (attempt - 1))
        match self.jitter:
            case "full":
                return self.random.uniform(0, bound)
            case "equal":
                return bound / 2 + self.random.uniform(0, bound / 2)
            case "decorrelated":
                return min(self.cap_s, self.random.uniform(self.base_s, max(self.base_s, last_s) * 3))
            case "none":
                return bound

    @staticmethod
    def excludes_backend(error: BackendError) -> bool:
        """Whether no later attempt may go to the same backend: a timed-out one is not repeated where it timed out."""
        return error.reason in _OTHER_BACKEND
