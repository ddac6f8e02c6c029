"""Plain stubs on default channels: nothing the service writes is above the 4 MiB that they take in."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from expresslane.settings import Settings
from expresslane_client.v1 import inference_pb2 as pb
from expresslane_client.v1 import inference_pb2_grpc, types_pb2

from tests.support.fake_backend import FakeBackend, Script
from tests.support.service import Service, backend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB = 1024 * 1024
DEFAULT_LIMIT = 4 * MIB
FAILED, SUCCEEDED = types_pb2.OUTCOME_FAILED, types_pb2.OUTCOME_SUCCEEDED


@asynccontextmanager
async def plain(**settings: Any) -> AsyncIterator[tuple[FakeBackend, Any]]:
    """A scripted backend, and a generated stub on a channel without options."""
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url, cap=50), **settings) as service,
        grpc.aio.insecure_channel(service.address) as channel,
    ):
        yield fake, inference_pb2_grpc.InferenceStub(channel)


def prompts(count: int, text: str = "x", **fields: Any) -> list[types_pb2.Prompt]:
    """So many prompts."""
    return [types_pb2.Prompt(custom_id=str(number), text=text, **fields) for number in range(count)]


async def results_of(call: Any) -> tuple[list[types_pb2.Result], pb.BatchSummary]:
    """All results of a batch, by index, and its summary; every message within the default limit."""
    results: list[types_pb2.Result] = []
    message = pb.GenerateBatchResponse()
    async for message in call:
        assert message.ByteSize() <= DEFAULT_LIMIT
        results += message.results
    return sorted(results, key=lambda result: result.index), message.summary


@pytest.mark.parametrize("deltas", [False, True])
async def test_the_largest_answer_fits(deltas: bool) -> None:
    """An answer of the default limit reaches a plain stub whole, in a result and in split deltas."""
    size = Settings().max_answer_bytes
    text = "é" * (size // 2)
    async with plain() as (fake, stub):
        fake.on(lambda _: Script(text=text, pieces=40))
        call = stub.GenerateBatch(
            pb.GenerateBatchRequest(prompts=prompts(2), config=pb.BatchConfig(stream_deltas=deltas))
        )
        results, _ = await results_of(call)
        assert [result.choices[0].text == text for result in results] == [True, True]


async def test_an_answer_above_the_limit_fails_alone() -> None:
    """One answer above the limit is that prompt's failure; the rest of the batch is delivered to a plain stub."""
    async with plain() as (fake, stub):
        fake.on(lambda request: Script(text="y" * (5 * MIB), pieces=1) if b"big" in request.body else None)
        sent = [*prompts(3), types_pb2.Prompt(custom_id="big", text="big")]
        results, summary = await results_of(stub.GenerateBatch(pb.GenerateBatchRequest(prompts=sent)))
        assert [result.outcome for result in results] == [SUCCEEDED] * 3 + [FAILED]
        assert results[3].error.reason == "ANSWER_OVER_LIMIT"
        assert (summary.succeeded, summary.failed) == (3, 1)


async def test_a_partial_answer_above_the_limit_is_left_out() -> None:
    """An answer that grows over the limit with its last piece fails without the text that came."""
    async with plain() as (fake, stub):
        fake.on(lambda _: Script(text="y" * (5 * MIB), pieces=2))
        results, _ = await results_of(stub.GenerateBatch(pb.GenerateBatchRequest(prompts=prompts(1))))
        assert (results[0].outcome, results[0].error.reason) == (FAILED, "ANSWER_OVER_LIMIT")
        assert not results[0].choices


