"""How a session ends: its caller has every result, the summary and a status of OK, whatever it still sends."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from expresslane import deadlines
from expresslane.errors import Reason, RefusedError
from expresslane.servicers.session import LAST_WORDS_S, Session
from expresslane.servicers.session_line import HELD_BACK_BYTES, SessionLine
from expresslane_client import RefusedError as CallRefusedError
from expresslane_client.v1 import inference_pb2 as pb
from expresslane_client.v1 import types_pb2

from tests.integration.test_service_sessions import ALL_SENT, CONFIG, Raw, prompts
from tests.support.fake_backend import FakeBackend, Script
from tests.support.fake_backend.adapter import until
from tests.support.service import Service, backend, simulated_service
from tests.support.virtual_prompts import now_s
from tests.support.virtual_service import VirtualBackend, VirtualService
from tests.support.virtual_sockets import virtual_sockets

FAIL_FAST = pb.StreamPromptsRequest(config=pb.BatchConfig(failure_policy=pb.FAILURE_POLICY_FAIL_FAST))
CANCEL = pb.StreamPromptsRequest(cancel=["b"])

LONG_S = "expresslane.servicers.session.LAST_WORDS_S", 30.0
"""For tests in real time, which may be slow: it must not be this that ends the session."""

ENDS: dict[str, tuple[list[pb.StreamPromptsRequest], pb.BatchState.ValueType]] = {
    "cut short": ([FAIL_FAST, prompts("a", "b")], pb.BATCH_STATE_FAILED_FAST),
    "cut short, all sent": ([FAIL_FAST, prompts("a", "b"), ALL_SENT], pb.BATCH_STATE_FAILED_FAST),
    "over": ([CONFIG, prompts("a", "b"), ALL_SENT], pb.BATCH_STATE_COMPLETED),
    "deadline": ([CONFIG], pb.BATCH_STATE_PARTIAL_DEADLINE),
}


def has_summary(seen: pb.StreamPromptsResponse) -> bool:
    """Whether the service has said its last word."""
    return seen.HasField("summary")


async def cut_short(service: Service, fake: FakeBackend) -> Raw:
    """A session that a failure has ended; its caller has the summary, and may send."""
    fake.script(Script(status=400))
    session = Raw(service)
    await session.send(FAIL_FAST, prompts("a", "b"))
    await session.until(has_summary)
    return session


@pytest.mark.parametrize("end", ENDS)
async def test_a_caller_that_sends_on(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a caller sends who does not know yet that its session is over is dropped, even what is wrong (A31).

    The session ends with the caller's input, and the call ends well.
    """
    monkeypatch.setattr(*LONG_S)
    for bound in ("MARGIN_MIN_S", "MARGIN_MAX_S"):
        monkeypatch.setattr(deadlines, bound, 59.9)
    messages, state = ENDS[end]
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        if "cut" in end:
            fake.script(Script(status=400))
        session = Raw(service, timeout_s=60.0 if end == "deadline" else None)
        await session.send(messages[0])
        granted = (await session.until(lambda seen: seen.credits)).credits
        await session.send(*messages[1:])
        seen = await session.until(has_summary)
        assert seen.credits == granted or end == "over", "what would be sent for them is dropped"
        await service.client.list_backends()  # by now the status would be here
        await session.send(prompts("c"), CANCEL, ALL_SENT, prompts("d"), CONFIG)
        await session.call.done_writing()
        assert await session.call.read() is grpc.aio.EOF
        assert await session.call.code() is grpc.StatusCode.OK
        assert seen.summary.state == state
        assert {one.custom_id for one in seen.results} == ({"a", "b"} if end != "deadline" else set())
        assert len(fake.generations) == (end == "over") + (end != "deadline")


@virtual_sockets
async def test_a_caller_that_does_not_end_its_input() -> None:
    """It is waited for once, from the summary on, whether it goes on sending or not."""
    async with VirtualBackend() as fake, VirtualService(fake=backend(fake.url, cap=1)) as service:
        for sends_after_s in (0.0, 0.6 * LAST_WORDS_S):
            session = await cut_short(service, fake)
            begun_s = now_s()
            await asyncio.sleep(sends_after_s)
            await session.send(prompts("c"))
            assert await session.call.read() is grpc.aio.EOF
            assert await session.call.code() is grpc.StatusCode.OK
            assert now_s() - begun_s == pytest.approx(LAST_WORDS_S)


