"""GenerateBatch, CollectBatch and Generate through gRPC, the real scheduler and HTTP to a scripted backend."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import pytest
from expresslane_client import BatchState, Delta, Outcome, Progress, Prompt, RefusedError
from expresslane_client.v1 import inference_pb2, types_pb2
from google.protobuf.duration_pb2 import Duration

from tests.support.fake_backend import FakeBackend, Script, SeenRequest, echo_of
from tests.support.service import Service, backend
from tests.support.shell import Shell

if TYPE_CHECKING:
    from pathlib import Path


def asked(request: SeenRequest) -> str:
    """The prompt's text."""
    return str(request.json["messages"][-1]["content"])


async def test_results_as_they_complete() -> None:
    """The first result is delivered while the others still run, whatever its place in the batch (A03, A17)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.on(lambda request: None if asked(request) == "quick" else Script(before_headers=gate))
        call = service.client.generate_batch([Prompt("s1", "slow"), Prompt("q", "quick"), Prompt("s2", "slow")])
        first = await anext(call)
        assert (first.custom_id, first.index, first.text) == ("q", 1, "echo quick")
        assert not gate.is_set()
        gate.set()
        rest = [result.custom_id async for result in call]
        assert sorted(rest) == ["s1", "s2"]
        assert (call.summary.state, call.summary.succeeded, call.summary.failed) == (BatchState.COMPLETED, 3, 0)


async def test_service_tier(tmp_path: Path) -> None:
    """A provider's service tier is asked for as one more parameter, in Python and in a file of prompts (P35)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        for tier in ("flex", "priority"):
            (result,) = (await service.client.collect_batch([Prompt("a", "x", extra={"service_tier": tier})])).results
            assert result.ok
        shell = Shell(tmp_path, service.address)
        (tmp_path / "prompts.jsonl").write_text('{"custom_id": "b", "prompt": "x", "service_tier": "flex"}\n')
        assert (await shell.run("run", "prompts.jsonl")).code == 0
        await service.client.collect_batch(["x"])
    seen = [request.json.get("service_tier") for request in fake.generations]
    assert seen == ["flex", "priority", "flex", None]


async def test_the_summary_tells_when_the_first_and_the_median_result_came() -> None:
    """The first result's time lies before the median's, and that not after the batch's end (A17)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.on(lambda request: None if asked(request) == "quick" else Script(before_headers=gate))
        call = service.client.generate_batch(["quick", "slow", "slow"])
        first = await anext(call)
        gate.set()
        assert len([result async for result in call]) == 2
        summary = call.summary
        assert summary.first_result_ms is not None
        assert summary.median_result_ms is not None
        assert 0 < first.total_ms <= summary.first_result_ms
        assert summary.first_result_ms < summary.median_result_ms <= summary.wall_ms


async def test_results_in_order() -> None:
    """With in-order delivery results come as the request lists them, though the first finishes last (A02)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.on(lambda request: Script(before_headers=gate) if asked(request) == "0" else None)
        call = service.client.generate_batch([Prompt(f"p{n}", str(n)) for n in range(20)], in_order=True)
        waiting = asyncio.ensure_future(anext(call))
        await fake.wait_for_generations(20)
        assert not waiting.done()
        gate.set()
        results = [await waiting] + [result async for result in call]
        assert [result.index for result in results] == list(range(20))
        assert [result.text for result in results] == [f"echo {n}" for n in range(20)]


