"""Reading from gRPC: what is given up is read to its end all the same, and however that is, nothing is said of it."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest
from expresslane.first_message import first_message

if TYPE_CHECKING:
    from collections.abc import Callable


class Context:
    """A call whose next message comes when it is told what it is."""

    def __init__(self) -> None:
        self.message: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()

    async def read(self) -> bytes:
        """As gRPC does."""
        try:
            return await self.message
        finally:
            self.ended.set()


async def test_a_message_and_an_error_reach_who_waits() -> None:
    """What comes is given on."""
    context = Context()
    context.message.set_result(b"x")
    assert await first_message(context) == b"x"
    context = Context()
    context.message.set_exception(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await first_message(context)


@pytest.mark.parametrize(
    "end",
    [lambda message: message.set_result(b"x"), lambda message: message.set_exception(ValueError("the call is over"))],
    ids=["a message", "an error"],
)
async def test_a_read_that_is_given_up_ends_by_itself(end: Callable[[asyncio.Future[bytes]], None]) -> None:
    """It is not cancelled, and asyncio has nothing to report of it."""
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: reported.append(about))
    context = Context()
    waiting = asyncio.ensure_future(first_message(context))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not context.message.cancelled()
    end(context.message)
    await context.ended.wait()
    await asyncio.sleep(0)
    del waiting
    gc.collect()
    assert reported == []
