"""A StreamPrompts session that is read only as its caller asks for it: the client library would read on by itself."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc.aio
from expresslane_client.results import Result
from expresslane_client.v1 import inference_pb2 as pb
from expresslane_client.v1 import types_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from expresslane_client import Client, Prompt

    from tests.chaos.slow_reader import SlowReader

__all__ = ["CANCEL_EVERY", "SlowSession"]

CANCEL_EVERY = 10
"""Of the prompts that have no result when its reader has stopped, one in so many is cancelled."""


class SlowSession:
    """One session of a tenant. Iterating over it reads; `send` sends what it has credits for, and cancels."""

    def __init__(self, client: Client, tenant: str) -> None:
        self._call: Any = client.inference.StreamPrompts(metadata=(("x-expresslane-tenant", tenant),))
        self._credits = 0
        self._changed = asyncio.Event()
        self._over = False

    async def __aiter__(self) -> AsyncIterator[Result]:
        """Results as they come. Raises AioRpcError."""
        try:
            await self._call.write(pb.StreamPromptsRequest(config=pb.BatchConfig()))
            async for message in self._call:  # not `read`: what came before an error would be dropped
                self._credits += message.credits
                self._changed.set()
                for result in message.results:
                    yield Result.from_proto(result)
        finally:
            self._over = True
            self._changed.set()

    async def send(self, prompts: Sequence[Prompt], reader: SlowReader, record: dict[str, Any]) -> None:
        """Send all; once `reader` has stopped and found the session held, or not, cancel some, and say it is all.

        What is cancelled is logged before it is asked for: the answer may come at once.
        """
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # who reads is told too
            left = [types_pb2.Prompt(custom_id=one.custom_id, text=one.text, model=one.model) for one in prompts]
            while left and not self._over:
                if count := min(self._credits, len(left)):
                    self._credits -= count
                    await self._call.write(pb.StreamPromptsRequest(prompts=left[:count]))
                    del left[:count]
                else:
                    self._changed.clear()
                    await self._changed.wait()
            await reader.stopped.wait()
            ended = {custom_id for custom_id, *_ in record["results"]}
            record["cancelled"] = [one for one in record["sent"] if one not in ended][::CANCEL_EVERY]
            await self._call.write(pb.StreamPromptsRequest(cancel=record["cancelled"]))
            await self._call.done_writing()
