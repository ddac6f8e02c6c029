"""The client after a lost connection: every prompt exactly one result, whatever became of the service."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from expresslane_client import (
    BatchState,
    Client,
    Outcome,
    RefusedError,
    Resume,
    Resuming,
    UnavailableError,
)

from tests.support.fake_backend import FakeBackend, Script, SeenRequest
from tests.support.fake_backend.adapter import until
from tests.support.relay import Relay
from tests.support.resuming import SOON, asked, numbered
from tests.support.service import Service, backend
from tests.support.stub_server import Refusal, StubService, serve_stub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def gated(gate: asyncio.Event) -> Any:
    """Hold back whatever has `stuck` in it."""

    def decide(request: SeenRequest) -> Script | None:
        return Script(before_headers=gate) if b"stuck" in request.body else None

    return decide


@asynccontextmanager
async def scene(gate: asyncio.Event) -> AsyncIterator[tuple[FakeBackend, Relay]]:
    """A service with two slots at a backend that holds back what is stuck, behind a network that can be cut."""
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url, cap=2)) as service,
        Relay(service.address) as relay,
    ):
        fake.on(gated(gate))
        yield fake, relay


@pytest.mark.parametrize("way", ["batch", "session"])
async def test_times_of_what_was_sent_again_count_from_its_first_sending(
    client: Client, service: StubService, way: str
) -> None:
    """The summary's waits hold what was lost as well: the pause at least; what came before the loss is as it was."""
    service.break_after = 2
    told: list[Resuming] = []
    resume = Resume(pause_s=0.1)
    ask = client.generate_batch if way == "batch" else client.stream_prompts
    async with ask(numbered(3), resume=resume, on_resume=told.append) as call:
        results = [result async for result in call]
    summary = call.summary
    lost_ms = sum(one.pause_s for one in told) * 1e3
    assert {one.total_ms for one in results} == {50.0}
    assert (summary.total.count, summary.total.p50_ms) == (3, 50.0)
    assert lost_ms + 50.0 <= summary.total.max_ms <= summary.wall_ms + 50.0
    assert lost_ms + 30.0 <= summary.ttft.max_ms
    assert lost_ms + 10.0 <= summary.queue_wait.max_ms


async def test_a_kept_batch_that_is_found_again_keeps_its_times(client: Client, service: StubService) -> None:
    """The service has gone on with it: its times begin where the batch did, not where it was asked for again."""
    service.break_after = 2
    service.keeps = True
    async with client.generate_batch(numbered(3), resume=Resume(pause_s=0.1), keep_s=60, request_id="r") as call:
        assert len([result async for result in call]) == 3
    assert call.summary.total.max_ms == 50.0


async def test_only_what_is_unfinished_is_asked_for_again(client: Client, service: StubService) -> None:
    """Each call asks for less; results come once, with their places in the whole batch; the summary counts all."""
    service.break_after = 2
    service.failing = {"p3"}
    told: list[Resuming] = []
    call = client.generate_batch(numbered(5), resume=SOON, on_resume=told.append, request_id="r")
    results = await call.collect()
    assert [(one.custom_id, one.index) for one in results] == [(f"p{n}", n) for n in (4, 3, 2, 1, 0)]
    assert [one.text for one in results if one.ok] == [f"echo text {n}" for n in (4, 2, 1, 0)]
    assert asked(service) == [["p0", "p1", "p2", "p3", "p4"], ["p0", "p1", "p2"], ["p0"]]
    assert [(one.unfinished, one.total, one.attempt) for one in told] == [(3, 5, 1), (1, 5, 1)]
    summary = call.summary
    assert (summary.request_id, summary.state) == ("r", BatchState.COMPLETED)
    assert (summary.total_prompts, summary.succeeded, summary.failed) == (5, 4, 1)
    assert dict(summary.reasons) == {"BACKEND_UNREACHABLE": 1}
    assert (summary.queue_wait.count, summary.ttft.count, summary.total.count) == (5, 4, 4)
    assert (summary.sequential_estimate_ms, summary.usage.output_tokens) == (160.0, 8)
    assert summary.ttft.p50_ms >= 30.0 + told[0].pause_s * 1e3


