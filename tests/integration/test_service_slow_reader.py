"""Callers that do not read: they stall themselves, nobody else, and lose nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from expresslane_client import Client, Outcome
from expresslane_client.v1 import inference_pb2, types_pb2

from tests.support.fake_backend import FakeBackend, Script
from tests.support.service import Service, backend

COUNT = 150
ANSWER = "y" * 200_000


async def held(service: Service) -> int:
    """Wait until nothing runs although prompts wait; returns how many have been run."""
    while True:
        now = await service.client.get_snapshot()
        if not now.in_flight and now.queued:
            return now.submitted - now.queued


async def test_a_caller_that_does_not_read() -> None:
    """Results that nobody reads hold their batch, other callers go on, and reading brings every one of them (A16)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=4), outbox_limit_results=8) as service:
        fake.on(lambda request: Script(text=ANSWER, pieces=1) if b"large" in request.body else None)
        request = inference_pb2.GenerateBatchRequest(
            prompts=[types_pb2.Prompt(custom_id=str(number), text="large") for number in range(COUNT)]
        )
        async with Client(service.address) as slow:
            call: Any = slow.inference.GenerateBatch(request)
            await call.read()
            assert await held(service) < COUNT
            others = [one async for one in service.client.generate_batch([f"small {n}" for n in range(100)])]
            assert {one.outcome for one in others} == {Outcome.SUCCEEDED}
            assert await held(service) - 100 < COUNT
            seen: list[int] = []
            while not (message := await call.read()).HasField("summary"):
                seen += [result.index for result in message.results]
            assert sorted(seen) == list(range(COUNT))
            assert message.summary.succeeded == COUNT


async def test_a_caller_that_does_not_read_and_goes_away() -> None:
    """A held batch whose caller goes away is cancelled like any other, and its connection takes nothing with it."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=4), outbox_limit_results=8) as service:
        fake.on(lambda _: Script(text=ANSWER, pieces=1))
        request = inference_pb2.GenerateBatchRequest(
            prompts=[types_pb2.Prompt(custom_id=str(number), text="large") for number in range(COUNT)]
        )
        async with Client(service.address) as slow:
            call: Any = slow.inference.GenerateBatch(request)
            await call.read()
            run = await held(service)
        await asyncio.wait_for(service.app.scheduling.idle(), 10)
        now = await service.client.get_snapshot()
        assert (now.cancelled, now.succeeded) == (COUNT - run, run)
