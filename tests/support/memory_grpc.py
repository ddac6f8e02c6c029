"""gRPC within one task loop: a server and a channel that pass encoded messages to each other without a connection.

For tests on virtual time: gRPC itself has threads and timers that no loop knows of. The server runs the same handlers
behind the same interceptors as `grpc.aio.server`, the channel serves the generated stubs. Left out: flow control,
retries.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import grpc
from grpc import aio

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

__all__ = ["MemoryChannel", "MemoryServer"]

Metadata = tuple[tuple[str, str | bytes], ...]


class _Details(NamedTuple):
    method: str
    invocation_metadata: Metadata


class _Status(NamedTuple):
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    trailing_metadata: Metadata = ()


class MemoryServer:
    """What the service uses of `grpc.aio.Server`."""

    def __init__(self, *, interceptors: Sequence[aio.ServerInterceptor], options: object = None) -> None:
        del options
        self._generic: list[Any] = []
        self._find: Any = self._handler
        for interceptor in reversed(interceptors):
            intercept: Any = interceptor.intercept_service
            self._find = partial(intercept, self._find)
        self._running: set[asyncio.Task[None]] = set()

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Serve these too."""
        self._generic += handlers

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """The same handlers once more, for gRPC's faster way to find them."""

    def add_insecure_port(self, address: str) -> int:
        """Nothing listens; the port is made up."""
        del address
        return 1

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self, grace_s: float) -> None:
        """Cut the open calls."""
        del grace_s
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running))

    async def _handler(self, details: _Details) -> Any:
        found = (generic.service(details) for generic in self._generic)
        return next((handler for handler in found if handler is not None), None)

    def open(self, method: str, metadata: Metadata, timeout_s: float | None) -> _Exchange:
        """Start a call, which is a task of its own."""
        exchange = _Exchange(timeout_s)
        exchange.task = asyncio.get_running_loop().create_task(self._serve(_Details(method, metadata), exchange))
        self._running.add(exchange.task)
        exchange.task.add_done_callback(self._running.discard)
        return exchange

    async def _serve(self, details: _Details, exchange: _Exchange) -> None:
        status = _Status(grpc.StatusCode.CANCELLED)
        context = _Context(details, exchange)
        try:
            handler = await self._find(details)
            if handler is None:
                context.status = _Status(grpc.StatusCode.UNIMPLEMENTED)
            else:
                context.handler = handler
                await handler.stream_stream(None, context)
            status = context.status
        except aio.AbortError:
            status = context.status
        finally:
            exchange.end(status)
            for callback in context.callbacks:
                callback(context)


class _Exchange:
    """The bytes of one call, both ways."""

    def __init__(self, timeout_s: float | None) -> None:
        self.timer: asyncio.TimerHandle | None = None
        """Of the call's deadline, where it has one."""
        if timeout_s is not None:
            self.timer = asyncio.get_running_loop().call_later(timeout_s, self.cut, grpc.StatusCode.DEADLINE_EXCEEDED)
        self.requests: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.responses: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.initial_metadata: asyncio.Future[Metadata] = asyncio.get_running_loop().create_future()
        self.status: asyncio.Future[_Status] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None]

    def begin(self, initial_metadata: Metadata = ()) -> None:
        """The service answers: with these, or with its first response or its end."""
        if not self.initial_metadata.done():
            self.initial_metadata.set_result(initial_metadata)

    def cut(self, code: grpc.StatusCode) -> None:
        """End the call for its caller, and cancel its handler."""
        self.task.cancel()
        self.end(_Status(code))

    def end(self, status: _Status) -> None:
        """The call's one end; what was written before can still be read."""
        if self.timer is not None:
            self.timer.cancel()
        self.begin()
        if not self.status.done():
            self.status.set_result(status)
        self.requests.put_nowait(None)
        self.responses.put_nowait(None)


