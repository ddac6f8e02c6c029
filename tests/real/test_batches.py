"""Mixed batches through the whole service come back complete, each with its own prompt's answer."""

import random

import pytest
from expresslane_client import BatchState, FinishReason

from tests.support.service import Service

from .asking import OUTPUT_TOKENS, ask, engine_backend, prompt, text_of
from .engine_log import EngineLog
from .llama_server import LlamaServer
from .own_answers import assert_own_answers
from .proxy import RecordingProxy, peak

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

SHORT, LONG = 60, 5


async def test_a_mixed_batch_gets_its_own_answers(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """Every prompt ends once, with the text the engine gives it alone and with exact token counts (T13, A13, G25)."""
    sizes = random.Random(13)
    # With this salt no two of them have the same answer, so that any two that are swapped are noticed.
    prompts = [prompt(f"short-{index}", sizes.randint(20, 100), salt="mixed ") for index in range(SHORT)]
    prompts += [prompt(f"long-{index}", sizes.randint(700, 1_000), salt="mixed ") for index in range(LONG)]
    sizes.shuffle(prompts)
    log = EngineLog(llama_server)
    async with Service(engine=engine_backend(proxy.url)) as service:
        call = service.client.generate_batch(prompts)
        results = {result.custom_id: result for result in await call.collect()}
    assert len(results) == len(prompts) == call.summary.succeeded == call.summary.total_prompts
    assert call.summary.state is BatchState.COMPLETED
    assert sorted(exchange.prompt for exchange in proxy.generations) == sorted(one.text for one in prompts)
    assert peak((one.opened_ns, one.ended_ns) for one in proxy.generations) == llama_server.slots_total
    assert log.busiest() == llama_server.slots_total
    for index, one in enumerate(prompts):
        result = results[one.custom_id]
        assert (result.index, result.attempts, result.simulated) == (index, 1, False)
        assert result.choice.finish_reason is FinishReason.LENGTH
        assert result.usage is not None
        assert not result.usage.input_estimated
        assert not result.usage.output_estimated
        assert result.usage.input_tokens == len(one.text) + 2
        assert result.usage.output_tokens == OUTPUT_TOKENS
        assert result.ttft_ms is not None
        assert 0 <= result.queue_ms <= result.ttft_ms <= result.total_ms
    await assert_own_answers(llama_server, {one.custom_id: one.text for one in prompts}, results.values())


async def test_every_call_gives_the_same_answer(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """GenerateBatch, CollectBatch, Generate and StreamPrompts give one prompt the same text (A02-A04)."""
    one = prompt("one", 80, salt="every call ")
    async with Service(engine=engine_backend(proxy.url)) as service:
        client = service.client
        texts = [(await client.generate_batch([one]).collect())[0].text]
        texts.append((await client.collect_batch([one])).results[0].text)
        texts.append((await client.generate(one).collect()).text)
        async with client.stream_prompts([one]) as session:
            texts += [result.text async for result in session]
    assert texts == [text_of(await ask(llama_server, text=one.text))] * 4
