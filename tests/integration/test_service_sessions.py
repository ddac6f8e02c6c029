"""StreamPrompts: credits, acknowledgements, cancels that overtake prompts, and every way to break the protocol."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from expresslane.servicers.decode import PromptDecoder
from expresslane_client import BatchState, Outcome, Prompt, SessionEndedError
from expresslane_client.v1 import inference_pb2 as pb
from expresslane_client.v1 import types_pb2
from google.rpc import error_details_pb2
from grpc_status.rpc_status import aio

from tests.support.fake_backend import FakeBackend, Script
from tests.support.service import Service, backend
from tests.support.virtual_service import VirtualBackend, VirtualService
from tests.support.virtual_sockets import virtual_sockets


def prompts(*custom_ids: str, **fields: Any) -> pb.StreamPromptsRequest:
    """A message of prompts, each with its custom_id as text."""
    return pb.StreamPromptsRequest(
        prompts=[types_pb2.Prompt(**({"custom_id": one, "text": one or "x"} | fields)) for one in custom_ids]
    )


CONFIG = pb.StreamPromptsRequest(config=pb.BatchConfig())


class Raw:
    """A session driven message by message."""

    def __init__(self, service: Service, *, timeout_s: float | None = None) -> None:
        self.call: Any = service.client.inference.StreamPrompts(timeout=timeout_s)
        self.seen = pb.StreamPromptsResponse()

    async def send(self, *messages: pb.StreamPromptsRequest) -> None:
        """Send messages."""
        for message in messages:
            await self.call.write(message)

    async def until(self, condition: Any) -> pb.StreamPromptsResponse:
        """Read until what has been seen so far meets the condition; all of it merged."""
        while not condition(self.seen):
            message = await self.call.read()
            assert message is not grpc.aio.EOF, "the session ended early"
            credits_now = self.seen.credits + message.credits
            self.seen.MergeFrom(message)
            self.seen.credits = credits_now
        return self.seen

    async def end(self) -> pb.StreamPromptsResponse:
        """Half-close, and read to the end."""
        await self.call.done_writing()
        await self.until(lambda seen: seen.HasField("summary"))
        assert await self.call.read() is grpc.aio.EOF
        assert await self.call.code() is grpc.StatusCode.OK
        return self.seen

    async def refusal(self) -> tuple[str, str]:
        """Code and reason of a session that the service ends."""
        with pytest.raises(grpc.aio.AioRpcError):
            await self.until(lambda _: False)
        code = await self.call.code()
        status = await aio.from_call(self.call)
        assert status is not None
        info = error_details_pb2.ErrorInfo()
        status.details[0].Unpack(info)
        return code.name, info.reason


async def test_a_session() -> None:
    """Credits are granted at once and for each result, prompts acknowledged, and half-closing brings the summary."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url), stream_credits=5) as service:
        session = Raw(service)
        await session.send(CONFIG)
        await session.until(lambda seen: seen.credits == 5)
        await session.send(prompts("a", "b"), prompts("c"))
        seen = await session.until(lambda seen: len(seen.results) == 3)
        assert sorted(seen.accepted) == ["a", "b", "c"]
        assert seen.credits == 8
        await session.send(prompts("a"))
        seen = await session.end()
        assert [result.index for result in sorted(seen.results, key=lambda one: one.index)] == [0, 1, 2, 3]
        assert {result.choices[0].text for result in seen.results} == {"echo a", "echo b", "echo c"}
        assert (seen.summary.total, seen.summary.succeeded) == (4, 4)
        assert seen.summary.state == pb.BATCH_STATE_COMPLETED


async def test_an_empty_session() -> None:
    """A session without a prompt ends at once, with a summary of zeros (A14)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        session = Raw(service)
        await session.send(CONFIG)
        seen = await session.end()
        assert (seen.summary.total, seen.summary.speed_up) == (0, 0)
        assert not seen.results


async def test_the_client_respects_credits() -> None:
    """The Python client sends thousands of prompts through 8 credits; never more than those are unfinished."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=50), stream_credits=8) as service:
        source = (Prompt(str(number), str(number)) for number in range(2_000))
        async with service.client.stream_prompts(source) as session:
            results = [result async for result in session]
        assert {(one.custom_id, one.text) for one in results} == {(str(n), f"echo {n}") for n in range(2_000)}
        assert session.summary.succeeded == 2_000
        assert fake.peak <= 8


