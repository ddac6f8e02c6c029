"""A watch of a job: its results one by one, in the order in which they came, then its summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from expresslane_client.batches import Inbox, OnEvent
from expresslane_client.channels import translated_errors
from expresslane_client.v1 import jobs_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from grpc import aio

    from expresslane_client.results import Result
    from expresslane_client.summaries import Summary

__all__ = ["JobWatch"]


class JobWatch:
    """A watch: `async for result in watch`, then `watch.summary`. Leaving it, in whatever way, leaves the job alone.

    Raises the CallErrors of errors.py. When the connection breaks, `client.watch_job(name, after=watch.position)` goes
    on behind the last result that this one has handed out.
    """

    def __init__(
        self,
        call: aio.UnaryStreamCall[jobs_pb2.WatchJobRequest, jobs_pb2.WatchJobResponse],
        after: int,
        on_event: OnEvent | None = None,
    ) -> None:
        self._call = call
        self._inbox = Inbox(on_event, None)
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
            with translated_errors():
                response = await self._call.read()
        except BaseException:
            self.cancel()
            raise
        if isinstance(response, jobs_pb2.WatchJobResponse):
            self._inbox.take(response)
        else:
            self._ended = True

    def cancel(self) -> None:
        """Stop watching."""
        self._ended = True
        self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()