async def test_in_order(client: Client, service: StubService) -> None:
    """In-order delivery stays in order over a lost connection."""
    service.break_after = 2
    results = await client.generate_batch(numbered(5), in_order=True, resume=SOON).collect()
    assert [one.index for one in results] == [0, 1, 2, 3, 4]


async def test_when_only_the_summary_is_lost(client: Client, service: StubService) -> None:
    """With all results there, nothing is asked for again, and the summary is counted from them."""
    service.break_after = 3
    call = client.generate_batch(numbered(3), resume=SOON)
    assert len(await call.collect()) == 3
    assert (len(service.requests), call.summary.succeeded, call.summary.state) == (1, 3, BatchState.COMPLETED)


async def test_attempts_are_bounded(client: Client, service: StubService) -> None:
    """A service that never gets on is given up after so many attempts, with the error of the last."""
    service.break_after = 0
    told: list[Resuming] = []
    bounds = Resume(attempts=3, pause_s=0.001)
    with pytest.raises(UnavailableError, match="connection broke"):
        await client.generate_batch(["a"], resume=bounds, on_resume=told.append).collect()
    assert ([one.attempt for one in told], len(service.requests)) == ([1, 2, 3], 4)


async def test_time_is_bounded(client: Client, service: StubService) -> None:
    """A pause that would end after `time_s`, or after the call's own timeout, is not begun."""
    service.break_after = 0
    for time_s, timeout_s in ((5, None), (500, 5)):
        bounds = Resume(time_s=time_s, pause_s=60, pause_max_s=60)
        with pytest.raises(UnavailableError):
            await client.generate_batch(["a"], resume=bounds, timeout_s=timeout_s).collect()
    assert len(service.requests) == 2


async def test_nothing_is_resumed_before_it_was_accepted(service: StubService) -> None:
    """Where no service answers the first call fails at once; so does a refusal."""
    told: list[Resuming] = []
    async with Client("127.0.0.1:1") as nobody:
        with pytest.raises(UnavailableError):
            await nobody.generate_batch(["a"], resume=SOON, on_resume=told.append).collect()
    service.refusal = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", "QUEUE_FULL")
    async with serve_stub(service) as address, Client(address) as client:
        with pytest.raises(RefusedError):
            await client.generate_batch(["a"], resume=SOON, on_resume=told.append).collect()
    assert told == []


async def test_failure_rules_hold_over_the_loss(client: Client, service: StubService) -> None:
    """A FAIL_FAST batch with a failure is not resumed; the rest of one with a rate may fail as often as is left."""
    service.break_after = 2
    service.failing = {"p3"}
    with pytest.raises(UnavailableError):
        await client.generate_batch(numbered(5), fail_fast=True, resume=SOON).collect()
    assert len(service.requests) == 1
    await client.generate_batch(numbered(5), max_failure_rate=0.4, resume=SOON).collect()
    rates = [one.config.max_failure_rate for one in service.requests[1:]]  # type: ignore[attr-defined]
    assert rates == pytest.approx([0.4, 1 / 3, 1.0])


async def test_deltas_are_not_begun_anew_unasked(client: Client, service: StubService) -> None:
    """With deltas a lost connection is an error, unless resuming is asked for; then finished output is not repeated."""
    service.break_after = 1
    with pytest.raises(UnavailableError):
        await client.generate_batch(numbered(2), on_delta=lambda _: None).collect()
    seen: list[str] = []
    call = client.generate_batch(numbered(2), on_delta=lambda one: seen.append(one.custom_id), resume=SOON)
    assert len(await call.collect()) == 2
    assert seen == ["p1", "p0"]


async def test_cancelling_ends_the_pause(client: Client, service: StubService) -> None:
    """A batch that waits for its service is cancelled at once."""
    service.break_after = 0
    pausing = asyncio.Event()
    call = client.generate_batch(["a"], resume=Resume(pause_s=60, pause_max_s=60), on_resume=lambda _: pausing.set())
    reading = asyncio.ensure_future(call.collect())
    await pausing.wait()
    await call.cancel()
    assert (await reading, call.cancelled, len(service.requests)) == ([], True, 1)


