"""When to try again: exponential back-off with full jitter, or as long as the backend asks.

Full jitter: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from expresslane.errors import BackendError, Reason

__all__ = ["RetryPolicy"]

_OTHER_BACKEND = frozenset({Reason.FIRST_TOKEN_TIMEOUT, Reason.IDLE_TIMEOUT, Reason.ATTEMPT_TIMEOUT})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` at most; the first back-off is uniform in [0, base_s], each later range twice as wide, up to cap_s."""

    attempts: int
    base_s: float
    cap_s: float
    random: random.Random = field(default_factory=random.Random)

    def delay_ns(self, attempt: int, error: BackendError) -> int | None:
        """Nanoseconds to wait after failed attempt number `attempt` (from 1); None: do not try again."""
        if attempt >= self.attempts or not error.retryable:
            return None
        ceiling = min(self.cap_s, self.base_s * 2 ** (attempt - 1))
        jitter = self.random.uniform(0, ceiling)
        return int(max(jitter, error.retry_after_s or 0.0) * 1e9)

    @staticmethod
    def excludes_backend(error: BackendError) -> bool:
        """Whether the next attempt must go to another backend: a timed-out one is not repeated where it timed out."""
        return error.reason in _OTHER_BACKEND
