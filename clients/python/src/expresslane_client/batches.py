"""A running batch: its results one by one as they come, then its summary."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Self

from expresslane_client.channels import translated_errors
from expresslane_client.events import Delta, Event, event_from_proto
from expresslane_client.results import Result
from expresslane_client.summaries import Summary
from expresslane_client.v1 import inference_pb2, jobs_pb2

if TYPE_CHECKING:
    from types import TracebackType

    from grpc import aio

__all__ = ["BatchCall", "Inbox", "OnDelta", "OnEvent"]

OnEvent = Callable[[Event], object]
OnDelta = Callable[[Delta], object]

_Response = inference_pb2.GenerateBatchResponse | inference_pb2.StreamPromptsResponse | jobs_pb2.WatchJobResponse


class Inbox:
    """What a batch has sent and nobody has read yet."""

    def __init__(self, on_event: OnEvent | None, on_delta: OnDelta | None) -> None:
        self.results: deque[Result] = deque()
        self.summary: Summary | None = None
        self._on_event = on_event
        self._on_delta = on_delta

    def take(self, response: _Response) -> None:
        """Sort the parts of one message: deltas and events go to their callbacks at once, results wait to be read."""
        if self._on_delta is not None and not isinstance(response, jobs_pb2.WatchJobResponse):
            for delta in response.deltas:
                self._on_delta(Delta.from_proto(delta))
        if self._on_event is not None:
            for message in response.events:
                event = event_from_proto(message)
                if event is not None:
                    self._on_event(event)
        self.results.extend(Result.from_proto(result) for result in response.results)
        if response.HasField("summary"):
            self.summary = Summary.from_proto(response.summary)

    def require_summary(self) -> Summary:
        """The summary, or RuntimeError that says when there is one."""
        if self.summary is None:
            raise RuntimeError("there is no summary yet: it comes after the last result, so read all results first")
        return self.summary


class BatchCall:
    """A running batch: `async for result in call`, then `call.summary`.

    Leaving the loop early does not stop the batch: use `async with`, or `await call.cancel()`. Cancelling the task that
    waits for a result cancels the batch. Raises the CallErrors of errors.py when the batch is refused or the connection
    breaks; results that came before are delivered first.
    """

    def __init__(
        self,
        call: aio.UnaryStreamCall[inference_pb2.GenerateBatchRequest, inference_pb2.GenerateBatchResponse],
        on_event: OnEvent | None = None,
        on_delta: OnDelta | None = None,
    ) -> None:
        self._call = call
        self._inbox = Inbox(on_event, on_delta)
        self._ended = False
        self._cancelled = False

    @property
    def summary(self) -> Summary:
        """What became of the batch. RuntimeError before the last result was read, and after cancel()."""
        return self._inbox.require_summary()

    @property
    def cancelled(self) -> bool:
        """Whether cancel() ended the batch."""
        return self._cancelled

    def __aiter__(self) -> AsyncIterator[Result]:
        return self

    async def __anext__(self) -> Result:
        while not self._inbox.results:
            if self._ended:
                raise StopAsyncIteration
            await self._read()
        return self._inbox.results.popleft()

    async def _read(self) -> None:
        if self._cancelled:
            self._ended = True
            return
        try:
            with translated_errors():
                response = await self._call.read()
        except BaseException:
            self._ended = True
            # gRPC does so too, but not when the task is cancelled just as the request has been sent.
            self._call.cancel()
            if self._cancelled:
                return
            raise
        if isinstance(response, inference_pb2.GenerateBatchResponse):
            self._inbox.take(response)
        else:
            self._ended = True

    async def collect(self) -> list[Result]:
        """The results that are still to come, in the order they come."""
        return [result async for result in self]

    async def cancel(self) -> None:
        """Stop the batch: waiting prompts are dropped, running ones aborted. Results that came can still be read."""
        if not self._call.done():
            self._cancelled = True
            self._call.cancel()
            await self._call.code()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.cancel()
