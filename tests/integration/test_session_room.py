"""Sessions at the bounds of the queue: what has no room is held back, and what is acknowledged gets its result."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from expresslane.servicers.session_line import HELD_BACK_BYTES, SessionLine
from expresslane.settings import TenantSettings
from expresslane_client import Client, Prompt
from expresslane_client.v1 import inference_pb2 as pb
from expresslane_client.v1 import types_pb2

from tests.integration.test_service_sessions import CONFIG, Raw, prompts
from tests.support.fake_backend import FakeBackend, Script
from tests.support.fake_backend.adapter import until
from tests.support.service import Service, backend

FAIL_FAST = pb.BatchConfig(failure_policy=pb.FAILURE_POLICY_FAIL_FAST)
RATE = pb.BatchConfig(max_failure_rate=0.1)
ABOVE = types_pb2.Prompt(custom_id="above", text="x", sampling=types_pb2.SamplingParams(max_tokens=5_000))
BAD = types_pb2.Prompt(custom_id="bad", text="x", extra_json="{")


def small(count: int) -> list[types_pb2.Prompt]:
    """Prompts that fit under a limit of 1,000 tokens per minute, not all of them at once."""
    sampling = types_pb2.SamplingParams(max_tokens=3)
    return [types_pb2.Prompt(custom_id=f"p{number}", text="x", sampling=sampling) for number in range(count)]


MESSAGES = {
    "above the limit, first": (FAIL_FAST, [ABOVE, *small(2)]),
    "above the limit, later": (FAIL_FAST, [*small(2), ABOVE]),
    "above the limit, then bad": (FAIL_FAST, [ABOVE, BAD, *small(1)]),
    "bad, then above the limit": (FAIL_FAST, [BAD, ABOVE, *small(1)]),
    "too many above the limit": (
        RATE,
        [*(types_pb2.Prompt(custom_id=str(n), text="x", sampling=ABOVE.sampling) for n in range(25)), *small(5)],
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
async def test_acknowledged_is_answered(case: str) -> None:
    """A prompt that ends its session in the middle of a message: each acknowledged one has its result (T16)."""
    config, sent = MESSAGES[case]
    async with FakeBackend() as fake, Service(fake=backend(fake.url, tokens_per_min=1_000)) as service:
        fake.on(lambda _: Script(before_headers=asyncio.Event()))
        session = Raw(service)
        await session.send(pb.StreamPromptsRequest(config=config), pb.StreamPromptsRequest(prompts=sent))
        seen = await session.until(lambda seen: seen.HasField("summary"))
        results = Counter(result.custom_id for result in seen.results)
        assert set(seen.accepted) <= set(results)
        assert max(results.values()) == 1
        assert seen.summary.total == len(seen.results) == seen.summary.failed + seen.summary.cancelled
        assert seen.summary.state == pb.BATCH_STATE_FAILED_FAST
        await service.app.scheduling.idle()
    assert len(results) < len(sent) or case == "above the limit, later"


def caller(service: Service) -> Client:
    """A client of the bounded tenant."""
    return Client(service.address, tenant="small")


async def stream(client: Client, name: str, count: int, **options: Any) -> Counter[tuple[str, str]]:
    """Outcomes and reasons of one session's prompts."""
    source = (Prompt(f"{name}{number}", "x" * 100) for number in range(count))
    async with client.stream_prompts(source, **options) as session:
        return Counter([(one.outcome.name, one.error.reason if one.error else "") async for one in session])


BOUNDS: dict[str, dict[str, Any]] = {
    "prompts of a tenant": {"tenants": {"small": TenantSettings(queue_limit_prompts=20)}},
    "bytes of a tenant": {"tenants": {"small": TenantSettings(queue_limit_bytes=2_000)}},
    "prompts of all": {"queue_limit_prompts": 20},
    "bytes of all": {"queue_limit_bytes": 2_000},
}


@pytest.mark.parametrize("bound", BOUNDS)
async def test_more_prompts_than_the_bound(bound: str) -> None:
    """Three sessions of fifteen times the bound each, at once: nothing is refused, and the bound holds (A07)."""
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url, cap=4), **BOUNDS[bound]) as service,
        caller(service) as client,
    ):
        counts = await asyncio.gather(*(stream(client, name, 300) for name in "abc"))
        assert counts == [Counter({("SUCCEEDED", ""): 300})] * 3
        assert service.app.scheduling.snapshot().refused == 0
        assert not service.app.intake.room._waiting


FULL = {"queue_limit_bytes": 1_024, "stream_credits": 10}


