"""Calls that are refused: the status, the reason in its details, the field at fault, and nothing asked of a backend."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from expresslane.batches.held import Amount
from expresslane.settings import BackendSettings
from expresslane_client import Client, MessageTooLargeError, Outcome, Prompt, PromptClass, RefusedError
from expresslane_client.v1 import inference_pb2 as pb
from expresslane_client.v1 import types_pb2
from google.rpc import error_details_pb2
from grpc.aio import AioRpcError
from grpc_status.rpc_status import aio

from tests.support.fake_backend import FakeBackend, Script
from tests.support.service import Service, backend


def prompt(custom_id: str = "a", **fields: Any) -> types_pb2.Prompt:
    """A good prompt but for `fields`."""
    return types_pb2.Prompt(**({"custom_id": custom_id, "text": "hi"} | fields))


def batch(*prompts: types_pb2.Prompt, **config: Any) -> pb.GenerateBatchRequest:
    """A request."""
    return pb.GenerateBatchRequest(prompts=prompts, config=pb.BatchConfig(**config))


CASES = [
    (batch(), "EMPTY_BATCH", []),
    (batch(prompt(), prompt("")), "MISSING_CUSTOM_ID", ["prompts[1].custom_id"]),
    (batch(prompt(), prompt("b"), prompt()), "DUPLICATE_CUSTOM_ID", ["prompts[2].custom_id"]),
    (
        batch(prompt(), prompt(), prompt("c", text=""), prompt("c")),
        "DUPLICATE_CUSTOM_ID",
        ["prompts[1].custom_id", "prompts[2].text"],
    ),
    (batch(prompt(text="x" * 2_000)), "PROMPT_TOO_LARGE", ["prompts[0].text"]),
    (batch(prompt(extra_json="{")), "INVALID_JSON", ["prompts[0].extra_json"]),
    (batch(prompt(extra_json='{"model":"x"}')), "COLLIDING_KEY", ["prompts[0].extra_json"]),
    (
        batch(prompt("", sampling=types_pb2.SamplingParams(max_tokens=-1))),
        "MISSING_CUSTOM_ID",
        ["prompts[0].custom_id", "prompts[0].sampling.max_tokens"],
    ),
    (batch(prompt(), request_id="x" * 257), "INVALID_FIELD", ["config.request_id"]),
    (batch(prompt(), delivery=9), "INVALID_FIELD", ["config.delivery"]),
    (batch(prompt(), failure_policy=-1), "INVALID_FIELD", ["config.failure_policy"]),
    (batch(prompt(), max_failure_rate=1.5), "INVALID_FIELD", ["config.max_failure_rate"]),
    (batch(prompt(), max_failure_rate=float("nan")), "INVALID_FIELD", ["config.max_failure_rate"]),
    (batch(prompt(), reorder_window=-1), "INVALID_FIELD", ["config.reorder_window"]),
    (batch(prompt(), on_disconnect=pb.ON_DISCONNECT_KEEP), "INVALID_FIELD", ["config.on_disconnect"]),
    (batch(prompt(), keep_for={"seconds": 3_601}), "INVALID_FIELD", ["config.keep_for"]),
    (batch(prompt(), keep_for={"nanos": -1}), "INVALID_FIELD", ["config.keep_for"]),
    (batch(prompt(), on_disconnect=7), "INVALID_FIELD", ["config.on_disconnect"]),
    (batch(*[prompt(str(n)) for n in range(21)]), "BATCH_TOO_LARGE", []),
]


async def refusal(call: Any) -> tuple[grpc.StatusCode, error_details_pb2.ErrorInfo, list[str], bool, str]:
    """Code, ErrorInfo, fields at fault, whether there is RetryInfo, and the message of a refused call."""
    with pytest.raises(AioRpcError) as raised:
        await (anext(aiter(call)) if hasattr(call, "__aiter__") else call)
    status = await aio.from_call(call)
    assert status is not None
    info, bad, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    retries = False
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
        retries |= detail.Unpack(retry)
    details = raised.value.details() or ""
    return raised.value.code(), info, [one.field for one in bad.field_violations], retries, details


@pytest.mark.parametrize(
    ("request_", "reason", "fields"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_bad_batch(request_: pb.GenerateBatchRequest, reason: str, fields: list[str]) -> None:
    """A batch at fault is INVALID_ARGUMENT with reason, domain and every field; no prompt of it is run."""
    async with FakeBackend() as fake:
        settings = {"max_prompt_bytes": 1_000, "queue_limit_prompts": 20}
        async with Service(fake=backend(fake.url), **settings) as service:
            code, info, found, retries, details = await refusal(service.client.inference.GenerateBatch(request_))
            assert (code, info.reason, info.domain) == (grpc.StatusCode.INVALID_ARGUMENT, reason, "expresslane.dev")
            assert found == fields
            assert not retries
            assert (fields[0] in details) if fields else details
            if reason == "BATCH_TOO_LARGE":
                assert "StreamPrompts" in details
            assert (await service.client.get_snapshot()).submitted == 0
        assert fake.generations == []


async def test_many_violations() -> None:
    """A batch with a hundred bad prompts names some of them, not all, and says how many there are at least."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        bad = batch(*[prompt("") for _ in range(100)])
        _, _, fields, _, details = await refusal(service.client.inference.GenerateBatch(bad))
        assert fields == [f"prompts[{number}].custom_id" for number in range(20)]
        assert "more" in details


