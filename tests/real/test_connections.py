"""Connections that the engine closes cost no prompt an attempt, whenever it closes them."""

import pytest
from expresslane.backends import http

from tests.support.service import Service

from .asking import engine_backend, prompt
from .llama_server import LlamaServer
from .proxy import RecordingProxy

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

REQUESTS_PER_CONNECTION = 100


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the machine takes, a connection ends within its stale window (the window has its own tests)."""
    monkeypatch.setattr(http, "monotonic_ns", lambda: 0)


async def run_batch(service: Service, salt: str, count: int, output_tokens: int = 4) -> list[int]:
    """Run a small batch that must succeed, and return the attempts of each prompt."""
    prompts = [prompt(str(index), 20, salt=salt, output_tokens=output_tokens) for index in range(count)]
    collected = await service.client.collect_batch(prompts)
    assert [result.error for result in collected.results if not result.ok] == []
    return [result.attempts for result in collected.results]


async def test_an_idle_connection_that_was_closed(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """After the engine has closed idle connections, the next batch takes new ones and each prompt one attempt (A08)."""
    async with Service(engine=engine_backend(proxy.url, streaming=False)) as service:
        assert await run_batch(service, "idle first ", 8) == [1] * 8
        used = len(proxy.connections)
        await proxy.until(lambda: all(one.closed_by for one in proxy.connections))
        assert {one.closed_by for one in proxy.connections} == {"engine"}
        assert await run_batch(service, "idle second ", 8) == [1] * 8
        assert len(proxy.connections) >= used + llama_server.slots_total


async def test_a_connection_that_closes_under_a_request(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """A request that meets the end of its kept connection is sent again at once, and counts as one attempt (A08)."""
    slots = llama_server.slots_total
    async with Service(engine=engine_backend(proxy.url, streaming=False)) as service:
        await run_batch(service, "kept ", slots)
        proxy.stale = slots
        assert await run_batch(service, "stale ", slots) == [1] * slots
        assert proxy.stale < slots, "no connection was used again"
        assert (await service.client.get_snapshot()).retried == 0
    assert len(proxy.generations) == 2 * slots


async def test_a_connection_is_used_up(proxy: RecordingProxy) -> None:
    """The engine ends each connection after a hundred requests; a longer run loses no attempt by that (A08)."""
    count = REQUESTS_PER_CONNECTION * 2 + 10
    async with Service(engine=engine_backend(proxy.url, streaming=False, cap=1)) as service:
        assert await run_batch(service, "many ", count, output_tokens=1) == [1] * count
    assert max(one.requests for one in proxy.connections) == REQUESTS_PER_CONNECTION
    assert len(proxy.generations) == count
