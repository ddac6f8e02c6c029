"""One prompt being answered: its output piece by piece, then its result."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Self

from expresslane_client.calls import StreamCall
from expresslane_client.events import Delta
from expresslane_client.results import Result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from grpc import aio

    from expresslane_client.v1 import inference_pb2

__all__ = ["GenerateCall"]


class GenerateCall:
    """One prompt being answered: `async for delta in call`, then `call.result`; or `await call.collect()`.

    Cancelling the task that waits for a delta cancels the call.
    """

    def __init__(
        self, call: aio.UnaryStreamCall[inference_pb2.GenerateRequest, inference_pb2.GenerateResponse]
    ) -> None:
        self._call = StreamCall(call)
        self._deltas: deque[Delta] = deque()
        self._result: Result | None = None
        self._ended = False

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
        except BaseException:
            self._ended = True
            raise
        if response is None:
            self._ended = True
            return
        self._deltas.extend(Delta.from_proto(delta) for delta in response.deltas)
        if response.HasField("result"):
            self._result = Result.from_proto(response.result)

    async def collect(self) -> Result:
        """Wait for the end and return the result."""
        async for _ in self:
            pass
        return self.result

    async def cancel(self) -> None:
        """Stop generating."""
        await self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.cancel()
