"""What the interceptors share about handlers that stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]

__all__ = ["written_out"]


def written_out(generator: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Awaitable[Any]]:
    """An async-generator handler as a coroutine that writes what it yields and always closes it."""

    async def run(request: Any, context: Context) -> None:
        responses = generator(request, context)
        try:
            async for response in responses:
                await context.write(response)
        finally:
            await responses.aclose()

    return run
