"""Floods of streams that say nothing: each leaves what it found, to the last block of memory."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from expresslane import arrivals
from expresslane.memory import Collections, give_back
from grpc.aio import insecure_channel

from tests.support.fake_backend.adapter import until
from tests.support.http2_sender import Sender
from tests.support.service import simulated_service

if TYPE_CHECKING:
    from tests.support.service import Service

STREAMS = 2000
"""Many times what may stay of one: free lists keep up to 250 objects each, the loop up to 100 cancelled timers."""
TURNS = 10
"""More than the callbacks of tasks that are done take."""
WARM = 1
FLOODS = 8
BLOCKS_MORE = 0.25
"""For each stream of a flood. One takes about a hundred blocks; any that stays is a whole one."""
BYTES_MORE = 100
"""Of the C library, for each of these streams. A read that gRPC never gives back is 600."""
NO_HURRY_S = 3600.0
"""None is refused before all have come, however slow this is."""


async def settled(tasks: int) -> None:
    """Wait until no more tasks run than before the flood: a read ends a little later than its call."""
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    for _ in range(TURNS):
        await asyncio.sleep(0)


def grows(levels: list[int], by: float) -> bool:
    """Whether each flood left more than the one before by so much for each stream.

    What is left of the rest of the process goes up and down meanwhile, by more than that now and then, but not up each
    time.
    """
    levels = levels[WARM:]
    return all(later - earlier > STREAMS * by for earlier, later in pairwise(levels))


async def flood(service: Service) -> int:
    """Open and cut silent streams, then return how many blocks Python's allocator has given out."""
    door, room, tasks = service.app.door.open_calls, service.app.arrivals, len(asyncio.all_tasks())
    async with insecure_channel(service.address) as channel:
        open_stream: Any = channel.stream_stream("/expresslane.v1.Inference/StreamPrompts")
        calls = [open_stream() for _ in range(STREAMS)]
        await until(lambda: door.total == STREAMS and room.taken + room.waiting == STREAMS)
        for call in calls:
            call.cancel()
        await asyncio.gather(*(call.code() for call in calls))
        del calls, call
    await until(lambda: (door.total, room.taken, room.waiting, service.app.held) == (0, 0, 0, 0))
    await settled(tasks)
    give_back(Collections())
    gc.collect()
    return sys.getallocatedblocks()


@pytest.fixture(autouse=True)
def endless_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gives way while others wait."""
    monkeypatch.setattr(arrivals, "TURN_LEAST_S", NO_HURRY_S)
    monkeypatch.setattr(arrivals, "TURN_S", NO_HURRY_S)


@pytest.mark.timeout(180)
async def test_a_flood_leaves_what_it_found() -> None:
    """A10, T12: after the first floods, blocks of memory stay level over as many streams as would show one each."""
    limits = {"arriving_limit_bytes": 2**20, "max_message_bytes": 2**16}
    async with simulated_service(**limits, first_message_timeout_s=NO_HURRY_S) as service:
        blocks = [await flood(service) for _ in range(FLOODS)]
    assert not grows(blocks, BLOCKS_MORE), blocks


class Mallinfo(ctypes.Structure):
    """`struct mallinfo2` of the C library."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "top",
        )
    )


def in_use_bytes() -> int:
    """Of what the C library has given out, which Python's allocator does not count."""
    mallinfo2: Any = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Mallinfo
    found = mallinfo2()
    return int(found.uordblks + found.hblkhd)


async def cancelled(service: Service) -> int:
    """Streams that are all read, say nothing and are cancelled. Returns what the C library has in use afterwards.

    Their caller is no gRPC library, which would keep something of its own.
    """
    door, room, tasks = service.app.door.open_calls, service.app.arrivals, len(asyncio.all_tasks())
    async with Sender(service.address) as sender:
        streams = [sender.open("/expresslane.v1.Inference/StreamPrompts", b"") for _ in range(STREAMS)]
        await until(lambda: door.total == room.taken == STREAMS)
        for stream in streams:
            sender.cancel(stream)
        await until(lambda: (door.total, room.taken, service.app.held) == (0, 0, 0))
    await settled(tasks)
    gc.collect()
    return in_use_bytes()


@pytest.mark.timeout(180)
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="asks glibc 2.33 or newer")
async def test_reads_that_nobody_waits_for_leave_nothing() -> None:
    """A10: gRPC gets back what it needs for a read, also when the call is cancelled before anything has come."""
    limits = {"arriving_limit_bytes": STREAMS * 2**16, "max_message_bytes": 2**16}
    async with simulated_service(**limits, first_message_timeout_s=NO_HURRY_S) as service:
        used = [await cancelled(service) for _ in range(FLOODS)]
    assert not grows(used, BYTES_MORE), used
