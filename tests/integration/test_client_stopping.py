"""The client when a service stops: what it could not finish is asked for again, in whatever way it was asked for."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from expresslane_client import (
    BatchState,
    Client,
    Outcome,
    Prompt,
    RefusedError,
    Resume,
    Resuming,
    SessionEndedError,
    UnavailableError,
)

from tests.support.resuming import SOON, asked, numbered
from tests.support.stub_server import Refusal, StubService

NEVER = Resume(attempts=0)


@pytest.fixture
def service() -> StubService:
    """The scripted service."""
    return StubService(credits=10)


async def test_a_batch(client: Client, service: StubService) -> None:
    """What a stopping service has cut off is asked for again, and each prompt has one result, with its place (O16)."""
    service.cut_off = {"p1", "p3"}
    told: list[Resuming] = []
    call = client.generate_batch(numbered(5), resume=SOON, on_resume=told.append)
    results = await call.collect()
    assert asked(service) == [["p0", "p1", "p2", "p3", "p4"], ["p1", "p3"]]
    assert sorted((one.custom_id, one.index) for one in results) == [(f"p{n}", n) for n in range(5)]
    assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
    assert (call.summary.state, call.summary.total_prompts) == (BatchState.COMPLETED, 5)
    (only,) = told
    assert isinstance(only.error, RefusedError)
    assert (only.error.reason, only.error.retry_after_s, only.unfinished) == ("DRAINING", 0.001, 2)


async def test_a_batch_in_order(client: Client, service: StubService) -> None:
    """In-order delivery stays in order: what was finished behind a prompt that was cut off waits for it."""
    service.cut_off = {"p1", "p3"}
    results = await client.generate_batch(numbered(5), in_order=True, resume=SOON).collect()
    assert [(one.index, one.ok) for one in results] == [(n, True) for n in range(5)]


@pytest.mark.parametrize("in_order", [False, True])
async def test_a_batch_that_is_given_up(client: Client, service: StubService, in_order: bool) -> None:
    """Where nobody takes the rest, or it is not to be resumed, the stopping service's own results are delivered."""
    for resume in (NEVER, False):
        service.cut_off = {"p1"}
        call = client.generate_batch(numbered(3), in_order=in_order, resume=resume)
        results = {one.custom_id: one for one in await call.collect()}
        assert [results[f"p{n}"].outcome.name for n in range(3)] == ["SUCCEEDED", "CANCELLED", "SUCCEEDED"]
        error = results["p1"].error
        assert error is not None
        assert (error.reason, error.retry_after_s) == ("DRAINING", 0.001)
        assert (call.summary.state, call.summary.total_prompts) == (BatchState.CANCELLED, 3)
    assert len(service.requests) == 2


async def test_what_is_known_is_delivered_before_the_error(client: Client, service: StubService) -> None:
    """Where the connection then breaks for good, what was cut off is delivered, and the rest makes it an error."""
    service.cut_off = {"p4"}
    service.break_after = 2
    call = client.generate_batch(numbered(5), resume=NEVER)
    results = [await anext(call), await anext(call)]
    with pytest.raises(UnavailableError):
        await anext(call)
    assert [(one.custom_id, one.outcome.name) for one in results] == [("p3", "SUCCEEDED"), ("p4", "CANCELLED")]
    assert [one async for one in call] == []


async def test_cancelling_delivers_what_was_cut_off(client: Client, service: StubService) -> None:
    """A caller that cancels while it waits for another service gets what the stopping one has said."""
    service.cut_off = {"p0"}
    pausing = asyncio.Event()
    bounds = Resume(pause_s=60, pause_max_s=60)
    call = client.generate_batch(numbered(1), resume=bounds, on_resume=lambda _: pausing.set())
    reading = asyncio.ensure_future(call.collect())
    await pausing.wait()
    await call.cancel()
    assert [one.outcome for one in await reading] == [Outcome.CANCELLED]
    assert call.cancelled


async def test_a_fail_fast_batch_with_a_failure(client: Client, service: StubService) -> None:
    """A batch that a failure has ended is not begun again because its service stopped."""
    service.cut_off, service.failing = {"p0"}, {"p1"}
    call = client.generate_batch(numbered(2), fail_fast=True, resume=SOON)
    assert {one.custom_id: one.outcome.name for one in await call.collect()} == {"p0": "CANCELLED", "p1": "FAILED"}
    assert len(service.requests) == 1


