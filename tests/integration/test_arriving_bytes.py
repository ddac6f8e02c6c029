"""Bytes of messages that are on their way: how many of them the service lets come, counted where they leave."""

from __future__ import annotations

import asyncio
import struct
import sys
from typing import TYPE_CHECKING, Any

import pytest
from expresslane.servicers import session as sessions
from expresslane_client import Client, RefusedError
from expresslane_client.v1 import inference_pb2 as pb

from tests.integration.test_service_sessions import CONFIG, Raw, prompts
from tests.support.fake_backend import Script
from tests.support.fake_backend.adapter import until
from tests.support.http2_sender import Sender
from tests.support.service import Service, backend, simulated_service
from tests.support.virtual_prompts import now_s, timed
from tests.support.virtual_service import VirtualBackend, VirtualService
from tests.support.virtual_sockets import virtual_sockets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB = 1024 * 1024
UNREAD = 65_535
PLACES = 4
CALLS = 12
SESSION_PLACES = 2
SESSIONS = 8
PART = struct.pack(">BI", 0, MIB) + b"\x0a" * (MIB - 1)
"""A message without its last byte."""


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """Four messages of a MiB may arrive at once; of eight sessions two are read."""
    settings = {
        "max_message_bytes": MIB,
        "arriving_limit_bytes": PLACES * MIB,
        "sessions_limit_bytes": SESSION_PLACES * MIB,
        "max_open_sessions": SESSIONS,
    }
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


@pytest.mark.parametrize("method", ["Inference/GenerateBatch", "Inference/StreamPrompts"])
async def test_a_message_above_the_bound(service: Service, method: str) -> None:
    """It is refused when its size is known: a window of it leaves, not what it says that it is (A28)."""
    async with Sender(service.address) as sender:
        first = begin() if method.endswith("StreamPrompts") else b""
        stream = sender.open(f"/expresslane.v1.{method}", first + struct.pack(">BI", 0, 2**32 - 1) + PART + PART)
        while stream not in sender.ended:
            await sender.moved()
        assert sender.sent[stream] <= 2 * UNREAD


def begin() -> bytes:
    """The first message of a session."""
    config = pb.StreamPromptsRequest(config=pb.BatchConfig()).SerializeToString()
    return struct.pack(">BI", 0, len(config)) + config


async def test_sessions_that_are_read(service: Service) -> None:
    """As many as their bound has room for, each for a message; of the others a window leaves. Calls are read (A28)."""
    async with Sender(service.address) as sender:
        streams = [sender.open("/expresslane.v1.Inference/StreamPrompts", begin() + PART) for _ in range(SESSIONS)]
        await arrived(sender, streams[:SESSION_PLACES])
        await until(lambda: service.app.session_places.waiting == SESSIONS - SESSION_PLACES)
        assert (await service.client.collect_batch(["x"])).results[0].ok
        assert service.app.arrivals.taken == 0
        assert all(sender.sent[stream] <= 2 * UNREAD for stream in streams[SESSION_PLACES:])
        with pytest.raises(RefusedError, match="EXPRESSLANE_MAX_OPEN_SESSIONS") as raised:
            async with service.client.stream_prompts(["x"]) as session:
                [one async for one in session]
        assert raised.value.reason == "TOO_MANY_CALLS"
        for stream in streams[:SESSION_PLACES]:
            sender.send(stream, b"\x0a")  # what is complete is no message: the session ends, and the next is read
        await arrived(sender, streams[SESSION_PLACES : 2 * SESSION_PLACES])
        assert sender.ended == set(streams[:SESSION_PLACES])
    await until(lambda: (service.app.sessions.total, service.app.session_places.taken) == (0, 0))
    async with service.client.stream_prompts(["x"]) as session:
        assert [one.ok async for one in session] == [True]


ONE_SESSION = {"max_message_bytes": MIB, "sessions_limit_bytes": MIB, "first_message_timeout_s": 0.3}


