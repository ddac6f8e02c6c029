"""The spans of a service process, read back from a real trace backend."""

import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from expresslane_client import Client, Deadlines, Prompt

from .asking import prompt
from .llama_server import LlamaServer
from .phoenix import Phoenix
from .proxy import RecordingProxy
from .service_process import ServiceProcess
from .trace_tree import BATCH_CALL, Caller, Tree, value

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

SECRET = "do-not-trace-me"


@pytest_asyncio.fixture(loop_scope="session")
async def service(proxy: RecordingProxy, phoenix: Phoenix, tmp_path: Path) -> AsyncIterator[ServiceProcess]:
    """The service in front of the engine, its spans on their way to Phoenix."""
    environment = {
        "EXPRESSLANE_BACKENDS__ENGINE__KIND": "llamacpp",
        "EXPRESSLANE_BACKENDS__ENGINE__URL": proxy.url,
        "EXPRESSLANE_BACKENDS__ENGINE__BYTES_PER_TOKEN": "1",
        "EXPRESSLANE_RETRY_BASE_S": "0.05",
        "OTEL_EXPORTER_OTLP_ENDPOINT": phoenix.otlp_endpoint,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    async with ServiceProcess(tmp_path, environment) as process:
        yield process


def secret_prompt(custom_id: str, size: int = 60, **options: Any) -> Prompt:
    """A prompt whose text must not be in any span."""
    return prompt(custom_id, size, salt=f"{SECRET} {secrets.token_hex(4)} ", **options)


def assert_no_text(tree: Tree) -> None:
    """No part of a prompt is in any span."""
    assert SECRET not in json.dumps(tree.spans)


async def test_the_tree_of_a_batch(
    service: ServiceProcess, phoenix: Phoenix, proxy: RecordingProxy, llama_server: LlamaServer
) -> None:
    """RPC, batch, prompts, queue and attempts hang together below the caller, and the engine is told of each (A01)."""
    caller = Caller()
    async with caller.client(service.address) as client:
        prompts = [secret_prompt(f"p{index}", 50 + index) for index in range(6)]
        call = client.generate_batch(prompts, request_id="tree")
        results = {result.custom_id: result for result in await call.collect()}
        assert call.summary.succeeded == len(prompts)
    tree = await caller.tree(phoenix)
    rpc, batch = tree.named(BATCH_CALL), tree.named("expresslane.batch")
    assert {span["context"]["trace_id"] for span in tree.spans} == {caller.trace_id}
    assert rpc["parent_id"] == caller.span_id
    assert batch["parent_id"] == rpc["context"]["span_id"]
    assert Counter(span["name"] for span in tree.spans) == {
        BATCH_CALL: 1,
        "expresslane.batch": 1,
        "expresslane.ingest": 1,
        "expresslane.deliver": 1,
        "expresslane.prompt": len(prompts),
        "expresslane.queue": len(prompts),
        f"chat {llama_server.model}": len(prompts),
    }
    stages = [span["name"] for span in tree.below(batch)]
    assert (stages[0], stages[-1]) == ("expresslane.ingest", "expresslane.deliver")
    assert not [span for span in tree.spans if span["status_code"] == "ERROR"]
    assert (value(rpc, "rpc.response.status_code"), value(batch, "expresslane.batch.state")) == ("OK", "COMPLETED")
    told = {one.headers["traceparent"] for one in proxy.generations}
    assert told == {
        f"00-{caller.trace_id}-{span['context']['span_id']}-01" for span in tree.spans if span["span_kind"] == "LLM"
    }
    for one in prompts:
        span, (queued,), (attempt,) = tree.of_prompt(one.custom_id)
        result = results[one.custom_id]
        assert attempt["span_kind"] == "LLM"
        assert value(attempt, "gen_ai.request.model") == value(attempt, "llm.model_name") == llama_server.model
        assert value(attempt, "gen_ai.usage.input_tokens") == len(one.text) + 2
        assert value(attempt, "llm.token_count.prompt") == len(one.text) + 2
        assert value(attempt, "llm.token_count.completion") == one.max_tokens
        assert value(attempt, "expresslane.attempt") == value(span, "expresslane.attempts") == 1
        assert value(span, "expresslane.ttft_s") == pytest.approx((result.ttft_ms or 0) / 1e3)
        assert value(span, "expresslane.queue_wait_s") == pytest.approx(result.queue_ms / 1e3)
        assert span["start_time"] <= queued["start_time"] <= queued["end_time"] <= attempt["start_time"]
        assert attempt["end_time"] <= span["end_time"]
        assert [event["name"] for event in attempt["events"]] == ["first_token"]
    assert_no_text(tree)


async def test_how_prompts_ended(service: ServiceProcess, phoenix: Phoenix, proxy: RecordingProxy) -> None:
    """A refused, an expired and an unanswered prompt are errors with their reasons in the tree; its batch is none."""
    caller = Caller()
    async with Client(service.address) as admin:
        await admin.update_backend("engine", cap=1)
    async with caller.client(service.address) as client:
        call = client.generate_batch(
            [
                secret_prompt("slow", output_tokens=400, prompt_class="interactive"),
                secret_prompt("late", deadlines=Deadlines(queue_s=0.001)),
                secret_prompt("unknown", model="nobody-has-it"),
                secret_prompt("too-large", 9_000),
            ]
        )
        await call.collect()
        assert (call.summary.succeeded, call.summary.failed, call.summary.expired) == (1, 2, 1)
    tree = await caller.tree(phoenix)
    rpc, batch = tree.named(BATCH_CALL), tree.named("expresslane.batch")
    assert [rpc["status_code"], batch["status_code"]] == ["UNSET", "UNSET"]
    assert (value(batch, "expresslane.batch.count.failed"), value(batch, "expresslane.batch.count.expired")) == (2, 1)
    late, (_,), attempts = tree.of_prompt("late")
    assert (late["status_code"], late["status_message"], attempts) == ("ERROR", "QUEUE_TIMEOUT", [])
    assert (value(late, "expresslane.outcome"), value(late, "expresslane.deadline")) == ("expired", "queue")
    refused, _, (attempt,) = tree.of_prompt("too-large")
    for span in (refused, attempt):
        assert (span["status_code"], value(span, "error.type")) == ("ERROR", "BACKEND_REJECTED")
        assert value(span, "http.response.status_code") == 400
    slow, _, (attempt,) = tree.of_prompt("slow")
    assert (slow["status_code"], attempt["status_code"]) == ("UNSET", "UNSET")
    assert not any("late" in one.prompt for one in proxy.generations)
    assert_no_text(tree)


async def test_a_cancelled_call(
    service: ServiceProcess, phoenix: Phoenix, proxy: RecordingProxy, llama_server: LlamaServer
) -> None:
    """A call that its caller cancels is marked cancelled at every level, and is nobody's error."""
    caller = Caller()
    async with caller.client(service.address) as client:
        async with client.generate_batch([secret_prompt(str(index), output_tokens=4_000) for index in range(6)]):
            await proxy.until(lambda: len(proxy.running) == llama_server.slots_total)
        tree = await caller.tree(phoenix)
    rpc, batch = tree.named(BATCH_CALL), tree.named("expresslane.batch")
    assert value(rpc, "rpc.response.status_code") == "CANCELLED"
    assert value(batch, "expresslane.batch.state") == "CANCELLED"
    outcomes = Counter(value(span, "expresslane.outcome") for span in tree.spans if span not in (rpc, batch))
    assert outcomes["cancelled"] == 6 + llama_server.slots_total
    assert not [span for span in tree.spans if span["status_code"] == "ERROR"]
    assert_no_text(tree)
    await llama_server.wait_idle()


async def test_a_call_over_its_deadline(service: ServiceProcess, phoenix: Phoenix, llama_server: LlamaServer) -> None:
    """What the caller's deadline cuts off is an expired error in its spans, while the call itself ended OK."""
    caller = Caller()
    async with caller.client(service.address) as client:
        prompts = [secret_prompt(str(index), output_tokens=6_000) for index in range(16)]
        results = await client.generate_batch(prompts, timeout_s=6.0).collect()
    tree = await caller.tree(phoenix)
    rpc, batch = tree.named(BATCH_CALL), tree.named("expresslane.batch")
    assert (rpc["status_code"], value(rpc, "rpc.response.status_code")) == ("UNSET", "OK")
    assert (batch["status_code"], value(batch, "expresslane.batch.state")) == ("ERROR", "PARTIAL_DEADLINE")
    unfinished = [result for result in results if not result.ok]
    assert {result.attempts for result in unfinished} == {0, 1}, "not both waiting and running prompts were cut off"
    for result in unfinished:
        span, _, attempts = tree.of_prompt(result.custom_id)
        assert len(attempts) == result.attempts
        for ended in (span, *attempts):
            assert (ended["status_code"], ended["status_message"]) == ("ERROR", "CALLER_DEADLINE")
    assert_no_text(tree)
    await llama_server.wait_idle()
