"""Why prompts that the core ended while they waited did not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expresslane.errors import PromptError, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from expresslane._scheduler import BreakerSnapshot
    from expresslane.batches.ticket import Ticket
    from expresslane.errors import AttemptError
    from expresslane.no_backend import Serving
    from expresslane.rate_limits import RateLimits

__all__ = ["Expiry"]

_EXPIRED = {
    "queue": (Reason.QUEUE_TIMEOUT, "queue", "model request timeout"),
    "rate_limited": (
        Reason.BACKEND_RATE_LIMITED,
        "queue",
        "model request timeout: the backends of the model only answer that there are too many requests",
    ),
    "batch": (Reason.CALLER_DEADLINE, "caller", "the call's deadline was near and the prompt had not started"),
    "no_backend": (Reason.NO_BACKEND, "no_backend", "no backend that serves the model was available in time"),
}


class Expiry:
    """The errors of prompts that end at one time.

    `tripped`: the breakers that are not closed, by backend; needed for what ends without a backend.
    """

    def __init__(
        self, limits: RateLimits, serving: Serving, tripped: Mapping[int, BreakerSnapshot], now_ns: int
    ) -> None:
        self._limits = limits
        self._serving = serving
        self._tripped = tripped
        self._now_ns = now_ns
        # When a model has no backend, all that waits for it ends at once, and most of it for the same reason.
        self._shared: dict[tuple[str, int, str], PromptError] = {}

    def error(self, ticket: Ticket, why: str) -> PromptError:
        """The error of one prompt, `why` as `Decisions.expired` says it.

        A queue timeout is a rate limit's while every backend of the model only refuses for its own.
        """
        if why == "queue" and self._limits.refused_everywhere(ticket.model_number, self._now_ns):
            why = "rate_limited"
        key = why, ticket.model_number, ticket.prompt.model
        error = None if ticket.history else self._shared.get(key)
        if error is None:
            error = self._explained(ticket, why)
            if not ticket.history:
                self._shared[key] = error
        return error

    def _explained(self, ticket: Ticket, why: str) -> PromptError:
        now_ns = self._now_ns
        backends = ""
        if why == "no_backend":
            standing = self._serving.why_not(ticket, self._tripped, now_ns)
            backends = f"within {self._serving.patience(ticket)} for the model {standing}"
        last = ticket.history[-1] if ticket.history else None
        return _expired(why, last, self._limits.opens_in_ns(ticket.model_number, now_ns), backends)


def _expired(why: str, last: AttemptError | None, opens_in_ns: int | None, backends: str) -> PromptError:
    """The error of a prompt that ended while it waited, after its `last` attempt.

    `opens_in_ns`: until a limit or breaker lets go of one of the model's backends, if that is known; told where it is
    what the prompt waited for (O16). `backends`: of a prompt without any, how long it waited, what its model is and how
    those stand that serve it.
    """
    reason, deadline, message = _EXPIRED[why]
    if backends:
        message = f"no backend was available {backends}"
    if last is not None:
        message += f" (its last attempt, at backends/{last.backend}, ended in {last.reason})"
    retry_after_ns = opens_in_ns if why in ("rate_limited", "no_backend") else None
    return PromptError(reason, message, retryable=True, deadline=deadline, retry_after_ns=retry_after_ns)