async def test_held_back_prompts_keep_their_order_and_can_be_cancelled() -> None:
    """One that is held back is cancelled before it is accepted; indexes are as sent; the end waits for all (T16)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1), **FULL) as service:
        fake.on(lambda _: Script(before_headers=gate))
        session = Raw(service)
        await session.send(CONFIG, prompts("a", text="x" * 600), prompts("b", "c", text="y" * 600), prompts("a"))
        last = prompts("bad", extra_json="{")
        last.no_more_prompts = True
        await session.send(last, pb.StreamPromptsRequest(cancel=["b"]))
        await fake.wait_for_generations(1)
        await until(lambda: bool(service.app.intake.room._waiting))
        seen = await session.until(lambda seen: len(seen.results) == 1)
        assert (list(seen.accepted), seen.results[0].custom_id) == (["a", "b"], "b")
        gate.set()
        seen = await session.until(lambda seen: seen.HasField("summary"))
        order = sorted((one.index, one.custom_id, one.error.reason) for one in seen.results)
        assert order == [
            (0, "a", ""),
            (1, "b", "CANCELLED"),
            (2, "c", ""),
            (3, "a", "DUPLICATE_CUSTOM_ID"),
            (4, "bad", "INVALID_JSON"),
        ]
        assert sorted(seen.accepted) == ["a", "b", "c"]
        assert (seen.summary.succeeded, seen.summary.failed, seen.summary.cancelled) == (2, 2, 1)


async def test_a_session_that_ends_with_prompts_held_back() -> None:
    """They are not acknowledged and never run; nobody waits for room any more (T16)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1), **FULL) as service:
        fake.on(lambda _: Script(status=400))
        session = Raw(service)
        sent = prompts("a", "b", "c", text="x" * 600)
        await session.send(pb.StreamPromptsRequest(config=FAIL_FAST), sent)
        seen = await session.until(lambda seen: seen.HasField("summary"))
        assert ([one.custom_id for one in seen.results], list(seen.accepted)) == (["a"], ["a"])
        assert (seen.summary.total, seen.summary.failed) == (1, 1)
        assert not service.app.intake.room._waiting
    assert len(fake.generations) == 1


async def test_a_caller_that_goes_with_prompts_held_back() -> None:
    """Nothing of it is left, and nobody waits for room any more."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1), **FULL) as service:
        fake.on(lambda _: Script(before_headers=asyncio.Event()))
        session = Raw(service)
        await session.send(CONFIG, prompts("a", "b", text="x" * 600))
        await until(lambda: bool(service.app.intake.room._waiting))
        session.call.cancel()
        await until(lambda: service.app.intake.open_batches == 0)
        assert not service.app.intake.room._waiting


async def test_a_prompt_that_never_fits_fails_alone() -> None:
    """It is above the bound of bytes by itself: it fails at once, for good, without advice to send it as it came."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1), **FULL) as service:
        session = Raw(service)
        sent = [
            types_pb2.Prompt(custom_id=name, text="x" * size) for name, size in (("a", 600), ("b", 2_000), ("c", 600))
        ]
        await session.send(CONFIG, pb.StreamPromptsRequest(prompts=sent))
        seen = await session.end()
        results = {one.custom_id: one for one in seen.results}
        assert {name: one.outcome for name, one in results.items()} == {
            "a": types_pb2.OUTCOME_SUCCEEDED,
            "b": types_pb2.OUTCOME_FAILED,
            "c": types_pb2.OUTCOME_SUCCEEDED,
        }
        error = results["b"].error
        assert (error.reason, error.retryable) == ("BATCH_TOO_LARGE", False)
        assert error.message.endswith("(1,024, EXPRESSLANE_QUEUE_LIMIT_BYTES)")


async def test_credits_are_within_the_bounds() -> None:
    """No more credits than prompts may wait, or wait and run of the tenant."""
    tenants = {"small": TenantSettings(queue_limit_prompts=7)}
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url), tenants=tenants, queue_limit_prompts=9) as service,
    ):
        for client, credits_given in ((caller(service), 7), (Client(service.address), 9)):
            async with client:
                call: Any = client.inference.StreamPrompts(metadata=client._call_metadata())
                await call.write(CONFIG)
                assert (await call.read()).credits == credits_given
                call.cancel()


async def test_a_session_that_fills_its_line_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more than a MiB held back the rest stays with the caller, and goes through when there is room."""
    lines: list[SessionLine] = []
    begin = SessionLine.__init__

    def noted(self: SessionLine, *arguments: Any) -> None:
        lines.append(self)
        begin(self, *arguments)

    monkeypatch.setattr(SessionLine, "__init__", noted)
    size = 300_000
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1), queue_limit_bytes=2 * size) as service:
        gate = asyncio.Event()
        fake.on(lambda _: Script(before_headers=gate))
        session = Raw(service)
        await session.send(CONFIG)
        sending = asyncio.ensure_future(session.send(*(prompts(str(n), text="x" * size) for n in range(20))))
        await fake.wait_for_generations(1)
        await until(lambda: lines[0]._bytes > HELD_BACK_BYTES)
        await service.client.list_backends()
        assert lines[0]._bytes <= HELD_BACK_BYTES + size + 100
        gate.set()
        await sending
        seen = await session.end()
        assert (seen.summary.total, seen.summary.succeeded, lines[0]._bytes) == (20, 20, 0)