async def test_in_order_window_seen_by_the_backend() -> None:
    """While the first prompt of an in-order batch runs, none beyond its window reaches the backend (A02)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=50)) as service:
        fake.on(lambda request: Script(before_headers=gate) if asked(request) == "0" else None)
        prompts = [Prompt(f"p{n}", str(n)) for n in range(40)]
        call = service.client.generate_batch(prompts, in_order=True, reorder_window=5)
        waiting = asyncio.ensure_future(anext(call))
        for request in (await fake.wait_for_generations(5))[1:5]:
            await request.answered.wait()
        await service.client.get_snapshot()
        assert {int(asked(request)) for request in fake.generations} == {0, 1, 2, 3, 4}
        gate.set()
        await waiting
        assert len([result async for result in call]) == 39


async def test_a_thousand_identities() -> None:
    """Each of 1,000 prompts gets the answer to its own text, over two backends and 40 connections (T13, A04)."""
    async with FakeBackend() as one, FakeBackend() as two:
        services = {"one": backend(one.url, cap=20), "two": backend(two.url, cap=20)}
        async with Service(**services) as service:
            prompts = [Prompt(f"id-{number}", f"text {number}") for number in range(1_000)]
            results = [result async for result in service.client.generate_batch(prompts)]
            assert len(results) == len({result.custom_id for result in results}) == 1_000
            for result in results:
                assert (result.custom_id, result.text) == (f"id-{result.index}", f"echo text {result.index}")
        assert one.generations
        assert two.generations
        assert max(one.peak, two.peak) <= 20


async def test_results_are_coalesced() -> None:
    """Results that are ready together come in few messages: far fewer than results."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=200)) as service:
        fake.on(lambda _: Script(before_headers=gate))
        request = inference_pb2.GenerateBatchRequest(
            prompts=[types_pb2.Prompt(custom_id=str(n), text="x") for n in range(200)]
        )
        call = service.client.inference.GenerateBatch(request)
        messages: list[inference_pb2.GenerateBatchResponse] = []
        async for message in call:
            if not messages:
                assert message.events[0].accepted.prompts == 200
                await fake.wait_for_generations(200)
                gate.set()
            messages.append(message)
        assert sum(len(message.results) for message in messages) == 200
        assert len(messages) < 100
        assert messages[-1].HasField("summary")
        assert not any(message.HasField("summary") for message in messages[:-1])


async def test_deltas_come_before_the_result() -> None:
    """With deltas on, a prompt's pieces come in order, before its result, and add up to its text."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        deltas: list[Delta] = []
        call = service.client.generate_batch([Prompt("a", "hello world"), Prompt("b", "bye")], on_delta=deltas.append)
        async for result in call:
            assert "".join(one.text for one in deltas if one.custom_id == result.custom_id) == result.text
        assert {one.custom_id for one in deltas} == {"a", "b"}


async def test_no_deltas_unless_asked_for() -> None:
    """A caller that asks for no deltas gets none."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        request = inference_pb2.GenerateBatchRequest(prompts=[types_pb2.Prompt(custom_id="a", text="x")])
        assert not any([message.deltas async for message in service.client.inference.GenerateBatch(request)])


async def test_heartbeats() -> None:
    """A silent stream is kept alive by progress events, which tell how far the batch is."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1), heartbeat_s=0.05) as service:
        fake.on(lambda _: Script(before_headers=gate))
        events: list[object] = []

        def on_event(event: object) -> None:
            events.append(event)
            if len(events) == 3:
                gate.set()

        call = service.client.generate_batch(["one", "two", "three"], on_event=on_event)
        assert len([result async for result in call]) == 3
        progress = [event for event in events if isinstance(event, Progress)]
        assert (progress[0].queued, progress[0].in_flight, progress[0].finished) == (2, 1, 0)
        assert progress[0].elapsed_ms >= 45


async def test_unknown_model_fails_alone() -> None:
    """A prompt for a model that nobody serves is NOT_FOUND in-band with close names; the others succeed."""
    async with FakeBackend() as fake:
        served = backend(fake.url, models=(("mistral-7b", "m"),))
        async with Service(fake=served) as service:
            prompts = [Prompt("a", "x", model="mistral-7"), Prompt("b", "x", model="mistral-7b"), Prompt("c", "x")]
            results = {result.custom_id: result async for result in service.client.generate_batch(prompts)}
            error = results["a"].error
            assert error is not None
            assert (error.code, error.reason, error.field) == (5, "UNKNOWN_MODEL", "model")
            assert "mistral-7b" in error.message
            assert results["b"].ok
            assert results["c"].ok
            assert [request.json["model"] for request in fake.generations] == ["m", "m"]


MALFORMED = {
    "invalid UTF-8": Script(wire=[b'data: {"choices":[{"delta":{"content":"\xff\xfe"}}]}\n\n', b"data: [DONE]\n\n"]),
    "not JSON in SSE": Script(wire=[b"data: {oops\n\n"]),
    "another content type": Script(headers={"Content-Type": "text/html"}, body=b"<html>login</html>"),
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_malformed_answer_fails_alone(case: str) -> None:
    """An answer that breaks its own protocol is BACKEND_MALFORMED for its prompt, and the others finish (A11)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url), retry_attempts=1) as service:
        fake.on(lambda request: MALFORMED[case] if asked(request) == "bad" else None)
        call = service.client.generate_batch([Prompt("a", "good"), Prompt("b", "bad"), Prompt("c", "good")])
        results = {result.custom_id: result async for result in call}
        error = results["b"].error
        assert error is not None
        assert (results["b"].outcome, error.code, error.reason) == (Outcome.FAILED, 13, "BACKEND_MALFORMED")
        assert results["a"].ok
        assert results["c"].ok
        assert call.summary.reasons == {"BACKEND_MALFORMED": 1}