async def test_a_kept_batch_is_attached_to() -> None:
    """With keep_s a service that survives is asked for the same batch: nothing is run twice, nothing comes twice."""
    gate = asyncio.Event()
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url, cap=2)) as service,
        Relay(service.address) as relay,
    ):
        fake.on(gated(gate))
        async with Client(relay.address) as client:
            texts = ["a", "b", "stuck " * 9, "stuck " * 19, "stuck " * 29]
            call = client.generate_batch(texts, keep_s=60, resume=SOON)
            results = [await anext(call), await anext(call)]
            await fake.wait_for_generations(4)
            rest = asyncio.ensure_future(anext(call))
            for losses in range(1, 4):
                await relay.cut()
                await until(lambda wanted=losses: relay.connections > wanted)  # type: ignore[misc]
            gate.set()
            results += [await rest, *await call.collect()]
        assert sorted(one.index for one in results) == [0, 1, 2, 3, 4]
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
        assert (call.summary.total_prompts, call.summary.succeeded) == (5, 5)
        assert len(fake.generations) == 5


async def test_without_keeping_the_rest_is_run_again() -> None:
    """Without keep_s the service cancels what it has, and runs what is asked for again; finished prompts are not."""
    gate = asyncio.Event()
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url, cap=2)) as service,
        Relay(service.address) as relay,
    ):
        fake.on(gated(gate))
        async with Client(relay.address) as client:
            call = client.generate_batch(["a", "b", "stuck " * 9, "stuck " * 19], resume=SOON)
            results = [await anext(call), await anext(call)]
            await fake.wait_for_generations(4)
            rest = asyncio.ensure_future(anext(call))
            await relay.cut()
            await fake.wait_for_generations(6)
            gate.set()
            results += [await rest, *await call.collect()]
        assert sorted(one.index for one in results) == [0, 1, 2, 3]
        assert (len(fake.generations), fake.cancelled) == (6, 2)


async def test_a_service_that_lost_it_gets_the_rest() -> None:
    """With keep_s too, a service that knows nothing of the batch gets only the prompts without a result."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=2)) as one, Relay(one.address) as relay:
        fake.on(gated(gate))
        async with Service(fake=backend(fake.url, cap=2)) as other, Client(relay.address) as client:
            call = client.generate_batch(["a", "b", "stuck " * 9, "stuck " * 19], keep_s=60, resume=SOON)
            results = [await anext(call), await anext(call)]
            await fake.wait_for_generations(4)
            rest = asyncio.ensure_future(anext(call))
            relay.target = other.address
            await relay.cut()
            await fake.wait_for_generations(6)
            await relay.cut()
            gate.set()
            results += [await rest, *await call.collect()]
        assert sorted(one.index for one in results) == [0, 1, 2, 3]
        assert len(fake.generations) == 6


async def test_one_prompt_again() -> None:
    """A token stream that broke is an error; with keep_s the same call again brings all of it, generated once."""
    gate = asyncio.Event()
    async with scene(gate) as (fake, relay), Client(relay.address) as client:
        fake.on(lambda _: Script(text="one two three", pieces=3, gates={2: gate}))
        call = client.generate("count", request_id="g", keep_s=60)
        begun = (await anext(call)).text
        await relay.cut()
        with pytest.raises(UnavailableError):
            await call.collect()
        gate.set()
        await client.wait_ready()
        again = client.generate("count", request_id="g", keep_s=60)
        text = "".join([delta.text async for delta in again])
        assert (text, again.result.text) == ("one two three", "one two three")
        assert text.startswith(begun)
        assert len(fake.generations) == 1


async def test_a_watch_goes_on() -> None:
    """A watch of a job that loses its connection brings every result once; the job has noticed nothing."""
    gate = asyncio.Event()
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url, cap=2)) as service,
        Relay(service.address) as relay,
    ):
        fake.on(gated(gate))
        told: list[Resuming] = []
        async with Client(relay.address) as client:
            job = await client.create_job(["a", "b", "stuck " * 9, "stuck " * 19])
            watch = client.watch_job(job.name, resume=SOON, on_resume=told.append)
            results = [await anext(watch), await anext(watch)]
            rest = asyncio.ensure_future(anext(watch))
            await relay.cut()
            gate.set()
            results += [await rest, *[one async for one in watch]]
            assert sorted(one.index for one in results) == [0, 1, 2, 3]
            assert (watch.position, watch.summary.succeeded) == (4, 4)
            assert (told[0].unfinished, told[0].total) == (2, 4)
        assert len(fake.generations) == 4
