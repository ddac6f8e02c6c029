"""Memory after a flood: what thousands of calls took goes back to the system, not only to the C library."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from expresslane_client import Client
from grpc.aio import insecure_channel

from tests.e2e.served import Served

if TYPE_CHECKING:
    from pathlib import Path

STREAMS = 3_000
ROUNDS = 2
MIB = 2**20
NOISE_BYTES = 8 * MIB


async def flood(served: Served) -> int:
    """Silent streams, all cancelled, and a caller that is served after them. Returns what was resident at most."""
    async with insecure_channel(served.address) as channel, Client(served.address, tenant="busy") as busy:
        open_stream: Any = channel.stream_stream("/expresslane.v1.Inference/StreamPrompts")
        calls = [open_stream() for _ in range(STREAMS)]
        snapshot = await busy.get_snapshot()
        (result,) = (await busy.collect_batch(["x"], timeout_s=20)).results
        assert result.ok
        assert snapshot.queued == 0
        most = served.resident_bytes()
        for call in calls:
            call.cancel()
        await asyncio.gather(*(call.code() for call in calls))
    return most


async def test_memory_goes_back_after_a_flood(tmp_path: Path) -> None:
    """Of what each flood took a good part goes back within seconds, and the next one leaves no more than the first."""
    left: list[int] = []
    async with Served(tmp_path) as served:
        before = served.resident_bytes()
        for _ in range(ROUNDS):
            given_back = asyncio.ensure_future(served.logged("memory given back"))
            most = await flood(served)
            line = await given_back
            left.append(served.resident_bytes())
            assert line["collected"]
            assert line["after_mib"] < line["before_mib"]
            assert most - before > 32 * MIB, "no flood"
            assert left[-1] - before < 0.6 * (most - before)
        assert max(left) - left[0] < NOISE_BYTES
