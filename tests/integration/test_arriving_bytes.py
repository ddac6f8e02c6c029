"""Bytes of messages that are on their way: how many of them the service lets come, counted where they leave."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from expresslane_client import Client, RefusedError
from expresslane_client.v1 import inference_pb2 as pb

from tests.support.fake_backend.adapter import until
from tests.support.http2_sender import Sender
from tests.support.service import Service, simulated_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB = 1024 * 1024
UNREAD = 65_535
PLACES = 4
CALLS = 12
PART = struct.pack(">BI", 0, MIB) + b"\x0a" * (MIB - 1)
"""A message without its last byte."""


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """Four messages of a MiB may arrive at once, and two sessions be open."""
    settings = {"max_message_bytes": MIB, "arriving_limit_bytes": PLACES * MIB, "max_open_sessions": 2}
    async with simulated_service(**settings) as service:
        yield service


async def arrived(sender: Sender, streams: list[int]) -> None:
    """Return once all that they have to send has left."""
    while any(sender.sent[stream] < len(PART) for stream in streams):
        await sender.moved()


@pytest.mark.parametrize("method", ["Inference/GenerateBatch", "Inference/CollectBatch", "Jobs/CreateJob"])
async def test_bytes_stay_with_their_sender(service: Service, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Of twelve calls that lack their last byte four are read; of each other only its first window leaves (A28)."""
    monkeypatch.setattr("expresslane.arrivals.TURN_S", 60.0)
    async with Sender(service.address) as sender:
        streams = [sender.open(f"/expresslane.v1.{method}", PART) for _ in range(CALLS)]
        await arrived(sender, streams[:PLACES])
        await until(lambda: service.app.arrivals.waiting == CALLS - PLACES)
        while min(sender.sent.values()) < UNREAD:
            await sender.moved()
        assert [sender.sent[stream] for stream in streams[PLACES:]] == [UNREAD] * (CALLS - PLACES)
        assert not sender.ended
    await until(lambda: (service.app.arrivals.taken, service.app.arrivals.waiting) == (0, 0))


async def test_another_tenant_has_its_turn(service: Service) -> None:
    """Messages that do not become complete take all places: another tenant is served all the same (A28)."""
    async with Sender(service.address) as sender, Client(service.address, tenant="other") as client:
        streams = [sender.open("/expresslane.v1.Inference/GenerateBatch", PART) for _ in range(CALLS)]
        await arrived(sender, streams[:PLACES])
        assert (await client.collect_batch(["x"])).results[0].ok
        assert not sender.ended >= set(streams[: PLACES // 2]), "half of the places are for slow messages"


async def test_a_message_makes_room_when_it_has_come(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next four are read once the first ones are complete, which are refused for what they are."""
    monkeypatch.setattr("expresslane.arrivals.TURN_S", 60.0)
    async with Sender(service.address) as sender:
        streams = [sender.open("/expresslane.v1.Inference/GenerateBatch", PART) for _ in range(2 * PLACES)]
        await arrived(sender, streams[:PLACES])
        for stream in streams[:PLACES]:
            sender.send(stream, b"\x0a")
        await arrived(sender, streams[PLACES:])
        while not sender.ended >= set(streams[:PLACES]):
            await sender.moved()


async def test_sessions_that_are_read_all_the_time(service: Service) -> None:
    """They are bounded in number, each by one message; one more is told the setting. Calls are read all the same."""
    config = pb.StreamPromptsRequest(config=pb.BatchConfig()).SerializeToString()
    begin = struct.pack(">BI", 0, len(config)) + config
    async with Sender(service.address) as sender:
        streams = [sender.open("/expresslane.v1.Inference/StreamPrompts", begin) for _ in range(2)]
        await until(lambda: service.app.sessions.total == 2)
        with pytest.raises(RefusedError, match="EXPRESSLANE_MAX_OPEN_SESSIONS") as raised:
            async with service.client.stream_prompts(["x"]) as session:
                [one async for one in session]
        assert raised.value.reason == "TOO_MANY_CALLS"
        for stream in streams:
            sender.send(stream, PART)
        await arrived(sender, streams)
        assert service.app.arrivals.taken == 0
        assert (await service.client.collect_batch(["x"])).results[0].ok
    await until(lambda: service.app.sessions.total == 0)
    async with service.client.stream_prompts(["x"]) as session:
        assert [one.ok async for one in session] == [True]


async def test_what_is_sent_after_the_request(service: Service) -> None:
    """Of bytes behind the one message of a call only a window leaves: they are never read."""
    prompt = pb.GenerateBatchRequest(config=pb.BatchConfig()).SerializeToString()
    async with Sender(service.address) as sender:
        async with service.client.stream_prompts() as session:  # beside another one that works
            stream = sender.open("/expresslane.v1.Jobs/WatchJob", struct.pack(">BI", 0, len(prompt)) + prompt + PART)
            await until(lambda: stream in sender.ended)
            await session.done_sending()
        assert sender.sent[stream] <= 2 * UNREAD