async def test_cancels_do_not_queue_behind_prompts() -> None:
    """With every credit used up and the backend stuck, a cancel is read and takes effect at once."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1), stream_credits=3) as service:
        fake.on(lambda _: Script(before_headers=asyncio.Event()))
        session = Raw(service)
        await session.send(CONFIG, prompts("running"))
        (request,) = await fake.wait_for_generations(1)
        await session.send(prompts("waiting", "last"))
        await session.send(pb.StreamPromptsRequest(cancel=["waiting", "unknown", "running"]))
        seen = await session.until(lambda seen: len(seen.results) == 2)
        assert {one.custom_id for one in seen.results} == {"running", "waiting"}
        assert {one.outcome for one in seen.results} == {types_pb2.OUTCOME_CANCELLED}
        await request.cancelled.wait()
        await fake.wait_for_generations(2)
        await session.send(pb.StreamPromptsRequest(cancel=["last", "running"]))
        seen = await session.end()
        assert len(seen.results) == 3
        assert seen.summary.cancelled == 3


async def test_cancels_after_the_last_prompt() -> None:
    """`no_more_prompts` leaves the way open for cancels, and ends the session after the last result."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.on(lambda _: Script(before_headers=asyncio.Event()))
        session = Raw(service)
        last = prompts("b", "c")
        last.no_more_prompts = True
        await session.send(CONFIG, prompts("a"), last)
        await fake.wait_for_generations(1)
        await session.send(pb.StreamPromptsRequest(cancel=["b", "a"]))
        seen = await session.until(lambda seen: len(seen.results) == 2)
        assert {one.outcome for one in seen.results} == {types_pb2.OUTCOME_CANCELLED}
        await session.send(pb.StreamPromptsRequest(cancel=["c"]))
        seen = await session.until(lambda seen: seen.HasField("summary"))
        assert (seen.summary.total, seen.summary.cancelled) == (3, 3)
        assert await session.call.code() is grpc.StatusCode.OK


async def test_the_client_cancels_after_done_sending() -> None:
    """`cancel` does after `done_sending` what it did before; of a session that has ended it asks for nothing."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.on(lambda request: Script(before_headers=asyncio.Event()) if b"stuck" in request.body else None)
        async with service.client.stream_prompts() as session:
            await session.send(Prompt("a", "stuck"), Prompt("b", "quick"), Prompt("c", "stuck too"))
            await session.done_sending()
            with pytest.raises(SessionEndedError, match="after done_sending"):
                await session.send("d")
            await fake.wait_for_generations(1)
            await session.cancel("a", "c", "unknown")
            results = {result.custom_id: result.outcome async for result in session}
            assert results == {"a": Outcome.CANCELLED, "b": Outcome.SUCCEEDED, "c": Outcome.CANCELLED}
            await session.cancel("a")
            assert (session.summary.succeeded, session.summary.cancelled) == (1, 2)


ALL_SENT = pb.StreamPromptsRequest(no_more_prompts=True)
VIOLATIONS = {
    "prompts first": ([prompts("a")], "PROTOCOL_VIOLATION"),
    "cancel first": ([pb.StreamPromptsRequest(cancel=["a"])], "PROTOCOL_VIOLATION"),
    "nothing in the first": ([pb.StreamPromptsRequest()], "PROTOCOL_VIOLATION"),
    "prompts beside the configuration": (
        [pb.StreamPromptsRequest(config=pb.BatchConfig(), prompts=prompts("a").prompts)],
        "PROTOCOL_VIOLATION",
    ),
    "no more prompts beside the configuration": (
        [pb.StreamPromptsRequest(config=pb.BatchConfig(), no_more_prompts=True)],
        "PROTOCOL_VIOLATION",
    ),
    "configuration twice": ([CONFIG, CONFIG], "PROTOCOL_VIOLATION"),
    "configuration at fault": (
        [pb.StreamPromptsRequest(config=pb.BatchConfig(max_failure_rate=-1))],
        "INVALID_FIELD",
    ),
}


@pytest.mark.parametrize("case", VIOLATIONS)
async def test_protocol_violation(case: str) -> None:
    """Messages out of order end the session with INVALID_ARGUMENT, and nothing is run."""
    messages, reason = VIOLATIONS[case]
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        session = Raw(service)
        await session.send(*messages)
        assert await session.refusal() == ("INVALID_ARGUMENT", reason)
        assert fake.generations == []


async def test_prompts_after_the_last() -> None:
    """Prompts after `no_more_prompts` end the session, and what it had is cancelled."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.on(lambda _: Script(before_headers=asyncio.Event()))
        session = Raw(service)
        await session.send(CONFIG, prompts("a"), ALL_SENT)
        (request,) = await fake.wait_for_generations(1)
        await session.send(prompts("b"))
        assert await session.refusal() == ("INVALID_ARGUMENT", "PROTOCOL_VIOLATION")
        await request.cancelled.wait()
        assert len(fake.generations) == 1