@virtual_sockets
async def test_a_session_that_waits_for_a_busy_one() -> None:
    """Whoever has work keeps its place, and is read: its cancel comes. The other is told to come back (A28)."""
    async with VirtualBackend() as fake, VirtualService(fake=backend(fake.url), **ONE_SESSION) as service:
        gate = asyncio.Event()
        fake.on(lambda _: Script(before_headers=gate))
        busy, other = Raw(service), Raw(service)
        await busy.send(CONFIG, prompts("a", "b"))
        await fake.wait_for_generations(2)
        await other.send(CONFIG)
        assert await other.refusal() == ("RESOURCE_EXHAUSTED", "ARRIVING_FULL")
        told = await other.call.details()
        for setting in ("SESSIONS_LIMIT_BYTES", "MAX_MESSAGE_BYTES", "TENANT_DEFAULTS__MAX_OPEN_SESSIONS"):
            assert f"EXPRESSLANE_{setting}" in told
        await busy.send(pb.StreamPromptsRequest(cancel=["b"]))
        seen = await busy.until(lambda seen: seen.results)
        assert [(one.custom_id, one.error.reason) for one in seen.results] == [("b", "CANCELLED")]
        gate.set()
        assert (await busy.end()).summary.succeeded == 1


@virtual_sockets
async def test_an_idle_session_gives_way_to_one_that_waits() -> None:
    """It was owed nothing: it ends with the reason and a time to come back, and the other goes on."""
    async with VirtualBackend() as fake, VirtualService(fake=backend(fake.url), **ONE_SESSION) as service:
        idle, other = Raw(service), Raw(service)
        await idle.send(CONFIG, prompts("a"))
        await idle.until(lambda seen: seen.results)
        await asyncio.sleep(0.01)  # it is idle, and not only about to be
        await other.send(CONFIG, prompts("b"))
        assert await idle.refusal() == ("RESOURCE_EXHAUSTED", "ARRIVING_FULL")
        assert (await other.end()).summary.succeeded == 1


@virtual_sockets
async def test_a_session_that_waited_has_its_place() -> None:
    """It could say nothing while it waited: when it gets its place it has not been idle, though others wait for theirs.

    It gives way after half of the time that they may wait, as any other.
    """
    settings = ONE_SESSION | {"first_message_timeout_s": 6.0}
    async with VirtualBackend() as fake, VirtualService(fake=backend(fake.url), **settings) as service:
        fake.on(lambda _: timed(4.0))
        busy, second, third = Raw(service), Raw(service), Raw(service)
        await busy.send(CONFIG, prompts("a"))
        await second.send(CONFIG)
        await asyncio.sleep(2.0)
        await third.send(CONFIG)
        assert (await busy.end()).summary.succeeded == 1
        await second.until(lambda seen: seen.credits)
        begun_s = now_s()
        assert await second.refusal() == ("RESOURCE_EXHAUSTED", "ARRIVING_FULL")
        assert now_s() - begun_s == pytest.approx(3.0, abs=0.1)
        await third.until(lambda seen: seen.credits)
        await third.end()


@virtual_sockets
async def test_a_client_whose_idle_session_gave_way() -> None:
    """It does not see it: when it has something to send again, the client library's session goes on (A28)."""
    async with (
        VirtualBackend() as fake,
        VirtualService(fake=backend(fake.url), **ONE_SESSION) as service,
        service.client.stream_prompts() as idle,
    ):
        results = aiter(idle)
        await idle.send("a")
        assert (await anext(results)).ok
        await asyncio.sleep(0.01)  # it is idle, and not only about to be
        async with service.client.stream_prompts(["b"]) as other:
            assert [one.ok async for one in other] == [True]
        await idle.send("c")
        await idle.done_sending()
        assert [one.ok async for one in results] == [True]


async def test_an_idle_session_keeps_no_message(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it sent last has become prompts: nothing refers to the message while the next one is waited for."""
    messages: list[object] = []
    handle = sessions.Session._handle

    def noted(self: sessions.Session, message: Any) -> None:
        messages.append(message)
        handle(self, message)

    monkeypatch.setattr(sessions.Session, "_handle", noted)
    session = Raw(service)
    await session.send(CONFIG, prompts("a"))
    await session.until(lambda seen: seen.results)
    await until(lambda: sys.getrefcount(messages[0]) == 2)
    session.call.cancel()


async def test_what_is_sent_after_the_request(service: Service) -> None:
    """Of bytes behind the one message of a call only a window leaves: they are never read."""
    prompt = pb.GenerateBatchRequest(config=pb.BatchConfig()).SerializeToString()
    async with Sender(service.address) as sender:
        async with service.client.stream_prompts() as session:  # beside another one that works
            stream = sender.open("/expresslane.v1.Jobs/WatchJob", struct.pack(">BI", 0, len(prompt)) + prompt + PART)
            await until(lambda: stream in sender.ended)
            await session.done_sending()
        assert sender.sent[stream] <= 2 * UNREAD
