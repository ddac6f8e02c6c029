"""Prompt streams over lost connections: every prompt exactly one result, sent again as credits allow."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from expresslane_client import Client, Outcome, Prompt, Resume, Resuming, UnavailableError

from tests.support.fake_backend import FakeBackend, Script
from tests.support.relay import Relay
from tests.support.service import Service, backend
from tests.support.stub_server import StubService, serve_stub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SOON = Resume(time_s=30.0, attempts=200, pause_s=0.01, pause_max_s=0.05)


@asynccontextmanager
async def scene(**settings: int) -> AsyncIterator[tuple[FakeBackend, Relay, Client]]:
    """A service before a backend, and a client behind a network that can be cut."""
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url, cap=20), **settings) as service,
        Relay(service.address) as relay,
        Client(relay.address) as client,
    ):
        yield fake, relay, client


async def test_a_source_that_feeds_itself() -> None:
    """3,000 prompts over a network that breaks every 500 results: one result each, under its own number."""
    async with scene(stream_credits=64) as (_, relay, client):
        told: list[Resuming] = []
        source = (Prompt(f"p{number}", f"text {number}") for number in range(3_000))
        async with client.stream_prompts(source, resume=SOON, on_resume=told.append, request_id="r") as session:
            results = []
            async for result in session:
                results.append(result)
                if len(results) % 500 == 0:
                    await relay.cut()
        assert Counter(one.index for one in results) == Counter(range(3_000))
        assert all(one.text == f"echo text {one.index}" and one.custom_id == f"p{one.index}" for one in results)
        assert (session.sent, session.accepted) == (3_000, 3_000)
        assert (session.summary.total_prompts, session.summary.succeeded) == (3_000, 3_000)
        assert session.summary.request_id == "r"
        assert told
        assert all(one.unfinished <= 64 for one in told)


async def test_sending_and_cancelling_while_it_is_lost() -> None:
    """What is sent or cancelled before the new session stands reaches it; done_sending() holds for it too."""
    gate = asyncio.Event()
    async with scene() as (fake, relay, client):
        fake.on(lambda _: Script(before_headers=gate))
        resumed = asyncio.Event()
        async with client.stream_prompts(resume=SOON, on_resume=lambda _: resumed.set()) as session:
            await session.send("a", "b", "c")
            await fake.wait_for_generations(3)
            relay.refusing = True
            await relay.cut()
            await resumed.wait()
            await session.cancel("1")

            async def send_the_last() -> None:
                await session.send("d")
                await session.done_sending()

            sending = asyncio.ensure_future(send_the_last())
            relay.refusing = False
            results = [await anext(session)]
            assert (results[0].custom_id, results[0].outcome) == ("1", Outcome.CANCELLED)
            gate.set()
            results += [one async for one in session]
            await sending
        assert {one.outcome for one in results[1:]} == {Outcome.SUCCEEDED}
        assert sorted(one.index for one in results) == [0, 1, 2, 3]


async def test_a_session_that_is_not_resumed() -> None:
    """Without resuming, and with FAIL_FAST after a failure, a lost connection is an error."""
    service = StubService(break_after=2, failing={"1"})
    for options in ({"resume": False}, {"resume": SOON, "fail_fast": True}):
        async with serve_stub(service) as address, Client(address) as client:
            with pytest.raises(UnavailableError):
                async with client.stream_prompts(["a", "b", "c", "d"], **options) as session:
                    _ = [one async for one in session]


async def test_a_service_that_stays_away() -> None:
    """The tries are bounded, and the error is told to whoever reads."""
    async with scene() as (fake, relay, client):
        fake.on(lambda _: Script(hold_open=True))
        bounds = Resume(attempts=3, pause_s=0.01)
        async with client.stream_prompts(["a", "b"], resume=bounds) as session:
            await fake.wait_for_generations(2)
            relay.refusing = True
            await relay.cut()
            with pytest.raises(UnavailableError):
                await anext(session)
