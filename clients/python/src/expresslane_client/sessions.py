"""A prompt stream: prompts go in as credits allow, results come out as they finish, for work of any length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Self

from expresslane_client.channels import check_size, translated_errors
from expresslane_client.errors import ExpresslaneClientError, SessionEndedError
from expresslane_client.inbox import Inbox, OnDelta, OnEvent
from expresslane_client.prompts import PromptLike, prompt_message
from expresslane_client.v1 import inference_pb2, types_pb2

if TYPE_CHECKING:
    from types import TracebackType

    from grpc import aio

    from expresslane_client.results import Result
    from expresslane_client.summaries import Summary

__all__ = ["PromptSession", "Prompts"]

Prompts = Iterable[PromptLike] | AsyncIterable[PromptLike]

_UNREAD_MAX = 1_024
_GROUP = 64
_MESSAGE_BYTES = 1024 * 1024


class PromptSession:
    """A prompt stream, for use in `async with`: `send` prompts, `async for` results, `done_sending`, then `summary`.

    `send` waits for credits. It never waits for the reader: results are taken in all the time, so sending everything
    before reading anything cannot deadlock. Then, though, results pile up here; given `prompts`, the session sends them
    by itself, only as fast as results are read, so that memory stays flat however many there are.
    Leaving the block before the last result was read cancels the rest.
    """

    def __init__(
        self,
        call: aio.StreamStreamCall[inference_pb2.StreamPromptsRequest, inference_pb2.StreamPromptsResponse],
        config: inference_pb2.BatchConfig,
        *,
        prompts: Prompts | None,
        message_bytes_max: int,
        on_event: OnEvent | None,
        on_delta: OnDelta | None,
    ) -> None:
        self._call = call
        self._config = config
        self._prompts = prompts
        self._message_bytes_max = message_bytes_max
        self._inbox = Inbox(on_event, on_delta)
        self._credits = 0
        self._sent = 0
        self._accepted = 0
        self._closing = False
        self._ended = False
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def summary(self) -> Summary:
        """What became of all prompts. RuntimeError before the last result was read."""
        return self._inbox.require_summary()

    @property
    def sent(self) -> int:
        """Prompts sent so far."""
        return self._sent

    @property
    def accepted(self) -> int:
        """Prompts that the service has accepted so far: each gets a result."""
        return self._accepted

    async def send(self, *prompts: PromptLike) -> None:
        """Send prompts, waiting for credits. Raises SessionEndedError when the service takes no more."""
        messages = [prompt_message(prompt, self._sent + ahead) for ahead, prompt in enumerate(prompts)]
        while messages:
            await self._until(lambda: self._credits > 0)
            self._raise_if_over()
            group = self._cut(messages)
            del messages[: len(group)]
            self._credits -= len(group)
            self._sent += len(group)
            await self._write(inference_pb2.StreamPromptsRequest(prompts=group))

    async def cancel(self, *custom_ids: str) -> None:
        """Cancel prompts by custom_id; unknown and finished ones are ignored. Needs no credit."""
        if not self._ended:
            await self._write(inference_pb2.StreamPromptsRequest(cancel=custom_ids))

    async def done_sending(self) -> None:
        """Say that no more prompts come; iteration ends after the last result. More calls do nothing."""
        if self._closing or self._ended:
            return
        self._closing = True
        async with self._writing:
            with translated_errors(), suppress(asyncio.InvalidStateError):
                await self._call.done_writing()

    def __aiter__(self) -> AsyncIterator[Result]:
        return self

    async def __anext__(self) -> Result:
        await self._until(lambda: bool(self._inbox.results))
        if not self._inbox.results:
            if self._error is not None:
                raise self._error
            raise StopAsyncIteration
        self._changed.set()
        return self._inbox.results.popleft()

    async def __aenter__(self) -> Self:
        await self._write(inference_pb2.StreamPromptsRequest(config=self._config))
        self._tasks.append(asyncio.create_task(self._receive()))
        if self._prompts is not None:
            self._tasks.append(asyncio.create_task(self._feed(self._prompts)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = True
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _receive(self) -> None:
        """Take in whatever comes, always: credits and results share the stream."""
        try:
            with translated_errors():
                while isinstance(response := await self._call.read(), inference_pb2.StreamPromptsResponse):
                    self._inbox.take(response)
                    self._credits += response.credits
                    self._accepted += len(response.accepted)
                    self._changed.set()
        except Exception as error:  # noqa: BLE001  # a callback's error too belongs to whoever reads
            self._error = self._error or error
        finally:
            self._ended = True
            self._changed.set()

    async def _feed(self, prompts: Prompts) -> None:
        """Send all prompts, as fast as results are read."""
        try:
            if isinstance(prompts, AsyncIterable):
                async for prompt in prompts:
                    await self._send_when_read(prompt)
            else:
                source = iter(prompts)
                while group := list(islice(source, _GROUP)):
                    await self._send_when_read(*group)
            await self.done_sending()
        except SessionEndedError:
            return
        except Exception as error:  # noqa: BLE001  # whoever reads has to learn why the prompts stopped
            self._error = self._error or error
            self._call.cancel()

    async def _send_when_read(self, *prompts: PromptLike) -> None:
        await self._until(lambda: len(self._inbox.results) < _UNREAD_MAX)
        await self.send(*prompts)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for the condition or for the session's end."""
        while not condition() and not self._ended:
            self._changed.clear()
            await self._changed.wait()

    def _raise_if_over(self) -> None:
        if self._error is not None:
            raise self._error
        if self._ended:
            raise SessionEndedError("the service has ended the session: it takes no more prompts")

    def _cut(self, messages: list[types_pb2.Prompt]) -> list[types_pb2.Prompt]:
        """As many prompts as there are credits and as make up a message of handy size; at least one."""
        size, count = 0, 0
        for message in messages[: self._credits]:
            size += message.ByteSize()
            if count and size > _MESSAGE_BYTES:
                break
            count += 1
        return messages[:count]

    async def _write(self, request: inference_pb2.StreamPromptsRequest) -> None:
        check_size(request, self._message_bytes_max)
        async with self._writing:
            try:
                with translated_errors():
                    await self._call.write(request)
            except asyncio.InvalidStateError:
                self._raise_if_over()
                raise SessionEndedError("the session is closed: prompts cannot be sent after done_sending()") from None
            except ExpresslaneClientError as error:
                self._error = self._error or error
                raise
