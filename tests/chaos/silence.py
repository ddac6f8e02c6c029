"""The longest that callers wait for any result: a service from which nothing comes any more shall not go unjudged."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Silence"]


class Silence:
    """`async with silence.bounded():` gives up what is in it once nothing was `heard` for `longest_s`."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._timeout: asyncio.Timeout | None = None
        self.broken_off = False

    def heard(self) -> None:
        """Something has come. Outside of the block this says nothing."""
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._longest_s)

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """The block is cancelled and left without an error, and `broken_off` set, when it was silent for too long."""
        try:
            async with asyncio.timeout(self._longest_s) as self._timeout:
                yield
        except TimeoutError:
            if self._timeout is None or not self._timeout.expired():
                raise  # not this one: the block's own
            self.broken_off = True
        finally:
            self._timeout = None
