"""Calls that end early: by their caller, by their deadline, or because no backend is there."""

from __future__ import annotations

import asyncio

import pytest
from expresslane_client import BatchState, DeadlineExceededError, Outcome, Prompt

from tests.support.fake_backend import FakeBackend, Script
from tests.support.service import Service, backend
from tests.support.virtual_service import VirtualBackend, VirtualService
from tests.support.virtual_sockets import virtual_sockets


async def settled(service: Service) -> None:
    """Wait until the service holds no ticket and no call."""
    await service.app.scheduling.idle()
    while (await service.client.get_snapshot()).open_batches:
        pass


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_cancelled_call(streaming: bool) -> None:
    """Cancelling the call removes what waits and closes the backend's connections of what runs."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=3)) as service:
        endless = Script(wire=[b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'], endless=True)
        fake.on(lambda _: endless if streaming else Script(before_headers=asyncio.Event()))
        call = service.client.generate_batch([str(number) for number in range(50)])
        reading = asyncio.ensure_future(anext(call))
        running = await fake.wait_for_generations(3)
        reading.cancel()
        for request in running:
            await request.cancelled.wait()
        await settled(service)
        snapshot = await service.client.get_snapshot()
        assert (snapshot.cancelled, snapshot.queued, snapshot.in_flight) == (50, 0, 0)
        assert len(fake.generations) == 3
        fake.on(lambda _: None)
        assert [one.ok async for one in service.client.generate_batch(["next"])] == [True]


async def test_a_lost_connection() -> None:
    """A caller that goes away without a word is like one that cancels."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.on(lambda _: Script(before_headers=asyncio.Event()))
        reading = asyncio.ensure_future(anext(service.client.generate_batch(["a", "b"])))
        (request,) = await fake.wait_for_generations(1)
        await service.client.close()
        await request.cancelled.wait()
        await settled(service)
        assert service.app.scheduling.snapshot().cancelled == 2
        with pytest.raises((Exception, asyncio.CancelledError)):
            await reading


async def test_cancel_again_and_again() -> None:
    """Batches that are cancelled at every stage, one after the other, leave no ticket, slot or call behind (A06)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=4)) as service:
        for count in range(30):
            call = service.client.generate_batch([str(number) for number in range(20)])
            for _ in range(count % 5):
                await anext(call)
            await call.cancel()
        await settled(service)
        now = await service.client.get_snapshot()
        assert now.submitted == now.succeeded + now.failed + now.cancelled + now.expired
        assert (now.in_flight, now.queued, now.open_batches, now.failed) == (0, 0, 0, 0)
        assert fake.peak <= 4


@virtual_sockets
async def test_the_callers_deadline() -> None:
    """Near the call's deadline what had finished is kept, the rest expires in-band, and the call ends OK."""
    async with VirtualBackend() as fake, VirtualService(fake=backend(fake.url, cap=2)) as service:
        fake.on(lambda request: Script(before_headers=asyncio.Event()) if b"slow" in request.body else None)
        prompts = [Prompt("a", "x"), Prompt("b", "y"), *[Prompt(f"s{n}", "slow " * 50) for n in range(4)]]
        call = service.client.generate_batch(prompts, timeout_s=1.0)
        results = {one.custom_id: one async for one in call}
        assert len(results) == 6
        assert results["a"].ok
        assert results["b"].ok
        late = [results[f"s{number}"] for number in range(4)]
        assert {one.outcome for one in late} == {Outcome.EXPIRED}
        errors = [one.error for one in late if one.error]
        assert {(error.code, error.reason, error.deadline) for error in errors} == {(4, "CALLER_DEADLINE", "caller")}
        assert (call.summary.state, call.summary.expired) == (BatchState.PARTIAL_DEADLINE, 4)
        await asyncio.gather(*[request.cancelled.wait() for request in fake.generations[2:]])


@virtual_sockets
async def test_the_callers_deadline_of_a_collect() -> None:
    """CollectBatch too answers before its deadline, with what there is."""
    async with VirtualBackend() as fake, VirtualService(fake=backend(fake.url)) as service:
        fake.on(lambda request: Script(before_headers=asyncio.Event()) if b"slow" in request.body else None)
        collected = await service.client.collect_batch(["quick", "slow"], timeout_s=0.8)
        assert [one.outcome for one in collected.results] == [Outcome.SUCCEEDED, Outcome.EXPIRED]
        assert collected.summary.state is BatchState.PARTIAL_DEADLINE


async def test_a_deadline_that_has_passed() -> None:
    """A deadline too short for anything ends the call one way or the other, and leaves nothing behind."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        try:
            async for one in service.client.generate_batch(["x"], timeout_s=0.001):
                assert one.outcome is Outcome.EXPIRED
        except DeadlineExceededError:
            pass
        await settled(service)


async def test_a_backend_that_is_not_there() -> None:
    """Prompts for a backend that nobody can reach end UNAVAILABLE after `no_backend_timeout_s`, with their history."""
    async with FakeBackend() as fake:
        gone = fake.url
    async with Service(fake=backend(gone), no_backend_timeout_s=0.2, probe_interval_s=0.05) as service:
        call = service.client.generate_batch(["a", "b"])
        results = [one async for one in call]
        assert len(results) == 2
        for one in results:
            assert one.error is not None
            assert (one.error.code, one.error.reason, one.error.deadline) == (14, "NO_BACKEND", "no_backend")
            assert one.total_ms >= 200
        described = await service.client.get_backend("fake")
        assert not described.available
        assert any("unavailable" in notice for notice in described.notices)


async def test_a_backend_that_comes_back() -> None:
    """What waits while a backend is away runs once it is back."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url), probe_interval_s=0.05) as service:
        await fake.close()
        call = service.client.generate_batch(["a", "b"])
        reading = asyncio.ensure_future(anext(call))
        while (await service.client.get_backend("fake")).available:
            pass
        await fake.listen()
        assert (await reading).ok
        assert [one.ok async for one in call] == [True]


async def test_a_backend_that_breaks_off() -> None:
    """A connection cut before the answer is another attempt, invisible but for its count."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url), retry_base_s=0.001) as service:
        fake.script(Script(cut_after=0), Script(cut_after=2))
        (result,) = [one async for one in service.client.generate_batch(["x"])]
        assert (result.ok, result.text, result.attempts) == (True, "echo x", 3)