async def test_a_session_that_sends_nothing() -> None:
    """Half-closing before the configuration is a violation too."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        session = Raw(service)
        await session.call.done_writing()
        assert await session.refusal() == ("INVALID_ARGUMENT", "PROTOCOL_VIOLATION")


async def test_more_prompts_than_credits() -> None:
    """One prompt above the credits ends the session, cancels its work, and says what to wait for."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1), stream_credits=2) as service:
        fake.on(lambda _: Script(before_headers=asyncio.Event()))
        session = Raw(service)
        await session.send(CONFIG, prompts("a", "b"))
        (request,) = await fake.wait_for_generations(1)
        await session.send(prompts("c"))
        assert await session.refusal() == ("RESOURCE_EXHAUSTED", "CREDITS_EXCEEDED")
        assert "credits" in await session.call.details()
        await request.cancelled.wait()


IN_BAND = [
    (prompts("dup"), "DUPLICATE_CUSTOM_ID", "custom_id", types_pb2.OUTCOME_FAILED),
    (prompts(""), "MISSING_CUSTOM_ID", "custom_id", types_pb2.OUTCOME_FAILED),
    (prompts("bad", extra_json="{"), "INVALID_JSON", "extra_json", types_pb2.OUTCOME_FAILED),
    (prompts("bad", text=""), "INVALID_FIELD", "text", types_pb2.OUTCOME_FAILED),
    (prompts("bad", model="none"), "UNKNOWN_MODEL", "model", types_pb2.OUTCOME_FAILED),
]


@pytest.mark.parametrize(("bad", "reason", "field", "outcome"), IN_BAND, ids=lambda value: str(value)[:20])
async def test_bad_prompt_fails_alone(
    bad: pb.StreamPromptsRequest, reason: str, field: str, outcome: types_pb2.Outcome.ValueType
) -> None:
    """A prompt at fault fails in-band, gives its credit back, and hurts no other of the session."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.on(lambda _: Script(before_headers=gate))
        session = Raw(service)
        await session.send(CONFIG, prompts("dup"), bad)
        seen = await session.until(lambda seen: len(seen.results) == 1)
        (result,) = seen.results
        assert (result.index, result.outcome) == (1, outcome)
        assert (result.error.reason, result.error.field) == (reason, field)
        assert seen.credits == service.settings.stream_credits + 1
        gate.set()
        seen = await session.end()
        assert (seen.summary.succeeded, seen.summary.failed, seen.summary.total) == (1, 1, 2)


async def test_a_defect_while_decoding_fails_one_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt that the service cannot even look at fails with INTERNAL; the session goes on."""
    decode = PromptDecoder.decode

    def broken(self: PromptDecoder, message: Any, path: str, **more: Any) -> Any:
        if message.custom_id == "bad":
            raise RecursionError
        return decode(self, message, path, **more)

    monkeypatch.setattr(PromptDecoder, "decode", broken)
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        session = Raw(service)
        await session.send(CONFIG, prompts("a", "bad", "b"))
        seen = await session.end()
        assert {one.custom_id: one.error.reason for one in seen.results} == {"a": "", "bad": "INTERNAL", "b": ""}
        assert (seen.summary.succeeded, seen.summary.failed) == (2, 1)