@virtual_sockets
async def test_a_stopping_service_lets_it_end() -> None:
    """A caller that has its summary is not cut, though it never ends its input: its call ends well (T12)."""
    async with VirtualBackend() as fake, VirtualService(fake=backend(fake.url, cap=1)) as service:
        fake.on(lambda _: Script(before_headers=asyncio.Event()))
        session = Raw(service)
        await session.send(CONFIG, prompts("a"))
        await fake.wait_for_generations(1)
        stopping = asyncio.ensure_future(service.app.stop(0))
        seen = await session.until(has_summary)
        assert seen.summary.state == pb.BATCH_STATE_CANCELLED
        assert await session.call.code() is grpc.StatusCode.OK
        await stopping


@virtual_sockets
async def test_others_that_wait_do_not_end_it() -> None:
    """It gives way by itself: between summary and status it is not idle, and no refusal takes the summary's place."""
    async with VirtualBackend() as fake, VirtualService(fake=backend(fake.url, cap=1)) as service:
        session = await cut_short(service, fake)
        (holder,) = service.app.session_places._holders
        await asyncio.sleep(LAST_WORDS_S / 2)
        assert holder.idle_s() == 0.0
        holder.give_way(RefusedError(Reason.ARRIVING_FULL, "others wait"))
        assert await session.call.read() is grpc.aio.EOF
        assert await session.call.code() is grpc.StatusCode.OK


async def test_a_caller_that_is_not_read_for_want_of_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that is cut while it has too much held back to be read is read on, to its caller's end."""
    lines: list[SessionLine] = []
    begin = SessionLine.__init__

    def noted(self: SessionLine, *arguments: Any) -> None:
        lines.append(self)
        begin(self, *arguments)

    monkeypatch.setattr(SessionLine, "__init__", noted)
    monkeypatch.setattr(*LONG_S)
    size = 300_000
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1), queue_limit_bytes=2 * size) as service:
        gate = asyncio.Event()
        fake.on(lambda _: Script(before_headers=gate))
        full, session = Raw(service), Raw(service)
        await full.send(CONFIG, prompts("a", text="x" * size), prompts("b", text="x" * (size - 1_000)))
        await full.until(lambda seen: len(seen.accepted) == 2)
        await session.send(CONFIG)
        sending = asyncio.ensure_future(session.send(*(prompts(str(n), text="x" * size) for n in range(20))))
        await until(lambda: len(lines) == 2 and lines[1]._bytes > HELD_BACK_BYTES)
        await service.app.drain()  # nothing of it is unfinished
        seen = await session.until(has_summary)
        await sending
        assert await session.end() is seen
        assert (list(seen.accepted), list(seen.results), lines[1]._bytes) == ([], [], 0)
        gate.set()
        await full.until(has_summary)


async def test_what_the_deadline_finds_held_back_is_not_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the core's timer comes before the session's own: each acknowledged prompt has its result."""
    monkeypatch.setattr(Session, "_deadline", staticmethod(lambda _: None))
    for bound in ("MARGIN_MIN_S", "MARGIN_MAX_S"):
        monkeypatch.setattr(deadlines, bound, 17.0)
    options: dict[str, Any] = {"queue_limit_bytes": 1_024, "stream_credits": 10}
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1), **options) as service:
        fake.on(lambda _: Script(before_headers=asyncio.Event()))
        session = Raw(service, timeout_s=20.0)
        await session.send(CONFIG, prompts("a", "b", text="x" * 600))
        seen = await session.until(has_summary)
        assert (list(seen.accepted), [one.custom_id for one in seen.results]) == (["a"], ["a"])
        assert seen.results[0].outcome == types_pb2.OUTCOME_EXPIRED
        assert seen.summary.state == pb.BATCH_STATE_PARTIAL_DEADLINE


async def test_a_refused_session_has_no_good_end() -> None:
    """A session that breaks the protocol is told so by the client, with its reason, in the place of a summary."""
    async with (
        simulated_service(stream_credits=2) as service,
        service.client.stream_prompts(resume=False) as session,
    ):
        await session.send("a")
        assert (await anext(session)).custom_id == "0"
        session._credits += 1
        await session.send("b", "c", "d")
        with pytest.raises(CallRefusedError) as refused:
            _ = [one async for one in session]
        assert refused.value.reason == "CREDITS_EXCEEDED"
        with pytest.raises(RuntimeError, match="no summary"):
            _ = session.summary
