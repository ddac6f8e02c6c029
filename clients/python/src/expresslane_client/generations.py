"""One prompt being answered: its output piece by piece, then its result."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Self, TypeAlias

from expresslane_client.calls import StreamCall
from expresslane_client.errors import CallError
from expresslane_client.events import Delta
from expresslane_client.results import Result
from expresslane_client.resuming import CutOff, OnResume, Resume, Resumption

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from grpc import aio

    from expresslane_client.v1 import inference_pb2

__all__ = ["GenerateCall"]

_Ask: TypeAlias = Callable[
    [float | None], "aio.UnaryStreamCall[inference_pb2.GenerateRequest, inference_pb2.GenerateResponse]"
]


class GenerateCall:
    """One prompt being answered: `async for delta in call`, then `call.result`; or `await call.collect()`.

    Cancelling the task that waits for a delta cancels the call. After a lost connection it is asked for again, as long
    as no delta has come: a second answer need not begin like the first.
    """

    def __init__(
        self,
        ask: _Ask,
        *,
        timeout_s: float | None = None,
        resume: Resume | None = None,
        on_resume: OnResume | None = None,
    ) -> None:
        self._ask = ask
        self._end_s = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        self._call: StreamCall[inference_pb2.GenerateResponse] = StreamCall(ask(timeout_s))
        self._resumption = Resumption(resume, on_resume) if resume is not None else None
        self._cut_off = CutOff()
        self._begun = False
        self._deltas: deque[Delta] = deque()
        self._result: Result | None = None
        self._ended = False
        self._cancelled = False

    @property
    def result(self) -> Result:
        """How it ended. RuntimeError before the last delta was read, and after cancel()."""
        if self._result is None:
            raise RuntimeError("there is no result yet: it comes after the last delta, so read all deltas first")
        return self._result

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        while not self._deltas:
            if self._ended:
                raise StopAsyncIteration
            await self._read()
        return self._deltas.popleft()

    async def _read(self) -> None:
        try:
            response = await self._call.read()
        except CallError as error:
            self._ended = True
            if self._result is None:
                await self._resume(error)
            return
        except BaseException:
            self._ended = True
            raise
        if response is None:
            self._ended = True
            if self._cut_off:
                await self._resume(self._cut_off.error)
            return
        if self._resumption is not None and response.events and response.events[0].HasField("accepted"):
            self._resumption.ready = True
        self._deltas.extend(Delta.from_proto(delta) for delta in response.deltas)
        self._begun |= bool(response.deltas)
        if response.HasField("result"):
            result = Result.from_proto(response.result)
            if result.cut_off and self._resumption is not None and not self._begun:
                self._cut_off.hold(0, result)
            else:
                self._cut_off.drop(0)
                self._result = result

    async def _resume(self, error: CallError) -> None:
        """Ask again. Raises the error where that is not to be, unless a stopping service has given a result."""
        resumption = self._resumption
        try:
            if resumption is None or self._begun:
                raise error
            await resumption.pause(error, 1, 1, end_s=self._end_s)
        except CallError:
            if not self._cut_off:
                raise
            (self._result,) = self._cut_off.give_up()
            return
        if self._cancelled:
            return
        left_s = None if self._end_s is None else self._end_s - asyncio.get_running_loop().time()
        self._call = StreamCall(self._ask(left_s))
        self._ended = False

    async def collect(self) -> Result:
        """Wait for the end and return the result."""
        async for _ in self:
            pass
        return self.result

    async def cancel(self) -> None:
        """Stop generating."""
        self._cancelled = True
        if self._resumption is not None:
            self._resumption.stop()
        await self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.cancel()
