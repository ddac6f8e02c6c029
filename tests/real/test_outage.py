"""Engines that are not there, not there yet, or killed in the middle: every prompt ends once and nothing hangs."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from expresslane_client import Delta, Outcome

from tests.support.service import Service

from .asking import engine_backend, prompt
from .llama_server import LlamaServer
from .own_answers import assert_own_answers
from .process import free_port

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

PROMPTS = 24


@pytest_asyncio.fixture(loop_scope="session")
async def mortal(real_folder: Path) -> AsyncIterator[LlamaServer]:
    """An engine of a test's own, which may kill and start it."""
    async with LlamaServer(real_folder, context_tokens=4_096) as server:
        yield server


async def kill(server: LlamaServer) -> None:
    """End an engine without giving it time for anything."""
    os.kill(server.process.pid, signal.SIGKILL)
    await server.stop()


async def test_an_engine_that_is_not_there() -> None:
    """With nothing at its address the backend is unavailable, and its prompts end in-band after their own deadline."""
    url = f"http://127.0.0.1:{free_port()}"
    backend = engine_backend(url, models="tiny")
    async with Service(engine=backend, no_backend_timeout_s=0.3, probe_interval_s=0.1) as service:
        state = await service.client.get_backend("engine")
        assert not state.available
        assert "unavailable" in state.notices[0]
        collected = await service.client.collect_batch([prompt(str(index), 30) for index in range(5)])
    assert {(one.outcome, one.attempts) for one in collected.results} == {(Outcome.EXPIRED, 0)}
    assert {(one.error.reason, one.error.deadline) for one in collected.results if one.error} == {
        ("NO_BACKEND", "no_backend")
    }


async def test_an_engine_that_comes_late(mortal: LlamaServer) -> None:
    """Prompts accepted while their engine is down wait for it, and are answered when it is there."""
    await mortal.stop()
    backend = engine_backend(mortal.url, models="tiny")
    async with Service(engine=backend, no_backend_timeout_s=200, probe_interval_s=0.1) as service:
        call = service.client.generate_batch([prompt(str(index), 30, salt="late engine ") for index in range(8)])
        await mortal.start()
        results = await call.collect()
        state = await service.client.get_backend("engine")
    assert [one.error for one in results if not one.ok] == []
    assert len(results) == 8
    assert (state.available, state.cap, state.notices) == (True, mortal.slots_total, ())


async def test_an_engine_killed_in_the_middle(mortal: LlamaServer) -> None:
    """Killed and started again on the same port, the engine costs time only: each prompt ends once, with its text."""
    prompts = [prompt(str(index), 40, salt="killed ", output_tokens=100) for index in range(PROMPTS)]
    async with Service(engine=engine_backend(mortal.url), probe_interval_s=0.1) as service:
        results = []
        call = service.client.generate_batch(prompts)
        async for result in call:
            results.append(result)
            if len(results) == 5:
                await kill(mortal)
                await mortal.start()
        snapshot = await service.client.get_snapshot()
    assert sorted(result.index for result in results) == list(range(PROMPTS))
    assert [result.error for result in results if not result.ok] == []
    assert (snapshot.succeeded, snapshot.queued, snapshot.in_flight) == (PROMPTS, 0, 0)
    assert [result for result in results if result.attempts > 1], "nothing was in flight when the engine died"
    await assert_own_answers(mortal, {one.custom_id: one.text for one in prompts}, results, 100)


async def test_what_was_delivered_is_never_repeated(mortal: LlamaServer) -> None:
    """Once a caller has deltas of an answer, the engine's death ends that prompt with its partial text and an error."""
    prompts = [prompt(str(index), 40, salt="delivered ", output_tokens=900) for index in range(mortal.slots_total)]
    pieces = dict.fromkeys((one.custom_id for one in prompts), "")

    def take(delta: Delta) -> None:
        pieces[delta.custom_id] += delta.text
        if all(pieces.values()) and mortal.process.is_running():
            os.kill(mortal.process.pid, signal.SIGKILL)

    backend = engine_backend(mortal.url)
    async with Service(engine=backend, no_backend_timeout_s=0.3) as service:
        results = await service.client.generate_batch(prompts, on_delta=take).collect()
    assert {(one.outcome, one.attempts) for one in results} == {(Outcome.FAILED, 1)}
    assert {one.error.reason for one in results if one.error} == {"BACKEND_DISCONNECTED"}
    assert {one.custom_id: one.text for one in results} == pieces
