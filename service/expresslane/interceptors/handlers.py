"""Handlers as an interceptor hands them on: made once for each method, though gRPC asks at every call."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
    Behaviour: TypeAlias = Callable[[Any, Context], Awaitable[Any]]

__all__ = ["Made", "behaviour_of", "with_behaviour"]


class Made:
    """What `make(method, handler)` returned, for as long as the method has the same handler.

    Made at every call, it would live as long as the call, in each open one.
    """

    def __init__(self, make: Callable[[str, Handler], Handler]) -> None:
        self._make = make
        self._of: dict[str, tuple[Handler, Handler]] = {}
        """By method: as many as are served, because for others there is no handler."""

    def of(self, method: str, handler: Handler) -> Handler:
        """The handler to hand on in the place of this one."""
        known = self._of.get(method)
        if known is None or known[0] is not handler:
            known = self._of[method] = handler, self._make(method, handler)
        return known[1]


def behaviour_of(handler: Handler) -> Behaviour:
    """What runs a call; an async generator as a coroutine that writes what it yields and always closes it."""
    behaviour = getattr(handler, _kind(handler))
    return _written_out(behaviour) if inspect.isasyncgenfunction(behaviour) else behaviour


def with_behaviour(handler: Handler, behaviour: Behaviour) -> Handler:
    """A handler of the same kind that runs its calls so."""
    make = getattr(grpc, f"{_kind(handler)}_rpc_method_handler")
    made: Handler = make(behaviour, handler.request_deserializer, handler.response_serializer)
    return made


def _kind(handler: Handler) -> str:
    sides = (handler.request_streaming, handler.response_streaming)
    return "_".join("stream" if streaming else "unary" for streaming in sides)


def _written_out(generator: Callable[[Any, Context], Any]) -> Behaviour:
    async def run(request: Any, context: Context) -> None:
        responses = generator(request, context)
        try:
            async for response in responses:
                await context.write(response)
        finally:
            await responses.aclose()

    return run