async def test_a_higher_limit_is_the_operators() -> None:
    """With a higher limit a larger answer is delivered to callers that raise theirs."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url), max_answer_bytes=8 * MIB) as service:
        fake.on(lambda _: Script(text="y" * (6 * MIB), pieces=3))
        answer = [result async for result in service.client.generate_batch(["x"])]
        assert [len(result.text) for result in answer] == [6 * MIB]


async def test_collected_errors_fit() -> None:
    """4,000 refusals with their bodies are one message for a plain stub: the bodies go before anything else does."""
    async with plain() as (fake, stub):
        fake.on(lambda request: None if b"good" in request.body else Script(status=400, body=b"<p>" + b"e" * 2_045))
        sent = [*prompts(3_999, sampling=types_pb2.SamplingParams(max_tokens=1))]
        sent.append(types_pb2.Prompt(custom_id="good", text="good", sampling=types_pb2.SamplingParams(max_tokens=1)))
        answer = await stub.CollectBatch(pb.CollectBatchRequest(prompts=sent))
        assert answer.ByteSize() <= DEFAULT_LIMIT
        assert [result.index for result in answer.results] == list(range(4_000))
        assert {result.error.reason for result in answer.results} == {"BACKEND_REJECTED", ""}
        assert not any(result.error.provider_body for result in answer.results)
        assert answer.results[-1].choices[0].text == "echo good"


async def test_a_collected_answer_that_does_not_fit() -> None:
    """An answer far above what was declared fails alone, is counted as failed, and the others are kept."""
    async with plain(max_answer_bytes=8 * MIB) as (fake, stub):
        fake.on(lambda request: Script(text="y" * (5 * MIB), pieces=5) if b"big" in request.body else None)
        sent = [*prompts(3), types_pb2.Prompt(custom_id="big", text="big")]
        answer = await stub.CollectBatch(pb.CollectBatchRequest(prompts=sent))
        assert [result.outcome for result in answer.results] == [SUCCEEDED] * 3 + [FAILED]
        assert answer.results[3].error.reason == "ANSWER_OVER_LIMIT"
        assert (answer.summary.succeeded, answer.summary.failed) == (3, 1)
        assert dict(answer.summary.reasons) == {"ANSWER_OVER_LIMIT": 1}
        assert [(error.reason, error.code, error.count) for error in answer.summary.errors] == [
            ("ANSWER_OVER_LIMIT", 8, 1)
        ]


async def test_collected_answers_that_do_not_fit_together() -> None:
    """Of answers that together are too large, only as many fail as must."""
    async with plain() as (fake, stub):
        fake.on(lambda _: Script(text="y" * MIB, pieces=5))
        answer = await stub.CollectBatch(pb.CollectBatchRequest(prompts=prompts(20)))
        assert answer.ByteSize() <= DEFAULT_LIMIT
        kept = [result for result in answer.results if result.outcome == SUCCEEDED]
        assert len(kept) == 3
        assert (answer.summary.succeeded, answer.summary.failed, answer.summary.total) == (3, 17, 20)


@pytest.mark.parametrize(
    "extra", ['{"max_completion_tokens":900000}', '{"n_predict":-1}', '{"options":{"num_predict":900000}}']
)
async def test_tokens_declared_elsewhere_count(extra: str) -> None:
    """Tokens asked for in extra_json beside max_tokens are part of what CollectBatch's answer declares."""
    async with plain() as (fake, stub):
        sent = prompts(500, sampling=types_pb2.SamplingParams(max_tokens=1), extra_json=extra)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.CollectBatch(pb.CollectBatchRequest(prompts=sent))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "declared" in (raised.value.details() or "")
        assert not fake.generations


async def test_a_custom_id_above_the_limit() -> None:
    """A session's prompt with an enormous custom_id fails alone, and only the beginning of its name comes back."""
    async with plain() as (_, stub):
        call = stub.StreamPrompts()
        await call.write(pb.StreamPromptsRequest(config=pb.BatchConfig()))
        await call.write(pb.StreamPromptsRequest(prompts=[types_pb2.Prompt(custom_id="n" * (5 * MIB), text="x")]))
        await call.done_writing()
        (result,) = [result async for message in call for result in message.results]
        assert (result.custom_id, result.error.field) == ("n" * 256, "custom_id")
