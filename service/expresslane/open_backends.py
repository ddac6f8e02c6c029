"""Whether any backend is open for prompts that find the queue full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expresslane.errors import Reason, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from expresslane._scheduler import BreakerSnapshot
    from expresslane.no_backend import Serving
    from expresslane.rate_limits import RateLimits

__all__ = ["OpenBackends"]


class OpenBackends:
    """What is known of backends, put together: who serves what, limits, and breakers.

    `tripped` gives the breakers that are not closed, by backend; it is called for each question that needs them.
    """

    def __init__(
        self, serving: Serving, limits: RateLimits, tripped: Callable[[], Mapping[int, BreakerSnapshot]]
    ) -> None:
        self._serving = serving
        self._limits = limits
        self._tripped = tripped

    def none_open(self, models: Mapping[int, str], now_ns: int) -> RefusedError | None:
        """The refusal of prompts that find no room where no backend of any of their models is open; None where one is.

        The queue is full because nothing leaves it then, and room would not help. `models`: number -> name.
        """
        standing = self._serving.why_none(models, self._tripped(), now_ns)
        if standing is None:
            return None
        opening = [at_ns for model in models if (at_ns := self._limits.opens_in_ns(model, now_ns)) is not None]
        message = f"no backend is available, and the queue is full, for the model {standing}"
        return RefusedError(Reason.NO_BACKEND, message, retry_after_ns=min(opening, default=None))
