"""How results reach the caller: deltas, request order, and batches in which a prompt fails."""

from collections import defaultdict

import pytest
from expresslane_client import BatchState, Delta, Outcome

from tests.support.service import Service

from .asking import ask, engine_backend, prompt, text_of
from .llama_server import LlamaServer
from .proxy import RecordingProxy

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

SLOT_TOKENS = 8_192


async def test_deltas_add_up_to_the_text(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """The deltas of each prompt, put together, are its text, and they come before its result (A13)."""
    prompts = [prompt(str(index), 30 + 5 * index, salt="deltas ", output_tokens=60) for index in range(8)]
    pieces: defaultdict[str, list[str]] = defaultdict(list)
    ended: set[str] = set()

    def take(delta: Delta) -> None:
        assert delta.custom_id not in ended
        pieces[delta.custom_id].append(delta.text)

    async with Service(engine=engine_backend(proxy.url)) as service:
        async for result in service.client.generate_batch(prompts, on_delta=take):
            ended.add(result.custom_id)
            assert "".join(pieces[result.custom_id]) == result.text
            assert len(result.text) == 60
        assert all(len(parts) > 1 for parts in pieces.values())
        assert len(ended) == len(prompts)
        generated = service.client.generate(prompts[0])
        streamed = "".join([delta.text async for delta in generated])
    assert streamed == generated.result.text == text_of(await ask(llama_server, text=prompts[0].text, max_tokens=60))


async def test_results_in_request_order(proxy: RecordingProxy) -> None:
    """In-order delivery keeps the order of the prompts although the engine finished them in another (A02)."""
    prompts = [prompt(f"{index}", 400 if index % 3 == 0 else 30, salt="in order ") for index in range(15)]
    async with Service(engine=engine_backend(proxy.url)) as service:
        results = await service.client.generate_batch(prompts, in_order=True).collect()
    assert [result.custom_id for result in results] == [one.custom_id for one in prompts]
    assert all(result.ok for result in results)
    finished = [one.prompt for one in sorted(proxy.generations, key=lambda one: one.ended_ns)]
    assert finished != [one.text for one in prompts]


async def test_a_prompt_over_the_context_fails_alone(proxy: RecordingProxy) -> None:
    """The engine's refusal of one prompt is that prompt's error alone, in the engine's words (T16, A11, A12)."""
    prompts = [prompt(str(index), SLOT_TOKENS if index == 3 else 30, salt="overflow ") for index in range(8)]
    async with Service(engine=engine_backend(proxy.url)) as service:
        collected = await service.client.collect_batch(prompts)
    failed = collected.results[3]
    assert failed.error is not None
    assert (failed.outcome, failed.attempts, failed.error.code) == (Outcome.FAILED, 1, 3)
    assert (failed.error.reason, failed.error.http_status) == ("BACKEND_REJECTED", 400)
    assert failed.error.provider_code == "exceed_context_size_error"
    assert not failed.error.retryable
    assert (collected.summary.succeeded, collected.summary.failed) == (7, 1)
    assert collected.summary.state is BatchState.COMPLETED


async def test_fail_fast_stops_the_engine(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """Under FAIL_FAST one refusal cancels what runs and what waits, in-band, and every slot is free again (T16)."""
    endless = [prompt(str(index), 40, salt="fail fast ", output_tokens=4_000) for index in range(8)]
    bad = prompt("bad", SLOT_TOKENS, salt="fail fast ")
    async with Service(engine=engine_backend(proxy.url), policy="fcfs") as service:
        call = service.client.generate_batch([*endless[:2], bad, *endless[2:]], fail_fast=True)
        results = {result.custom_id: result for result in await call.collect()}
    assert call.summary.state is BatchState.FAILED_FAST
    assert results.pop("bad").outcome is Outcome.FAILED
    assert len(results) == len(endless)
    assert {(one.outcome, one.error.reason) for one in results.values() if one.error} == {
        (Outcome.CANCELLED, "BATCH_FAILED")
    }
    assert len(proxy.generations) <= llama_server.slots_total + 1
    await proxy.until(lambda: not proxy.running)
    await llama_server.wait_idle()