async def test_collect_batch(client: Client, service: StubService) -> None:
    """Gathered results too: what was cut off is asked for again, and all come in request order."""
    service.cut_off = {"p1"}
    collected = await client.collect_batch(numbered(3), resume=SOON)
    assert asked(service) == [["p0", "p1", "p2"], ["p1"]]
    assert [(one.custom_id, one.ok) for one in collected.results] == [("p0", True), ("p1", True), ("p2", True)]
    assert (collected.summary.state, collected.summary.total_prompts) == (BatchState.COMPLETED, 3)


async def test_collect_batch_over_a_lost_connection(client: Client, service: StubService) -> None:
    """An accepted batch whose answer is lost is asked for again; a refusal, or that nobody is there, is an error."""
    service.break_after = 2
    told: list[Resuming] = []

    def mend(resuming: Resuming) -> None:
        told.append(resuming)
        service.break_after = None

    collected = await client.collect_batch(numbered(2), resume=SOON, on_resume=mend)
    assert ([one.ok for one in collected.results], len(told), len(service.requests)) == ([True, True], 1, 2)
    service.refusal = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", "QUEUE_FULL")
    with pytest.raises(RefusedError):
        await client.collect_batch(numbered(2), resume=SOON, on_resume=mend)
    async with Client("127.0.0.1:1") as nobody:
        with pytest.raises(UnavailableError):
            await nobody.collect_batch(numbered(2), resume=SOON, on_resume=mend)
    assert len(told) == 1


async def test_generate(client: Client, service: StubService) -> None:
    """A prompt that was cut off before its first delta is asked for again; given up, its result says why."""
    service.cut_off = {"g"}
    result = await client.generate(Prompt("g", "a b"), resume=SOON).collect()
    assert (result.text, len(service.requests)) == ("echo a b", 2)
    for resume in (NEVER, False):
        service.cut_off = {"g"}
        result = await client.generate(Prompt("g", "a b"), resume=resume).collect()
        assert (result.outcome, result.cut_off) == (Outcome.CANCELLED, True)


async def test_generate_over_a_lost_connection(client: Client, service: StubService) -> None:
    """Lost before its first delta a prompt is asked for again, after it the loss is an error."""
    service.break_after = 0
    told: list[Resuming] = []

    def mend(resuming: Resuming) -> None:
        told.append(resuming)
        service.break_after = None

    result = await client.generate("a b", resume=SOON, on_resume=mend).collect()
    assert (result.ok, len(told)) == (True, 1)
    service.break_after = 1
    call = client.generate("a b", resume=SOON, on_resume=mend)
    with pytest.raises(UnavailableError):
        await call.collect()
    assert len(told) == 1


async def test_a_session(client: Client, service: StubService) -> None:
    """Prompts of a session that were cut off go into another one once the first has ended."""
    service.cut_off = {"p1"}
    async with client.stream_prompts(resume=SOON) as session:
        await session.send(*numbered(3))
        await session.done_sending()
        results = [one async for one in session]
    assert sorted((one.custom_id, one.index, one.ok) for one in results) == [(f"p{n}", n, True) for n in range(3)]
    assert [one.custom_id for one in service.prompts] == ["p0", "p1", "p2", "p1"]
    assert (session.summary.state, session.summary.total_prompts) == (BatchState.COMPLETED, 3)


@pytest.mark.parametrize("in_order", [False, True])
async def test_a_session_that_is_given_up(client: Client, service: StubService, in_order: bool) -> None:
    """Where nobody takes the rest, a session ends with the results of the service that stopped, and with no error."""
    service.cut_off = {"p1"}
    async with client.stream_prompts(in_order=in_order, resume=NEVER) as session:
        await session.send(*numbered(3))
        await session.done_sending()
        results = {one.custom_id: one.outcome.name async for one in session}
        with pytest.raises(SessionEndedError):
            await session.send(Prompt("late", "x"))
    assert results == {"p0": "SUCCEEDED", "p1": "CANCELLED", "p2": "SUCCEEDED"}
    assert (session.summary.state, session.summary.total_prompts) == (BatchState.CANCELLED, 3)
