"""Caps and lanes as the engine's door saw them: what is in flight and what is in prefill, exchange by exchange."""

import pytest

from tests.support.service import Service

from .asking import engine_backend, prompt
from .engine_log import EngineLog
from .exchange import Exchange
from .llama_server import LlamaServer
from .proxy import RecordingProxy, peak

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

THRESHOLD, BUDGET = 512, 500


def in_prefill(exchanges: list[Exchange]) -> list[tuple[int, int]]:
    """From when to when each was in prefill."""
    return [(one.opened_ns, one.prefill_end_ns) for one in exchanges]


def tokens_in_prefill(exchanges: list[Exchange]) -> int:
    """The most tokens in prefill at once, each prompt weighing what it has; one prompt alone counts nothing."""
    highest = 0
    for one in exchanges:
        beside = [other for other in exchanges if other.opened_ns <= one.opened_ns < other.prefill_end_ns]
        if len(beside) > 1:
            highest = max(highest, sum(other.tokens for other in beside))
    return highest


@pytest.mark.parametrize("cap", [1, 3])
async def test_a_cap_holds_at_the_door(llama_server: LlamaServer, proxy: RecordingProxy, cap: int) -> None:
    """A configured cap is reached and never passed, in the proxy's eyes and in the engine's own log (G01, A06)."""
    prompts = [prompt(f"p{index}", 30 + 10 * index, salt=f"cap {cap} ", output_tokens=16) for index in range(16)]
    log = EngineLog(llama_server)
    async with Service(engine=engine_backend(proxy.url, cap=cap)) as service:
        summary = (await service.client.collect_batch(prompts)).summary
        assert (await service.client.get_backend("engine")).peak_in_flight == cap
    assert summary.succeeded == len(prompts)
    assert peak((one.opened_ns, one.ended_ns) for one in proxy.generations) == cap
    assert log.busiest() == cap


async def test_long_prefills_go_one_at_a_time(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """With one long slot no two long prompts are in prefill together, and shorts run beside them in their budget."""
    prompts = [prompt(f"long-{index}", 1_200, salt="lanes ") for index in range(4)]
    prompts += [prompt(f"short-{index}", 60 + 20 * index, salt="lanes ", output_tokens=20) for index in range(16)]
    backend = engine_backend(proxy.url, long_slots=1, long_threshold_tokens=THRESHOLD, short_budget_tokens=BUDGET)
    async with Service(engine=backend) as service:
        summary = (await service.client.collect_batch(prompts)).summary
    assert summary.succeeded == len(prompts)
    long = [one for one in proxy.generations if one.tokens > THRESHOLD]
    short = [one for one in proxy.generations if one.tokens <= THRESHOLD]
    assert peak((one.opened_ns, one.ended_ns) for one in proxy.generations) == llama_server.slots_total
    assert peak(in_prefill(long)) == 1
    assert 0 < tokens_in_prefill(short) <= BUDGET
    beside = [one for one in short for other in long if other.opened_ns < one.content_ns < other.content_ns]
    assert beside, "no short prompt got its first token during a long prefill"


async def test_without_lanes_long_prefills_pile_up(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """Lanes off, as many long prompts are in prefill as there are slots: what the test above can tell apart."""
    prompts = [prompt(f"long-{index}", 1_000, salt="no lanes ") for index in range(5)]
    backend = engine_backend(proxy.url, lanes=False, long_threshold_tokens=THRESHOLD)
    async with Service(engine=backend) as service:
        await service.client.collect_batch(prompts)
    assert peak(in_prefill(proxy.generations)) == llama_server.slots_total
