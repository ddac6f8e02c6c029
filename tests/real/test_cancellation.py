"""What a caller cancels stops inside the engine too, and what was only queued never gets there."""

import pytest
from expresslane_client import Outcome, Prompt

from tests.support.service import Service

from .asking import engine_backend, prompt
from .llama_server import LlamaServer
from .proxy import RecordingProxy

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

ENDLESS_TOKENS = 6_000


def endless(custom_id: str, size: int = 40, salt: str = "endless ") -> Prompt:
    """A prompt whose answer takes far longer than its test."""
    return prompt(custom_id, size, salt=salt, output_tokens=ENDLESS_TOKENS)


def all_started(proxy: RecordingProxy, count: int) -> bool:
    """Whether so many generations have content."""
    return sum(bool(one.content_ns) for one in proxy.generations) == count


@pytest.mark.parametrize("when", ["decoding", "in prefill"])
async def test_a_cancelled_batch_frees_every_slot(llama_server: LlamaServer, proxy: RecordingProxy, when: str) -> None:
    """Cancelling the RPC closes what runs, frees its slots, and queued prompts never reach the engine (A06)."""
    size = 40 if when == "decoding" else 3_000
    prompts = [endless(str(index), size, f"cancel {when} ") for index in range(20)]
    generated_before = (await llama_server.metrics())["tokens_predicted_total"]
    async with Service(engine=engine_backend(proxy.url, lanes=False)) as service:
        async with service.client.generate_batch(prompts):
            if when == "decoding":
                await proxy.until(lambda: all_started(proxy, llama_server.slots_total))
            else:
                await proxy.until(lambda: sum(bool(one.headers_ns) for one in proxy.generations) > 0)
        await proxy.until(lambda: not proxy.running)
        snapshot = await service.client.get_snapshot()
        assert (snapshot.queued, snapshot.in_flight, snapshot.open_batches) == (0, 0, 0)
        assert (snapshot.submitted, snapshot.cancelled) == (len(prompts), len(prompts))
        await llama_server.wait_idle()
        assert len(proxy.generations) == llama_server.slots_total
        assert all(one.aborted for one in proxy.generations)
        assert any(one.content_ns for one in proxy.generations) == (when == "decoding")
        generated = (await llama_server.metrics())["tokens_predicted_total"] - generated_before
        assert generated < ENDLESS_TOKENS * llama_server.slots_total
        assert (await service.client.collect_batch([prompt("next", 30, salt=f"after {when} ")])).summary.succeeded == 1


async def test_items_of_a_stream_are_cancelled_alone(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """Cancelling a running and a queued item ends those two; the others are answered, the queued one is never sent."""
    short = [prompt(f"short-{index}", 30, salt="stream ") for index in range(2)]
    async with Service(engine=engine_backend(proxy.url, cap=1)) as service, service.client.stream_prompts() as session:
        await session.send(endless("running", salt="stream "))
        await proxy.until(lambda: all_started(proxy, 1))
        await session.send(endless("queued", salt="stream "), *short)
        await session.cancel("queued", "running", "unknown")
        await session.done_sending()
        outcomes = {result.custom_id: result async for result in session}
    assert {name: result.outcome for name, result in outcomes.items()} == {
        "running": Outcome.CANCELLED,
        "queued": Outcome.CANCELLED,
        "short-0": Outcome.SUCCEEDED,
        "short-1": Outcome.SUCCEEDED,
    }
    assert outcomes["running"].text, "what came before the cancel is delivered"
    assert (outcomes["queued"].attempts, outcomes["running"].attempts) == (0, 1)
    await llama_server.wait_idle()
    assert [one.aborted for one in proxy.generations] == [True, False, False]
    assert not any("queued" in one.prompt for one in proxy.generations)


async def test_the_callers_deadline_ends_the_engines_work(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """Shortly before the RPC deadline unfinished prompts end EXPIRED in-band, and their slots are free again (A10)."""
    prompts = [prompt("done", 30, salt="deadline "), *(endless(str(index), salt="deadline ") for index in range(16))]
    async with Service(engine=engine_backend(proxy.url)) as service:
        call = service.client.generate_batch(prompts, timeout_s=6.0)
        results = {result.custom_id: result for result in await call.collect()}
        assert call.summary.state == "partial_deadline"
    assert len(results) == len(prompts)
    assert results["done"].ok
    expired = [result for result in results.values() if not result.ok]
    assert {(one.outcome, one.error.deadline) for one in expired if one.error} == {(Outcome.EXPIRED, "caller")}
    assert {one.attempts for one in expired} == {0, 1}, "not both waiting and running prompts were cut off"
    await proxy.until(lambda: not proxy.running)
    await llama_server.wait_idle()
