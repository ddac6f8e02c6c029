"""What backends last failed in, and a line in the log about each kind of failure, at most one a minute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from expresslane.errors import Reason
from expresslane.telemetry.logs import RepeatLimiter

if TYPE_CHECKING:
    from expresslane.clock import Clock
    from expresslane.errors import BackendError

__all__ = ["BackendFailures", "Failure"]

log = structlog.get_logger(__name__)

_COUNTED = frozenset(
    {
        Reason.BACKEND_UNREACHABLE,
        Reason.BACKEND_DISCONNECTED,
        Reason.BACKEND_OVERLOADED,
        Reason.BACKEND_RATE_LIMITED,
        Reason.BACKEND_QUOTA_EXHAUSTED,
        Reason.BACKEND_ERROR,
        Reason.BACKEND_UNAUTHORIZED,
        Reason.BACKEND_MALFORMED,
        Reason.FIRST_TOKEN_TIMEOUT,
        Reason.IDLE_TIMEOUT,
        Reason.ATTEMPT_TIMEOUT,
    }
)
_WRONG_ADDRESS = frozenset({404, 405})
"""Of the refusals, which are about one prompt, these may well be about the backend's URL or its models."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of an attempt; `http_status` 0: there was no answer."""

    reason: Reason
    http_status: int
    at_ns: int


class BackendFailures:
    """Remembers one failure of each backend, whose number is configuration's, and logs without words of theirs.

    What a backend answered may quote a prompt: it is for the caller alone.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[str, Failure] = {}
        self._limiter = RepeatLimiter(lambda: clock() / 1e9, lines=1)

    def note(self, backend: str, error: BackendError) -> None:
        """An attempt has failed. By the prompt's fault, or by a deadline that it has set itself, is not noted."""
        if error.reason not in _COUNTED and error.http_status not in _WRONG_ADDRESS:
            return
        self._last[backend] = Failure(error.reason, error.http_status, self._clock())
        status = f" (HTTP {error.http_status})" if error.http_status else ""
        what = f"backend fails: {backend}: {error.reason}{status}"
        left_out = self._limiter.allow(__name__, what)
        if left_out is not None:
            more = {"left_out": left_out} if left_out else {}
            log.warning(what, backend=backend, reason=error.reason.value, http_status=error.http_status, **more)

    def last(self, backend: str) -> Failure | None:
        """The last failure of a backend; None: none so far."""
        return self._last.get(backend)