async def test_collect_and_generate_check_alike() -> None:
    """CollectBatch and Generate refuse the same prompt for the same reason; Generate needs no custom_id."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        stub = service.client.inference
        bad = prompt(text="")
        code, info, fields, _, _ = await refusal(stub.CollectBatch(pb.CollectBatchRequest(prompts=[bad])))
        assert (code.name, info.reason, fields) == ("INVALID_ARGUMENT", "INVALID_FIELD", ["prompts[0].text"])
        code, info, fields, _, _ = await refusal(stub.Generate(pb.GenerateRequest(prompt=bad)))
        assert (code.name, info.reason, fields) == ("INVALID_ARGUMENT", "INVALID_FIELD", ["prompt.text"])
        code, _, fields, _, _ = await refusal(stub.Generate(pb.GenerateRequest()))
        assert (code.name, fields) == ("INVALID_ARGUMENT", ["prompt"])
        answers = [one async for one in stub.Generate(pb.GenerateRequest(prompt=prompt("")))]
        assert answers[-1].result.outcome == types_pb2.OUTCOME_SUCCEEDED
        assert {answers[-1].result.custom_id} | {delta.custom_id for one in answers for delta in one.deltas} == {""}
        long = pb.GenerateRequest(prompt=prompt(), request_id="x" * 257)
        code, info, fields, _, _ = await refusal(stub.Generate(long))
        assert (code.name, info.reason, fields) == ("INVALID_ARGUMENT", "INVALID_FIELD", ["request_id"])


async def test_queue_full() -> None:
    """A batch that does not fit now is refused whole, at once, with the time to come back; the rest goes on (A07)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake:
        async with Service(fake=backend(fake.url, cap=1), queue_limit_prompts=10) as service:
            fake.on(lambda _: Script(before_headers=gate))
            running = service.client.generate_batch([Prompt(str(n), "x") for n in range(10)])
            waiting = asyncio.ensure_future(anext(running))
            await fake.wait_for_generations(1)
            late = batch(*[prompt(str(n)) for n in range(5)])
            code, info, _, retries, details = await refusal(service.client.inference.GenerateBatch(late))
            assert (code, info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
            assert details.endswith("of 10 places are taken (EXPRESSLANE_QUEUE_LIMIT_PROMPTS)")
            assert retries
            with pytest.raises(RefusedError) as raised:
                await service.client.collect_batch([Prompt(str(n), "x", max_tokens=1) for n in range(5)])
            assert raised.value.retry_after_s is not None
            assert raised.value.retry_after_s > 0
            gate.set()
            results = [await waiting] + [result async for result in running]
            assert {result.outcome for result in results} == {Outcome.SUCCEEDED}
        assert len(fake.generations) == 10


async def test_queue_too_long() -> None:
    """With a bound in time a call that would wait longer is refused, by the rate that was measured, before it waits."""
    slow = {"kind": "simulated", "cap": 1, "simulated": {"step_s": 0.01, "output_tokens": 10}}
    async with Service(slow=BackendSettings.model_validate(slow), queue_limit_s=1.0) as service:
        running = service.client.generate_batch([Prompt(str(number), "x") for number in range(60)])
        for _ in range(20):
            await anext(running)
        code, info, _, retries, details = await refusal(service.client.inference.GenerateBatch(batch(prompt())))
        assert (code, info.reason, retries) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", True)
        assert details.endswith("more than the 1.0 s that prompts may wait (EXPRESSLANE_QUEUE_LIMIT_S)")
        many = batch(*[prompt(str(number)) for number in range(60)])
        code, info, _, retries, details = await refusal(service.client.inference.GenerateBatch(many))
        assert (code, info.reason, retries) == (grpc.StatusCode.INVALID_ARGUMENT, "BATCH_TOO_LARGE", False)
        assert details.endswith("that prompts may wait (EXPRESSLANE_QUEUE_LIMIT_S); send it through StreamPrompts")
        async with service.client.stream_prompts([Prompt("a", "x", prompt_class=PromptClass.INTERACTIVE)]) as session:
            assert [result.outcome async for result in session] == [Outcome.SUCCEEDED]
        await running.cancel()


async def test_queue_full_of_bytes() -> None:
    """Prompts are refused by their size too: in all until some have ended, and a batch that could never fit."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url), queue_limit_bytes=10_000) as service:
        stub = service.client.inference
        code, info, _, retries, details = await refusal(
            stub.GenerateBatch(batch(prompt(text="x" * 6_000), prompt("b", text="x" * 6_000)))
        )
        assert (code.name, info.reason, retries) == ("INVALID_ARGUMENT", "BATCH_TOO_LARGE", False)
        assert "StreamPrompts" in details
        for _ in range(3):
            gate.clear()
            fake.on(lambda _: Script(before_headers=gate))
            held = prompt(tools_json=f'["{"x" * 6_000}"]', extra_json='{"a":1}')
            running = asyncio.ensure_future(stub.CollectBatch(pb.CollectBatchRequest(prompts=[held])))
            await fake.wait_for_generations(len(fake.generations) + 1)
            code, info, _, retries, _ = await refusal(stub.GenerateBatch(batch(prompt(text="x" * 5_000))))
            assert (code.name, info.reason, retries) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL", True)
            gate.set()
            assert (await running).summary.succeeded == 1
        assert service.app.intake._held.total == Amount()


async def test_too_many_open_calls() -> None:
    """The number of open calls is bounded too."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url), max_open_batches=1) as service:
        fake.on(lambda _: Script(before_headers=gate))
        running = service.client.generate_batch(["x"])
        waiting = asyncio.ensure_future(anext(running))
        await fake.wait_for_generations(1)
        code, info, _, retries, _ = await refusal(service.client.inference.GenerateBatch(batch(prompt())))
        assert (code, info.reason, retries) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", True)
        gate.set()
        assert (await waiting).ok


async def test_message_over_the_limit() -> None:
    """A message above the size limit is RESOURCE_EXHAUSTED and names the limit; the connection lives on."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url), max_message_bytes=10_000) as service:
        with pytest.raises(MessageTooLargeError, match="larger than max"):
            async for _ in service.client.generate_batch([Prompt("a", "x" * 20_000)]):
                pass
        with pytest.raises(MessageTooLargeError, match="larger than max"):
            await service.client.collect_batch([Prompt("a", "x" * 20_000, max_tokens=1)])
        assert [result.ok async for result in service.client.generate_batch(["x"])] == [True]
        assert len(fake.generations) == 1


async def test_bytes_that_are_no_message() -> None:
    """Bytes that are no request are refused and hurt nobody else."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        for method in ("GenerateBatch", "StreamPrompts"):
            send: Any = service.client.channel.stream_stream(f"/expresslane.v1.Inference/{method}")
            call = send()
            await call.write(b"\xff\xff\xff")
            assert (await call.code()).name == "INVALID_ARGUMENT"
            assert "Traceback" not in (await call.details() or "")
        assert [result.ok async for result in service.client.generate_batch(["x"])] == [True]


async def test_a_call_without_a_message() -> None:
    """A call that sends nothing is told so."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        send: Any = service.client.channel.stream_stream("/expresslane.v1.Inference/GenerateBatch")
        call = send()
        await call.done_writing()
        assert (await call.code()).name == "INVALID_ARGUMENT"


async def test_refusals_are_counted_by_reason() -> None:
    """Refused at admission, in-band or as a whole, by a call, a job or a session; and calls without prompts (A28)."""
    async with FakeBackend() as fake:
        tenants = {"small": {"max_class": "batch", "models": ("other-*",)}}
        async with Service(fake=backend(fake.url), queue_limit_prompts=3, tenants=tenants) as service:
            client = service.client
            async with client.generate_batch([Prompt("a", "hi", model="none"), Prompt("b", "hi")]) as call:
                assert [result.ok async for result in call].count(False) == 1
            async with client.stream_prompts([Prompt("a", "hi", model="none")]) as session:
                assert [result.ok async for result in session] == [False]
            async with Client(service.address, tenant="small") as theirs:
                urgent = [Prompt(custom_id, "hi", prompt_class=PromptClass.INTERACTIVE) for custom_id in "ab"]
                with pytest.raises(RefusedError, match="may use BATCH"):
                    await theirs.collect_batch(urgent)
                with pytest.raises(RefusedError, match="may use BATCH"):
                    await theirs.create_job(urgent)
                collected = await theirs.collect_batch([Prompt("a", "hi", prompt_class=PromptClass.BATCH)])
                assert collected.results[0].error is not None
            with pytest.raises(RefusedError, match="StreamPrompts"):
                await client.collect_batch([Prompt(str(number), "hi") for number in range(4)])
            async with Client(service.address, tenant="No Name") as nobody:
                with pytest.raises(RefusedError):
                    await nobody.collect_batch([Prompt("a", "hi")])
            snapshot = await client.get_snapshot()
    by_reason = {"UNKNOWN_MODEL": 2, "CLASS_NOT_ALLOWED": 4, "MODEL_NOT_PERMITTED": 1, "BATCH_TOO_LARGE": 4}
    assert snapshot.refused_by_reason == by_reason
    assert (snapshot.refused, snapshot.submitted) == (11, 1)
    assert snapshot.calls_refused_by_reason == {"INVALID_FIELD": 1}
