"""Memory of the service while many sessions send large messages at once, as the kernel sees it."""

from __future__ import annotations

import asyncio
import struct
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from expresslane_client import Client
from expresslane_client.v1 import inference_pb2 as pb
from expresslane_client.v1 import types_pb2

from tests.bench.processes import rss_bytes
from tests.chaos.world import Service
from tests.support.fake_backend.adapter import until
from tests.support.http2_sender import Sender

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

MIB = 1024 * 1024
MESSAGE_BYTES = 4 * MIB
PLACES = 8
SESSIONS = 40
QUEUE_BYTES = MIB
STREAM = "/expresslane.v1.Inference/StreamPrompts"
BESIDE_BYTES = 24 * MIB
"""What the service takes beside them: what it is built of when first used, the queue, a message that is decoded,
a window of each session, and what each holds back."""


def framed(message: Message) -> bytes:
    """As it goes over the wire."""
    data = message.SerializeToString()
    return struct.pack(">BI", 0, len(data)) + data


def sent(*, whole: bool) -> bytes:
    """The configuration, and a message of nearly MESSAGE_BYTES: of prompts, or without its last byte."""
    begin = framed(pb.StreamPromptsRequest(config=pb.BatchConfig()))
    text = "x" * (MIB // 8)
    prompts = [types_pb2.Prompt(custom_id=f"p{number}", text=text) for number in range(31)]
    message = framed(pb.StreamPromptsRequest(prompts=prompts))
    return begin + (message if whole else message[:-1])


async def grown(folder: Path, data: bytes, *, places: int) -> int:
    """By how many bytes the service grows when SESSIONS sessions send this, and what has a place has come."""
    settings = {
        "LOG_LEVEL": "error",
        "DRAIN_GRACE_S": "0.01",
        "MAX_MESSAGE_BYTES": str(MESSAGE_BYTES),
        "SESSIONS_LIMIT_BYTES": str(places * MESSAGE_BYTES),
        "QUEUE_LIMIT_BYTES": str(QUEUE_BYTES),
        "BACKENDS__SIMULATED__KIND": "simulated",
        "BACKENDS__SIMULATED__SIMULATED__STEP_S": "60",
    }
    own = folder / str(places)
    own.mkdir()
    with Service(own, settings) as service:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(Client(service.address))
            await client.get_snapshot()
            before = rss_bytes(service.pid)
            senders = [await stack.enter_async_context(Sender(service.address)) for _ in range(SESSIONS)]
            streams = [sender.open(STREAM, data) for sender in senders]
            calls = list(zip(senders, streams, strict=True))
            await until(lambda: sum(one.sent[stream] == len(data) for one, stream in calls) >= places)
            await client.get_snapshot()  # what has come has been looked at
            return rss_bytes(service.pid) - before


@pytest.mark.parametrize("whole", [False, True], ids=["without the last byte", "whole"])
def test_memory_is_bounded(tmp_path: Path, whole: bool) -> None:
    """What sessions send stays within their bound, and would not without it (A28)."""
    data = sent(whole=whole)
    size = asyncio.run(grown(tmp_path, data, places=PLACES))
    unbounded = asyncio.run(grown(tmp_path, data, places=SESSIONS))
    sys.stdout.write(f"\nmemory: {size / MIB:+.0f} MiB, with places for all of them {unbounded / MIB:+.0f} MiB\n")
    assert size < PLACES * MESSAGE_BYTES + BESIDE_BYTES
    assert unbounded > 2 * (PLACES * MESSAGE_BYTES + BESIDE_BYTES)
