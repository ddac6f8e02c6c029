"""The standard gRPC health check, read without its own package: the answer is one enum field."""

from __future__ import annotations

import asyncio

import grpc
from grpc import aio

from expresslane_client.errors import UnavailableError

__all__ = ["wait_until_serving"]

_CHECK = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}
_PAUSE_S = 0.1


async def wait_until_serving(channel: aio.Channel, target: str, timeout_s: float) -> None:
    """Ask until the service answers SERVING. Raises UnavailableError, saying what was seen last, after `timeout_s`."""
    check = channel.unary_unary(_CHECK, request_serializer=bytes, response_deserializer=bytes)
    seen = "no answer"
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    answer = await check(b"")
                except aio.AioRpcError as error:
                    seen = error.details() or error.code().name
                else:
                    if answer == _SERVING:
                        return
                    seen = "NOT_SERVING"
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError:
        text = f"no service is ready at {target} after {timeout_s:g} s (last seen: {seen})"
        raise UnavailableError(grpc.StatusCode.UNAVAILABLE, text) from None
