"""The first message of a call, read so that gRPC gives back what it needed for that, also when nobody waits for it."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["first_message"]


async def first_message(context: Any) -> Any:
    """The first message of a call, or EOF.

    grpc.aio frees the operations of a read when it tells whoever waits that they are done. Where that was cancelled,
    as it is when a caller goes away, some 600 bytes would stay for good (github.com/grpc/grpc/issues/43360), scattered
    over pages that the C library could not give back. So this read is a task of its own, which ends with its call.
    Where a connection breaks they stay all the same. Not for what a session reads after its first message: the further
    turn of the loop that a task takes for each would let its prompts come more slowly than they are answered.
    """
    reading = asyncio.ensure_future(context.read())
    reading.add_done_callback(_seen)
    return await asyncio.shield(reading)


def _seen(reading: asyncio.Future[Any]) -> None:
    """How a read ends that nobody waits for any more concerns nobody: it is no defect to be logged."""
    if not reading.cancelled():
        reading.exception()
