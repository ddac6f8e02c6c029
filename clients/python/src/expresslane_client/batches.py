"""A running batch: its results one by one as they come, then its summary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Self, TypeAlias

from expresslane_client.calls import Readable, StreamCall
from expresslane_client.errors import CallError, RefusedError
from expresslane_client.inbox import Inbox, OnDelta, OnEvent
from expresslane_client.resuming import OnResume, Resume, Resumption
from expresslane_client.summaries import BatchState
from expresslane_client.tallies import Tally
from expresslane_client.v1 import inference_pb2

if TYPE_CHECKING:
    from types import TracebackType

    from expresslane_client.results import Result
    from expresslane_client.summaries import Summary
    from expresslane_client.unfinished import Unfinished

__all__ = ["BatchCall"]

_Request: TypeAlias = inference_pb2.GenerateBatchRequest
_Response: TypeAlias = inference_pb2.GenerateBatchResponse
_Ask = Callable[[_Request, float | None], Readable]
_KEPT = "REQUEST_EXISTS"


class BatchCall:
    """A running batch: `async for result in call`, then `call.summary`.

    Leaving the loop early does not stop the batch: use `async with`, or `await call.cancel()`. Cancelling the task that
    waits for a result cancels the batch. Raises the CallErrors of errors.py when the batch is refused, and when the
    connection breaks and the batch is not resumed; results that came before are delivered first.
    """

    def __init__(
        self,
        ask: _Ask,
        request: _Request,
        unfinished: Unfinished,
        *,
        timeout_s: float | None = None,
        resume: Resume | None = None,
        on_event: OnEvent | None = None,
        on_delta: OnDelta | None = None,
        on_resume: OnResume | None = None,
    ) -> None:
        self._ask = ask
        self._end_s = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        self._call: StreamCall[_Response] = StreamCall(ask(request, timeout_s))
        self._unfinished = unfinished
        self._resumption = Resumption(resume, on_resume) if resume is not None and unfinished.whole else None
        self._tally = Tally()
        self._resumed = False
        self._state = BatchState.COMPLETED
        self._asked_for_rest = False
        self._asked_ms = self._late_ms = 0.0
        """When the rest was asked for last, and when what is running was; from the first call on."""
        self._inbox = Inbox(on_event, on_delta)
        if self._resumption is not None:
            in_order = request.config.delivery == inference_pb2.DELIVERY_IN_ORDER
            self._inbox = Inbox(on_event, on_delta, admit=self._admit, wants=unfinished.wants, in_order=in_order)
        self._ended = False
        self._cancelled = False
        self._error: CallError | None = None

    @property
    def summary(self) -> Summary:
        """What became of the batch. RuntimeError before the last result was read, and after cancel().

        Of a batch that was resumed it is counted here, from all its results.
        """
        if not self._resumed:
            return self._inbox.require_summary()
        if not self._ended or self._unfinished:
            raise RuntimeError("there is no summary: it comes after the last result")
        last = self._inbox.summary
        return self._tally.summary(self._unfinished.request_id, last.state if last else self._state)

    @property
    def cancelled(self) -> bool:
        """Whether cancel() ended the batch."""
        return self._cancelled

    def __aiter__(self) -> AsyncIterator[Result]:
        return self

    async def __anext__(self) -> Result:
        while not self._inbox.results:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended:
                raise StopAsyncIteration
            await self._read()
        return self._inbox.results.popleft()

    async def _read(self) -> None:
        try:
            response = await self._call.read()
        except CallError as error:
            if self._resumption is None:
                self._ended = True
                raise
            await self._resume(self._resumption, error)
            return
        except BaseException:
            self._ended = True
            raise
        if response is None:
            self._ended = True
            if self._resumption is not None and self._unfinished.cut_off:
                await self._resume(self._resumption, self._unfinished.cut_off.error)
            return
        if self._resumption is not None and response.events and response.events[0].HasField("accepted"):
            self._resumption.ready = True
            self._unfinished.accepted()
            if self._asked_for_rest:
                self._late_ms = self._asked_ms
        self._inbox.take(response)

    async def _resume(self, resumption: Resumption, error: CallError) -> None:
        """Ask for what has no result yet."""
        unfinished = self._unfinished
        self._ended = True
        if self._inbox.summary is not None and not unfinished.cut_off:  # all is here but gRPC's own last word
            return
        if resumption.ready and not unfinished:  # only the summary was lost
            self._resumed = True
            return
        kept = isinstance(error, RefusedError) and error.reason == _KEPT and self._asked_for_rest
        if not kept:
            if unfinished.given_up:
                resumption.stop()
            try:
                await resumption.pause(error, len(unfinished), unfinished.total, end_s=self._end_s)
            except CallError as last:
                self._give_up(last)
                return
            if self._cancelled:
                self._deliver_cut_off()
                return
        self._resumed = True
        self._inbox.summary = None
        self._asked_for_rest = not kept
        self._asked_ms = self._tally.elapsed_ms
        left_s = None if self._end_s is None else self._end_s - asyncio.get_running_loop().time()
        self._call = StreamCall(self._ask(unfinished.again() if kept else unfinished.rest(), left_s))
        self._ended = False

    def _give_up(self, error: CallError) -> None:
        """What a stopping service has said is final now; prompts of which nothing is known make it an error."""
        self._deliver_cut_off()
        self._state = BatchState.CANCELLED
        self._resumed |= self._inbox.summary is None
        if self._unfinished:
            self._error = error

    def _deliver_cut_off(self) -> None:
        for result in self._unfinished.give_up():
            self._tally.add(result)
            self._inbox.put(result)
        self._inbox.flush()

    def _admit(self, result: Result) -> Result | None:
        admitted = self._unfinished.admit(result)
        if admitted is not None:
            self._tally.add(admitted, self._late_ms)
            if self._resumption is not None:
                self._resumption.progress()
        return admitted

    async def collect(self) -> list[Result]:
        """The results that are still to come, in the order they come."""
        return [result async for result in self]

    async def cancel(self) -> None:
        """Stop the batch: waiting prompts are dropped, running ones aborted. Results that came can still be read.

        A batch that the service keeps goes on without this call.
        """
        if self._resumption is not None:
            self._cancelled = self._resumption.pausing
            self._resumption.stop()
        await self._call.cancel()
        self._cancelled |= self._call.cancelled

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.cancel()
