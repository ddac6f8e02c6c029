"""A service whose queue is full: asking again when it says so, for as long as the run may take."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from expresslane_client import RefusedError

from expresslane.cli.console import report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Patience", "is_full"]

LONGEST_S = 600.0
"""How long a run without a time limit asks for room."""

_SHORTEST_S = 0.1
_WORTH_S = 1.0
"""With less time left than this it is no use asking again."""

_FULL = "QUEUE_FULL"


def is_full(error: Exception) -> bool:
    """Whether this refusal is about room that comes back."""
    return isinstance(error, RefusedError) and error.reason == _FULL and error.retry_after_s is not None


class Patience:
    """How long a run waits for room: `timeout_s` from now on, its own time limit, or ten minutes where it has none."""

    def __init__(
        self,
        timeout_s: float | None,
        *,
        quiet: bool = False,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._clock = clock or asyncio.get_running_loop().time
        self._sleep = sleep
        self._quiet = quiet
        self._limited = timeout_s is not None
        self._end_s = self._clock() + (LONGEST_S if timeout_s is None else timeout_s)

    @property
    def left_s(self) -> float | None:
        """What is left of the run's time limit; None: it has none."""
        return max(0.0, self._end_s - self._clock()) if self._limited else None

    async def wait(self, error: RefusedError) -> None:
        """Wait for as long as the service says; it is told once. Raises the error where that makes no sense."""
        if not is_full(error):
            raise error
        delay_s = max(_SHORTEST_S, error.retry_after_s or 0.0)
        if self._clock() + delay_s + _WORTH_S > self._end_s:
            raise error
        if not self._quiet:
            when = f"first in {delay_s:.0f} s, for {self._end_s - self._clock():.0f} s at most"
            report().print(f"the service's queue is full: asking again as it says, {when}", soft_wrap=True)
            self._quiet = True
        await self._sleep(delay_s)