async def test_deep_json_fails_one_prompt() -> None:
    """JSON nested a thousand deep is refused with its field, and hurts no other prompt of the session."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        session = Raw(service)
        deep = '{"a":' + "[" * 1_015 + "]" * 1_015 + "}"
        await session.send(CONFIG, prompts("a"), prompts("deep", extra_json=deep))
        seen = await session.end()
        errors = {one.custom_id: (one.error.reason, one.error.field) for one in seen.results}
        assert errors == {"a": ("", ""), "deep": ("INVALID_JSON", "extra_json")}


async def test_messages_without_prompts_do_not_put_off_heartbeats() -> None:
    """However fast a caller sends cancels and empty messages, the silence it sees is never longer than asked for."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url), heartbeat_s=0.05) as service:
        fake.on(lambda _: Script(before_headers=asyncio.Event()))
        session = Raw(service)
        await session.send(CONFIG, prompts("a"))

        async def chatter() -> None:
            while True:
                await session.send(pb.StreamPromptsRequest(), pb.StreamPromptsRequest(cancel=["unknown"]))

        chattering = asyncio.ensure_future(chatter())
        async with asyncio.timeout(10):
            await session.until(lambda seen: any(event.HasField("progress") for event in seen.events))
        chattering.cancel()


async def test_a_failure_ends_a_fail_fast_session() -> None:
    """In a FAIL_FAST session the first failure cancels the rest and ends it with its summary (T16)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=2)) as service:
        fake.on(
            lambda request: Script(status=400) if b"bad" in request.body else Script(before_headers=asyncio.Event())
        )
        async with service.client.stream_prompts(fail_fast=True) as session:
            await session.send(Prompt("a", "slow"), Prompt("b", "bad"), Prompt("c", "slow"))
            results = {result.custom_id: result.outcome async for result in session}
        assert results == {"a": Outcome.CANCELLED, "b": Outcome.FAILED, "c": Outcome.CANCELLED}
        assert session.summary.state is BatchState.FAILED_FAST


async def test_too_many_failures_end_a_session() -> None:
    """A session with a failure rate ends by itself once too many failed, and by that rate when its input ends (T16)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.on(lambda _: Script(status=400))
        async with service.client.stream_prompts(max_failure_rate=0.1) as session:
            await session.send(*[Prompt(f"p{number}", "x") for number in range(100)])
            outcomes = [result.outcome async for result in session]
        assert (outcomes.count(Outcome.FAILED), outcomes.count(Outcome.CANCELLED)) == (20, 80)
        assert session.summary.state is BatchState.FAILED_FAST
        async with service.client.stream_prompts(max_failure_rate=0.1) as session:
            await session.send(*[Prompt(f"p{number}", "x") for number in range(10)])
            outcomes = [(await anext(session)).outcome for _ in range(10)]
            await session.done_sending()
            assert [one async for one in session] == []
        assert set(outcomes) == {Outcome.FAILED}
        assert session.summary.state is BatchState.FAILED_FAST


@virtual_sockets
async def test_the_deadline_of_a_session() -> None:
    """A session near its deadline ends in-band: what had finished is kept, the rest expires, the status is OK.

    A caller that does not end its input is not waited for beyond the deadline.
    """
    async with VirtualBackend() as fake, VirtualService(fake=backend(fake.url)) as service:
        fake.on(lambda request: Script(before_headers=asyncio.Event()) if b"slow" in request.body else None)
        for texts, expired in ((("quick",), 0), (("quick", "slow"), 1)):
            session = Raw(service, timeout_s=0.8)
            await session.send(CONFIG, prompts(*texts))
            seen = await session.until(lambda seen: seen.HasField("summary"))
            assert seen.summary.state == pb.BATCH_STATE_PARTIAL_DEADLINE
            assert (seen.summary.succeeded, seen.summary.expired) == (1, expired)
            assert await session.call.code() is grpc.StatusCode.OK


async def test_in_order_session() -> None:
    """A session too can have its results in the order in which its prompts were sent."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url), reorder_window=4) as service:
        fake.on(lambda request: Script(before_headers=gate) if b'"0"' in request.body else None)
        async with service.client.stream_prompts(in_order=True) as session:
            await session.send(*[Prompt(str(number), str(number)) for number in range(10)])
            for request in (await fake.wait_for_generations(4))[1:4]:
                await request.answered.wait()
            gate.set()
            await session.done_sending()
            assert [result.index async for result in session] == list(range(10))
