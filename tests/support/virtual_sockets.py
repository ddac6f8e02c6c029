"""An event loop on virtual time that may have sockets, if they are Unix sockets between its own tasks.

What is written to such a socket can be read at once, and there is no other thread: when nothing can be run or read,
everything that was to happen now has happened, and the clock jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from tests.support.virtual_time import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["VirtualSocketLoop", "virtual_sockets"]

LIMIT_S = 6 * 3_600.0


class VirtualSocketLoop(VirtualLoop):
    """`jumps`: the virtual seconds at which a timer woke the loop when it had nothing to do."""

    def __init__(self) -> None:
        super().__init__()
        self.jumps: list[float] = []

    def run_in_executor(self, _: object, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run it here and now: no thread may know of work that the clock does not."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whoever waits for the future gets it
            future.set_exception(error)
        return future

    def _run_once(self) -> None:
        if not self._ready and not self._stopping:  # type: ignore[attr-defined]
            self._process_events(self._selector.select(0))  # type: ignore[attr-defined]
        before_s = self.time()
        super()._run_once()
        if self.time() > before_s:
            self.jumps.append(self.time())


def virtual_sockets(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on a VirtualSocketLoop. It fails when it is not over after six virtual hours."""

    @functools.wraps(test)
    def run(*arguments: Any, **options: Any) -> None:
        async def limited() -> None:
            async with asyncio.timeout(LIMIT_S):
                await test(*arguments, **options)

        with asyncio.Runner(loop_factory=VirtualSocketLoop) as runner:
            runner.run(limited())

    return run
