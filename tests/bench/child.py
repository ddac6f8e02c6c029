"""A measured process that takes commands: one JSON line in, JSON lines out, the last of them with `done`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import orjson
import uvloop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["reply", "serve"]


def reply(**values: object) -> None:
    """Send one line to the parent."""
    sys.stdout.write(orjson.dumps(values).decode() + "\n")
    sys.stdout.flush()


def serve(start: Callable[[], Awaitable[Callable[..., Awaitable[dict[str, Any]]]]]) -> None:
    """Carry out commands until standard input ends. `start` gives, on the loop, what carries out one."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def begin() -> Callable[..., Awaitable[dict[str, Any]]]:
            return await start()

        carry_out = runner.run(begin())

        async def one(command: dict[str, Any]) -> dict[str, Any]:
            return await carry_out(**command)

        reply(ready=True, done=True)
        for line in sys.stdin:
            reply(**runner.run(one(orjson.loads(line))), done=True)
