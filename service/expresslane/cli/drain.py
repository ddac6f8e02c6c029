"""`expresslane drain`: the running service takes no more work, and finishes what it has accepted."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from expresslane.cli.console import Exit, joined, json_text, output
from expresslane.cli.service_calls import connected

if TYPE_CHECKING:
    from expresslane_client import Drained

    from expresslane.cli.connection import Connection

__all__ = ["drain"]


def drain(service: Connection, *, as_json: bool) -> Exit:
    """Drain the service and show what it has left to do; once more changes nothing."""
    left = asyncio.run(_drain(service))
    if as_json:
        print(json_text(dataclasses.asdict(left)))  # noqa: T201
    else:
        counts = ((left.queued, "waiting"), (left.in_flight, "in flight"))
        prompts = joined(f"{count:,} {where}" for count, where in counts if count)
        output().print(f"takes no more work; left to do: {prompts or 'nothing'}")
    return Exit.OK


async def _drain(service: Connection) -> Drained:
    async with connected(service, admin=True) as client:
        return await client.drain()
