"""An event loop whose clock jumps to the next timer when nothing else is left to do: tests of time that never wait."""

from __future__ import annotations

import asyncio
import functools
import heapq
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["VirtualLoop", "now_ns", "virtual_time"]

START_S = 1_000.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on virtual time, for tests without sockets. Fails when a test waits for something that never comes."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual_s = START_S

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual_s

    def _run_once(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:  # type: ignore[attr-defined]
            self._scheduled[0]._scheduled = False  # type: ignore[attr-defined]
            self._timer_cancelled_count = max(0, self._timer_cancelled_count - 1)  # type: ignore[has-type]
            heapq.heappop(self._scheduled)  # type: ignore[attr-defined]
        if not self._ready and not self._stopping:  # type: ignore[attr-defined]
            if not self._scheduled:  # type: ignore[attr-defined]
                raise AssertionError("the test waits for something that will never happen")
            self._virtual_s = max(self._virtual_s, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def now_ns() -> int:
    """The running virtual loop's time in nanoseconds: the clock to give to what is tested."""
    return round(asyncio.get_running_loop().time() * 1e9)


def virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on a VirtualLoop."""

    @functools.wraps(test)
    def run(*arguments: Any, **options: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*arguments, **options))  # type: ignore[arg-type]

    return run
