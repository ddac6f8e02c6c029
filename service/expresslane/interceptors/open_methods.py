"""The door of what is open to everybody: health, and reflection where it is on. Nobody has to show a key for them.

So each method has places of its own, and none can keep another from being asked; one address has a tenth of them. Few
of its messages are read at once, each within the time for a call's first message, and refusals are told in the log.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from expresslane.arrivals import Arrivals
from expresslane.errors import Reason, RefusedError
from expresslane.interceptors.handlers import Made, behaviour_of
from expresslane.interceptors.open_calls import OpenCalls
from expresslane.interceptors.refusals import check_metadata, tell
from expresslane.servicers.status import abort

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
    Behaviour = Callable[[Any, Context], Awaitable[Any]]

__all__ = ["OpenMethods"]

_OURS = "/expresslane.v1."
CALLS_MAX = 1_000
"""Open calls of one method."""
CALLS_OF_ONE = 100
"""Of them, of one address. Behind a proxy all callers are one."""
READ_AT_ONCE = 4


class OpenMethods(grpc.aio.ServerInterceptor):
    """Bounds all methods that are not ours. `refused(method, code)` is told of each call that is not let in.

    `heard(peer)` is told of each call.
    """

    def __init__(
        self,
        first_message_timeout_s: float,
        *,
        refused: Callable[[str, grpc.StatusCode], None] = lambda _method, _code: None,
        heard: Callable[[str], None] | None = None,
    ) -> None:
        self._heard = heard
        self._refused = refused
        self._made = Made(self._bounded)
        self.open_calls: dict[str, OpenCalls] = {}
        """By method: as many as there are, because names that nobody serves do not get here."""
        self._first_message_timeout_s = first_message_timeout_s
        self._arrivals: dict[str, Arrivals] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Put the door before a handler, and make it one that is given no message before it asks for it."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_OURS):
            return handler
        return self._made.of(method, handler)

    def _bounded(self, method: str, handler: Handler) -> Handler:
        if method not in self.open_calls:
            self.open_calls[method] = OpenCalls(CALLS_MAX, lambda _: CALLS_OF_ONE, whose="this address")
            self._arrivals[method] = Arrivals(READ_AT_ONCE, self._first_message_timeout_s)
        open_calls, arrivals = self.open_calls[method], self._arrivals[method]
        run = behaviour_of(handler)

        async def bounded(_: object, context: Context) -> None:
            peer = context.peer()
            address = peer.rpartition(":")[0]
            if self._heard is not None:
                self._heard(peer)
            try:
                check_metadata(context)
                open_calls.enter(address)
                context.add_done_callback(lambda _: open_calls.leave(address))  # type: ignore[arg-type]
                await self._run(handler, run, context, partial(arrivals.read, context, address))
            except DecodeError:
                message = "the message is not of the type that the method takes: its bytes do not parse"
                await self._abort(method, context, RefusedError(Reason.MALFORMED_MESSAGE, message))
            except RefusedError as refusal:
                await self._abort(method, context, refusal)

        made: Handler = grpc.stream_stream_rpc_method_handler(
            bounded, handler.request_deserializer, handler.response_serializer
        )
        return made

    @staticmethod
    async def _run(handler: Handler, run: Behaviour, context: Context, read: Callable[[], Awaitable[Any]]) -> None:
        if handler.request_streaming:
            request: Any = _requests(read)
        else:
            request = await read()
            if request is grpc.aio.EOF:
                raise RefusedError(Reason.PROTOCOL_VIOLATION, "the call carries no request message")
        response = await run(request, context)
        if not handler.response_streaming:
            await context.write(response)

    async def _abort(self, method: str, context: Context, refusal: RefusedError) -> None:
        self._refused(method.removeprefix("/"), tell(method, context, refusal))
        await abort(context, refusal)


async def _requests(read: Callable[[], Awaitable[Any]]) -> AsyncIterator[Any]:
    while (request := await read()) is not grpc.aio.EOF:
        yield request
