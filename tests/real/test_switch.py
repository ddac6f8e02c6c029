"""The concurrency switch while a batch runs, as the engine's door saw it."""

import pytest

from tests.support.service import Service

from .asking import engine_backend, prompt
from .llama_server import LlamaServer
from .proxy import RecordingProxy, peak

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

PROMPTS = 40


async def test_concurrency_off_and_on_in_the_middle(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """Off: what runs goes on, then one at a time; on: as many as before; nothing is lost (T01, T02, T07, T12)."""
    prompts = [prompt(str(index), 30 + index, salt="switch ", output_tokens=30) for index in range(PROMPTS)]
    async with Service(engine=engine_backend(proxy.url)) as service:
        results = []
        marks = []
        call = service.client.generate_batch(prompts)
        async for result in call:
            results.append(result)
            if len(results) in (8, 24):
                seen_before = len(proxy.generations)
                switched = await service.client.update_backend("engine", concurrency_enabled=len(results) == 24)
                assert switched.effective_cap == (llama_server.slots_total if len(results) == 24 else 1)
                # What was released before it was off may still be on its way to the door; what is released because it
                # is on again may be there before the answer.
                waiting = (await service.client.get_snapshot()).queued
                marks.append(PROMPTS - waiting if len(results) == 8 else seen_before)
    assert sorted(result.index for result in results if result.ok) == list(range(PROMPTS))
    assert {result.attempts for result in results} == {1}
    seen = [(one.opened_ns, one.ended_ns) for one in proxy.generations]
    off, on = marks
    assert off < on < PROMPTS, "the batch was over before both switches"
    assert peak(seen[:off]) == peak(seen[on:]) == llama_server.slots_total
    for opened_ns, _ in seen[off:on]:
        assert not [other for other in seen if other[0] < opened_ns < other[1]], "two at once while it was off"


async def test_a_cap_changed_at_runtime(proxy: RecordingProxy) -> None:
    """A cap lowered and raised by Admin holds for every release after it (T07, A06)."""
    async with Service(engine=engine_backend(proxy.url)) as service:
        for cap in (2, 3):
            await service.client.update_backend("engine", cap=cap)
            before = len(proxy.generations)
            prompts = [prompt(str(index), 30, salt=f"cap {cap} now ", output_tokens=30) for index in range(10)]
            assert (await service.client.collect_batch(prompts)).summary.succeeded == 10
            assert peak((one.opened_ns, one.ended_ns) for one in proxy.generations[before:]) == cap
