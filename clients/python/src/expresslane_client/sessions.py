"""A prompt stream: prompts go in as credits allow, results come out as they finish, for work of any length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Self

from grpc import aio

from expresslane_client.channels import check_size, translated_errors
from expresslane_client.errors import CallError, ExpresslaneClientError, SessionEndedError
from expresslane_client.inbox import Inbox, OnDelta, OnEvent
from expresslane_client.outstanding import Outstanding
from expresslane_client.prompts import PromptLike, prompt_message
from expresslane_client.resuming import OnResume, Resume, Resumption
from expresslane_client.summaries import BatchState
from expresslane_client.tallies import Tally
from expresslane_client.v1 import inference_pb2, types_pb2

if TYPE_CHECKING:
    from types import TracebackType

    from expresslane_client.results import Result
    from expresslane_client.summaries import Summary

__all__ = ["PromptSession", "Prompts"]

Prompts = Iterable[PromptLike] | AsyncIterable[PromptLike]
_Ask = Callable[
    [float | None], "aio.StreamStreamCall[inference_pb2.StreamPromptsRequest, inference_pb2.StreamPromptsResponse]"
]

_UNREAD_MAX = 1_024
_GROUP = 64
_MESSAGE_BYTES = 1024 * 1024


class PromptSession:
    """A prompt stream, for use in `async with`: `send` prompts, `async for` results, `done_sending`, then `summary`.

    Given `prompts`, it can be iterated without `async with` too: it starts then, and ends with the iteration.

    `send` waits for credits. It never waits for the reader: results are taken in all the time, so sending everything
    before reading anything cannot deadlock. Then, though, results pile up here; given `prompts`, the session sends them
    by itself, only as fast as results are read, so that memory stays flat however many there are.
    Leaving the block before the last result was read cancels the rest. After a lost connection, where that is to be
    resumed, another session takes the place of the first: what has no result is sent again, as credits allow.
    """

    def __init__(
        self,
        ask: _Ask,
        config: inference_pb2.BatchConfig,
        *,
        prompts: Prompts | None,
        message_bytes_max: int,
        timeout_s: float | None = None,
        resume: Resume | None = None,
        on_event: OnEvent | None = None,
        on_delta: OnDelta | None = None,
        on_resume: OnResume | None = None,
    ) -> None:
        self._ask = ask
        self._end_s = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        self._call = ask(timeout_s)
        self._resumption = None if resume is None else Resumption(resume, on_resume)
        self._outstanding = Outstanding(hold=resume is not None)
        self._tally = Tally()
        self._resumed = False
        self._given_up = False
        self._told = False
        """Whether a stopping service has said so, and nothing has come since."""
        self._config = config
        self._prompts = prompts
        self._message_bytes_max = message_bytes_max
        in_order = resume is not None and config.delivery == inference_pb2.DELIVERY_IN_ORDER
        self._inbox = Inbox(on_event, on_delta, admit=self._admit, in_order=in_order)
        self._credits = 0
        self._accepted = 0
        self._failed = False
        self._closing = False
        self._told_end = False
        self._entered = False
        self._ended = False
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def summary(self) -> Summary:
        """What became of all prompts. RuntimeError before the last result was read.

        Of a session that was resumed it is counted here, from all its results.
        """
        if self._given_up and self._inbox.summary is None:
            return self._tally.summary(self._config.request_id, BatchState.CANCELLED)
        summary = self._inbox.require_summary()
        return self._tally.summary(self._config.request_id, summary.state) if self._resumed else summary

    @property
    def sent(self) -> int:
        """Prompts sent so far."""
        return self._outstanding.sent

    @property
    def accepted(self) -> int:
        """Prompts that the service has accepted so far: each gets a result."""
        return self._accepted

    async def send(self, *prompts: PromptLike) -> None:
        """Send prompts, waiting for credits. Raises SessionEndedError when the service takes no more."""
        self._require_entered()
        messages = [prompt_message(prompt, self.sent + ahead) for ahead, prompt in enumerate(prompts)]
        while messages:
            await self._until(lambda: self._closing or (self._credits > 0 and not self._outstanding.due))
            self._raise_if_over()
            if self._closing:
                raise SessionEndedError("no prompts can be sent after done_sending()")
            group = self._cut(messages)
            request = inference_pb2.StreamPromptsRequest(prompts=group)
            check_size(request, self._message_bytes_max)
            del messages[: len(group)]
            self._credits -= len(group)
            self._outstanding.add(group)
            await self._write(request)

    async def cancel(self, *custom_ids: str) -> None:
        """Cancel prompts by custom_id, after done_sending() too; unknown and finished ones are ignored.

        Needs no credit.
        """
        self._require_entered()
        if self._ended:
            return
        if self._resumption is not None:
            self._outstanding.cancel(custom_ids)
        request = inference_pb2.StreamPromptsRequest(cancel=custom_ids)
        check_size(request, self._message_bytes_max)
        with suppress(SessionEndedError):  # it has just ended, and with it every prompt
            await self._write(request)

    async def done_sending(self) -> None:
        """Say that no more prompts come; iteration ends after the last result. More calls do nothing."""
        self._require_entered()
        if self._closing or self._ended:
            return
        self._closing = True
        self._changed.set()
        with suppress(SessionEndedError):  # it has just ended by itself
            await self._end_input()

    def __aiter__(self) -> AsyncIterator[Result]:
        return self._by_itself() if self._prompts is not None and not self._entered else self

    async def _by_itself(self) -> AsyncIterator[Result]:
        """All results without `async with`. The event loop closes this, and the session, where a loop is left early."""
        async with self:
            async for result in self:
                yield result

    async def __anext__(self) -> Result:
        self._require_entered()
        await self._until(lambda: bool(self._inbox.results))
        if not self._inbox.results:
            if self._error is not None:
                raise self._error
            raise StopAsyncIteration
        self._changed.set()
        return self._inbox.results.popleft()

    async def __aenter__(self) -> Self:
        if self._entered:  # its prompts would be sent twice
            raise RuntimeError("the session has begun: open another one with client.stream_prompts(...)")
        self._entered = True
        request = inference_pb2.StreamPromptsRequest(config=self._config)
        check_size(request, self._message_bytes_max)
        await self._write(request)
        self._tasks.append(asyncio.create_task(self._receive()))
        if self._prompts is not None:
            self._tasks.append(asyncio.create_task(self._feed(self._prompts)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not (self._is_all_here or self._given_up):
            self._error = self._error or SessionEndedError("the session was left before its last result")
        self._ended = True
        self._call.cancel()
        if self._resumption is not None:
            self._resumption.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _receive(self) -> None:
        """Take in whatever comes, always: credits and results share the stream."""
        try:
            while not await self._receive_call():
                pass
        except Exception as error:  # noqa: BLE001  # a callback's error too belongs to whoever reads
            self._error = self._error or error
        finally:
            self._ended = True
            self._changed.set()

    async def _receive_call(self) -> bool:
        """Take in what one call brings; returns False when another has taken its place."""
        try:
            with translated_errors():
                while isinstance(response := await self._call.read(), inference_pb2.StreamPromptsResponse):
                    self._inbox.take(response)
                    self._credits += response.credits
                    self._accepted += len(response.accepted)
                    is_last = self._inbox.summary is not None
                    if self._resumption is not None:
                        self._resumption.ready = True
                        if not is_last:
                            await self._send_again()
                    self._changed.set()
                    if is_last:
                        await self._half_close()
        except CallError as error:
            if self._is_all_here:  # but gRPC's own last word
                return True
            if self._resumption is None or self._ended:
                raise
            return not await self._resume(self._resumption, error)
        if self._resumption is not None and self._cut_short and not self._ended:
            return not await self._resume(self._resumption, self._outstanding.cut_off.error)
        return True

    @property
    def _is_all_here(self) -> bool:
        """Whether the service has said its last word, and no other call takes this one's place."""
        return self._inbox.summary is not None and (self._resumption is None or not self._cut_short)

    @property
    def _cut_short(self) -> bool:
        """Whether a stopping service has ended the session although there is something left to do."""
        if self._outstanding.cut_off:
            return True
        stopped = self._inbox.summary is not None and self._inbox.summary.state is BatchState.CANCELLED
        more = self._prompts is not None and not self._closing
        return stopped and (more or len(self._outstanding) > 0)

    async def _resume(self, resumption: Resumption, error: CallError) -> bool:
        """Another call in the place of the one that ended. Returns False when there is none, and none is needed."""
        self._told |= self._cut_short
        self._credits = 0
        self._outstanding.lost()
        self._accepted = min(self._accepted, self.sent - len(self._outstanding))
        if self._failed:
            resumption.stop()
        try:
            await resumption.pause(error, len(self._outstanding), self.sent, end_s=self._end_s)
        except CallError:
            self._given_up = True
            for result in self._outstanding.give_up():
                self._outstanding.late_ms(result)
                self._tally.add(result)
                self._inbox.put(result)
            self._inbox.flush()
            if self._outstanding or not self._told:
                raise
            return False
        self._resumed = True
        self._inbox.summary = None
        left_s = None if self._end_s is None else self._end_s - asyncio.get_running_loop().time()
        async with self._writing:
            self._told_end = False
            self._call = self._ask(left_s)
            with suppress(aio.AioRpcError, asyncio.InvalidStateError):  # the next read says so too
                await self._call.write(inference_pb2.StreamPromptsRequest(config=self._config))
        return True

    async def _send_again(self) -> None:
        """Send what an earlier call has lost, as credits allow; then what was put off meanwhile."""
        while self._outstanding.due and self._credits > 0:
            group = self._cut(self._outstanding.next(_GROUP))
            self._outstanding.sent_again(len(group))
            self._credits -= len(group)
            await self._write(inference_pb2.StreamPromptsRequest(prompts=group))
            if cancel := self._outstanding.cancelled(group):
                await self._write(inference_pb2.StreamPromptsRequest(cancel=cancel))
        if self._closing:
            await self._end_input()

    async def _end_input(self) -> None:
        """Say it in a message: half-closing the call would end cancels too."""
        if self._told_end or self._outstanding.due:
            return
        self._told_end = True
        await self._write(inference_pb2.StreamPromptsRequest(no_more_prompts=True))

    def _admit(self, result: Result) -> Result | None:
        admitted = self._outstanding.admit(result)
        if admitted is not None and self._resumption is not None:
            self._resumption.progress()
            self._told = False
            self._tally.add(admitted, self._outstanding.late_ms(admitted))
            self._failed |= not admitted.ok and self._config.failure_policy == inference_pb2.FAILURE_POLICY_FAIL_FAST
        return admitted

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

    def _require_entered(self) -> None:
        if not self._entered:
            raise RuntimeError(
                "the session has not begun: use `async with client.stream_prompts(...) as session`, "
                "or give it the prompts and iterate over it"
            )

    def _raise_if_over(self) -> None:
        if self._error is not None:
            raise self._error
        if self._ended or self._is_all_here:
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
        call = self._call
        async with self._writing:
            if self._call is not call:  # lost meanwhile: what it was to carry is sent again
                return
            try:
                with translated_errors():
                    await call.write(request)
            except asyncio.InvalidStateError:
                self._raise_if_over()
                if self._resumption is None:
                    raise SessionEndedError("the session has ended: it takes no more prompts") from None
            except ExpresslaneClientError as error:  # the read tells it too, and knows whether the session goes on
                self._raise_if_over()
                if self._resumption is None:
                    self._error = error
                    raise

    async def _half_close(self) -> None:
        """After the service's last word, so that it need not wait for this side's.

        All is here: whatever becomes of the connection now is no error.
        """
        async with self._writing:
            with suppress(asyncio.InvalidStateError, aio.InternalError, ExpresslaneClientError), translated_errors():
                await self._call.done_writing()