async def test_error_of_the_backend_is_told_in_full() -> None:
    """Status, provider code, body and request id of a refused request reach the caller (A12)."""
    body = {"error": {"message": "max_tokens is too large", "type": "invalid_request_error", "code": "bad_value"}}
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.script(Script(status=400, body=orjson.dumps(body), headers={"x-request-id": "req-7"}))
        (result,) = [result async for result in service.client.generate_batch(["x"])]
        error = result.error
        assert error is not None
        assert (error.code, error.reason, error.http_status) == (3, "BACKEND_REJECTED", 400)
        assert (error.provider_code, error.provider_request_id) == ("bad_value", "req-7")
        assert "max_tokens is too large" in error.provider_body
        assert not error.retryable


async def test_timings_add_up() -> None:
    """Queue wait is told apart from service time, and total and TTFT include it (G25, A38)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        results = [result async for result in service.client.generate_batch([f"p{n}" for n in range(10)])]
        for result in results:
            assert result.ttft_ms is not None
            assert result.attempt_ttft_ms is not None
            assert result.attempt_ms is not None
            assert result.total_ms == pytest.approx(result.queue_ms + result.attempt_ms, abs=0.01)
            assert result.ttft_ms == pytest.approx(result.queue_ms + result.attempt_ttft_ms, abs=0.01)
        assert max(result.queue_ms for result in results) > min(result.queue_ms for result in results)


async def test_collect_batch() -> None:
    """CollectBatch answers once, in request order, with the summary (A02, A14)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        prompts = [Prompt(f"p{n}", str(n), max_tokens=100) for n in range(50)]
        collected = await service.client.collect_batch(prompts)
        assert [result.text for result in collected.results] == [echo_of(str(n)) for n in range(50)]
        assert (collected.summary.state, collected.summary.succeeded) == (BatchState.COMPLETED, 50)


@pytest.mark.parametrize(("count", "max_tokens"), [(300, None), (50, 100_000)])
async def test_collect_batch_that_could_not_be_answered(count: int, max_tokens: int | None) -> None:
    """A batch whose declared answer exceeds a message is refused before anything is asked of a backend."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        with pytest.raises(RefusedError, match="GenerateBatch") as raised:
            await service.client.collect_batch([Prompt(str(n), "x", max_tokens=max_tokens) for n in range(count)])
        assert raised.value.reason == "ANSWER_TOO_LARGE"
        assert fake.generations == []


async def test_collect_batch_ignores_what_does_not_apply() -> None:
    """CollectBatch neither streams nor reorders: with deltas asked for, a broken stream is still repeated."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url), retry_base_s=0.001) as service:
        fake.script(Script(cut_after=2))
        config = inference_pb2.BatchConfig(stream_deltas=True, delivery=inference_pb2.DELIVERY_IN_ORDER)
        request = inference_pb2.CollectBatchRequest(prompts=[types_pb2.Prompt(custom_id="a", text="x")], config=config)
        answer = await service.client.inference.CollectBatch(request)
        assert (answer.results[0].outcome, answer.results[0].attempts) == (types_pb2.OUTCOME_SUCCEEDED, 2)


async def test_generate() -> None:
    """Generate streams one prompt's text piece by piece, while it is being made, the result last."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.script(Script(text="one two three", gates={2: gate}))
        call = service.client.generate("count")
        first = await anext(call)
        assert first.text == "one t"
        gate.set()
        pieces = [delta.text async for delta in call]
        assert first.text + "".join(pieces) == call.result.text == "one two three"


async def test_generate_tells_failure_in_band() -> None:
    """A failed Generate ends OK with a result that says why."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.script(Script(status=403, body=b"{}"))
        result = await service.client.generate("x").collect()
        assert result.error is not None
        assert result.error.reason == "BACKEND_UNAUTHORIZED"


async def test_own_heartbeat_interval() -> None:
    """A caller's own heartbeat interval is taken from 1 s to 10 min and refused outside of it."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        for interval in (Duration(nanos=999_999_999), Duration(seconds=601), Duration(seconds=-1)):
            config = inference_pb2.BatchConfig(heartbeat_interval=interval)
            request = inference_pb2.GenerateBatchRequest(
                prompts=[types_pb2.Prompt(custom_id="a", text="x")], config=config
            )
            call = service.client.inference.GenerateBatch(request)
            assert (await call.code()).name == "INVALID_ARGUMENT"
            assert "config.heartbeat_interval" in await call.details()
