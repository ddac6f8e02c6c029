"""A watch of a job: its results one by one, in the order in which they came, then its summary."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from expresslane_client.calls import StreamCall
from expresslane_client.errors import CallError
from expresslane_client.inbox import Inbox, OnEvent
from expresslane_client.resuming import OnResume, Resume, Resumption

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from grpc import aio

    from expresslane_client.results import Result
    from expresslane_client.summaries import Summary
    from expresslane_client.v1 import jobs_pb2

__all__ = ["JobWatch"]

_Ask = Callable[[int], "aio.UnaryStreamCall[jobs_pb2.WatchJobRequest, jobs_pb2.WatchJobResponse]"]


class JobWatch:
    """A watch: `async for result in watch`, then `watch.summary`. Leaving it, in whatever way, leaves the job alone.

    Raises the CallErrors of errors.py. After a lost connection it goes on behind the last result that it has handed
    out; where it does not, `client.watch_job(name, after=watch.position)` can.
    """

    def __init__(
        self,
        ask: _Ask,
        after: int,
        *,
        resume: Resume | None = None,
        on_event: OnEvent | None = None,
        on_resume: OnResume | None = None,
    ) -> None:
        self._ask = ask
        self._call: StreamCall[jobs_pb2.WatchJobResponse] = StreamCall(ask(after))
        self._inbox = Inbox(on_event, None)
        self._resumption = Resumption(resume, on_resume) if resume is not None else None
        self._total = 0
        self._ended = False
        self.position = after
        """How many of the job's results lie behind, those that `after` left out too."""

    @property
    def summary(self) -> Summary:
        """What became of the job. RuntimeError before the last result was read."""
        return self._inbox.require_summary()

    def __aiter__(self) -> AsyncIterator[Result]:
        return self

    async def __anext__(self) -> Result:
        while not self._inbox.results:
            if self._ended:
                raise StopAsyncIteration
            await self._read()
        self.position += 1
        return self._inbox.results.popleft()

    async def _read(self) -> None:
        try:
            response = await self._call.read()
            if response is not None:
                self._take(response)
                return
        except CallError as error:
            if self._resumption is not None:
                await self._resume(self._resumption, error)
                return
            self.cancel()
            raise
        except BaseException:
            self.cancel()
            raise
        self._ended = True

    def _take(self, response: jobs_pb2.WatchJobResponse) -> None:
        if self._resumption is not None:
            self._resumption.progress()
        for event in response.events:
            if event.HasField("progress"):
                now = event.progress
                self._total = now.queued + now.in_flight + now.finished
        self._inbox.take(response)

    async def _resume(self, resumption: Resumption, error: CallError) -> None:
        if self._inbox.summary is not None:  # everything is here but gRPC's own last word
            self._ended = True
            return
        try:
            await resumption.pause(error, self._total - self.position, self._total)
        except BaseException:
            self.cancel()
            raise
        if not self._ended:
            self._call = StreamCall(self._ask(self.position))

    def cancel(self) -> None:
        """Stop watching."""
        self._ended = True
        if self._resumption is not None:
            self._resumption.stop()
        self._call.abandon()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()
