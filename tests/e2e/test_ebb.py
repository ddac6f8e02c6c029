"""Memory after a flood: what thousands of calls took goes back to the system, not only to the C library.

`FLOOD_STREAMS=9000 python -m pytest -s tests/e2e/test_ebb.py` prints the figures of a larger one.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from expresslane_client import Client
from grpc.aio import insecure_channel

from tests.e2e.served import Served

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
STREAMS = int(os.environ.get("FLOOD_STREAMS", "6000"))
ALL_STAY = {
    "EXPRESSLANE_FIRST_MESSAGE_TIMEOUT_S": "1h",
    "EXPRESSLANE_ARRIVING_LIMIT_BYTES": str(2 * STREAMS * 64 * MIB),  # all may be read at once: none gives way
}
ROUNDS = 3
LEFT = 0.5
NOISE = 0.05
"""Both of what a flood takes. What is left of one are arenas, about as many of however many streams: a third of what so
many take. Where garbage stays it is two thirds, and the next floods take a tenth more than the first."""


async def flood(served: Served) -> int:
    """Silent streams, and a caller that is served beside them. Returns what was resident then, and cancels them all."""
    async with insecure_channel(served.address) as channel, Client(served.address, tenant="busy") as busy:
        open_stream: Any = channel.stream_stream("/expresslane.v1.Inference/StreamPrompts")
        calls = [open_stream() for _ in range(STREAMS)]
        while (await busy.get_snapshot()).holdings.open_calls < STREAMS:
            pass
        (result,) = (await busy.collect_batch(["x"])).results
        assert result.ok
        most = served.resident_bytes()
        for call in calls:
            call.cancel()
        await asyncio.gather(*(call.code() for call in calls))
    return most


@pytest.mark.timeout(180)
async def test_memory_goes_back_after_a_flood(tmp_path: Path) -> None:
    """Of what each flood took the most goes back within seconds, and the next flood takes no more than the one before.

    What is left are the allocator's arenas that one living object keeps (tests/integration/test_floods.py counts the
    objects). It creeps up to a plateau, by how much depends on the machine; but the next flood fills it again. Were it
    objects, the next flood would come on top of them.
    """
    most: list[int] = []
    left: list[int] = []
    async with Served(tmp_path, **ALL_STAY) as served:
        before = served.resident_bytes()
        for _ in range(ROUNDS):
            given_back = asyncio.ensure_future(served.logged("memory given back"))
            most.append(await flood(served))
            line = await given_back
            left.append(served.resident_bytes())
            assert line["collected"]
            assert line["after_mib"] < line["before_mib"]
    taken = most[0] - before
    told = ", ".join(f"{up / MIB:.0f} then {down / MIB:.0f}" for up, down in zip(most, left, strict=True))
    sys.stdout.write(f"\nmemory: {before / MIB:.0f} MiB, with {STREAMS:,} streams and after: {told}\n")
    assert taken > 32 * MIB, "no flood"
    assert max(left) - before < LEFT * taken
    assert max(most) - most[0] < NOISE * taken