class _Context:
    """What the service uses of `grpc.aio.ServicerContext`."""

    def __init__(self, details: _Details, exchange: _Exchange) -> None:
        self._details = details
        self._exchange = exchange
        self.handler: Any = None
        self.status = _Status()
        self.callbacks: list[Callable[[_Context], object]] = []

    async def read(self) -> Any:
        """The next request, or EOF."""
        data = await self._exchange.requests.get()
        if data is None:
            self._exchange.requests.put_nowait(None)
            return aio.EOF
        return self.handler.request_deserializer(data)

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Send metadata before any response."""
        self._exchange.begin(metadata)

    async def write(self, message: Any) -> None:
        """Send a response."""
        self._exchange.begin()
        self._exchange.responses.put_nowait(self.handler.response_serializer(message))

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call with this status."""
        self.status = _Status(status.code, status.details, tuple(status.trailing_metadata or ()))
        raise aio.AbortError

    def invocation_metadata(self) -> Metadata:
        """The caller's metadata."""
        return self._details.invocation_metadata

    def auth_context(self) -> dict[str, list[bytes]]:
        """No certificate was shown."""
        return {}

    def time_remaining(self) -> float | None:
        """Until the call's deadline, in seconds; None: it has none."""
        timer = self._exchange.timer
        return None if timer is None else max(0.0, timer.when() - asyncio.get_running_loop().time())

    def add_done_callback(self, callback: Callable[[_Context], object]) -> None:
        """Call it when the call is over."""
        self.callbacks.append(callback)

    def code(self) -> grpc.StatusCode:
        """The status that was set."""
        return self.status.code

    def peer(self) -> str:
        """Who calls."""
        return "memory:"


class MemoryChannel:
    """What the client uses of `grpc.aio.Channel`."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._calls: list[_Call] = []

    def unary_unary(self, method: str, request_serializer: Any, response_deserializer: Any, **_: object) -> Any:
        """One request, one response."""
        return partial(self._call, method, request_serializer, response_deserializer)

    unary_stream = unary_unary
    stream_stream = unary_unary

    def _call(
        self,
        method: str,
        serializer: Any,
        deserializer: Any,
        request: Any = None,
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> _Call:
        call = _Call(self._server.open(method, tuple(metadata), timeout), serializer, deserializer)
        if request is not None:
            call.send(request)
            call.send(None)
        self._calls.append(call)
        return call

    async def close(self) -> None:
        """Cancel what runs."""
        for call in self._calls:
            call.cancel()


class _Call:
    """A call as its caller sees it, whatever its kind."""

    def __init__(self, exchange: _Exchange, serializer: Any, deserializer: Any) -> None:
        self._exchange = exchange
        self._serialize = serializer
        self._deserialize = deserializer
        self._cancelled = False

    def send(self, request: Any) -> None:
        """Send a request; None: there are no more."""
        self._exchange.requests.put_nowait(None if request is None else self._serialize(request))

    async def write(self, request: Any) -> None:
        """Send a request."""
        self.send(request)

    async def done_writing(self) -> None:
        """There are no more requests."""
        self.send(None)

    async def read(self) -> Any:
        """The next response, or EOF. Raises AioRpcError for another status than OK."""
        data = None if self._cancelled else await self._exchange.responses.get()
        if data is not None:
            return self._deserialize(data)
        self._exchange.responses.put_nowait(None)
        if self._cancelled:
            raise asyncio.CancelledError
        status = await self._exchange.status
        if status.code is not grpc.StatusCode.OK:
            trailing = aio.Metadata.from_tuple(status.trailing_metadata)
            raise aio.AioRpcError(status.code, aio.Metadata(), trailing, details=status.details)
        return aio.EOF

    def __await__(self) -> Generator[Any, None, Any]:
        return self.read().__await__()

    def cancel(self) -> bool:
        """End the call from the caller's side."""
        if self.done():
            return False
        self._cancelled = True
        self._exchange.cut(grpc.StatusCode.CANCELLED)
        return True

    def done(self) -> bool:
        """Whether it has ended."""
        return self._exchange.status.done()

    async def initial_metadata(self) -> Metadata:
        """What the service sent before its first response."""
        return await self._exchange.initial_metadata

    async def code(self) -> grpc.StatusCode:
        """How it ended, once it has."""
        return (await self._exchange.status).code

    async def details(self) -> str:
        """What was said of its end, once it has ended."""
        return (await self._exchange.status).details

    async def trailing_metadata(self) -> Metadata:
        """What came with its end, once it has ended."""
        return (await self._exchange.status).trailing_metadata
