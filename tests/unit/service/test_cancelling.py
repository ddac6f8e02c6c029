"""A prompt that is cancelled ends exactly once, whenever the cancel comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from expresslane.batches.batch import BatchOptions
from expresslane.batches.summary import BatchState
from expresslane.errors import BackendError, Reason
from expresslane.results import Outcome

from tests.support.virtual_time import virtual_time
from tests.unit.service.world import ScriptedBackend, World, drain, prompt, second

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call

OPTIONS = BatchOptions("r")


@virtual_time
async def test_cancel_while_queued() -> None:
    """A waiting prompt ends at once and never reaches the backend."""
    backend = ScriptedBackend(default=second(10))
    async with World(backend, settings={"cap": 1}) as world:
        batch = world.intake.open(OPTIONS, method="Test", prompts=2)
        tickets = world.intake.accept(batch, [(prompt("a"), 1), (prompt("b"), 1)])
        await asyncio.sleep(1)
        waiting = next(ticket for ticket in tickets if ticket.prompt.custom_id not in backend.asked)
        world.scheduling.cancel(waiting)
        world.scheduling.cancel(waiting)
        results = await drain(world, batch)
        assert [(one.outcome, one.attempts) for one in results] == [(Outcome.CANCELLED, 0), (Outcome.SUCCEEDED, 1)]
        assert results[0].error is not None
        assert results[0].error.reason is Reason.CANCELLED
        world.intake.close(batch)
        assert batch.summary().state is BatchState.COMPLETED
    assert len(backend.calls) == 1


@virtual_time
async def test_cancel_in_flight() -> None:
    """A running prompt's attempt is cancelled, its slot is free, and it ends once with what had come."""
    backend = ScriptedBackend()

    async def endless(_: Call, answer: Answer) -> None:
        answer.push("so far")
        await asyncio.Event().wait()

    backend.plays = [endless]
    async with World(backend, settings={"cap": 1}) as world:
        batch = world.intake.open(OPTIONS, method="Test", prompts=2)
        first, _ = world.intake.accept(batch, [(prompt("a"), 1), (prompt("b"), 1)])
        await asyncio.sleep(1)
        world.scheduling.cancel(first)
        world.scheduling.cancel(first)
        results = await drain(world, batch)
        assert [one.custom_id for one in results] == ["a", "b"]
        assert (results[0].outcome, results[0].text) == (Outcome.CANCELLED, "so far")
        assert results[1].outcome is Outcome.SUCCEEDED
    assert backend.cancelled == 1


@virtual_time
async def test_cancel_between_release_and_first_step() -> None:
    """A prompt cancelled when its attempt has been released but has not run yet asks the backend nothing."""
    backend = ScriptedBackend()
    async with World(backend) as world:
        batch = world.intake.open(OPTIONS, method="Test", prompts=1)
        (ticket,) = world.intake.accept(batch, [(prompt("a"), 1)])
        world.scheduling._pump()
        assert ticket.attempt is not None
        world.scheduling.cancel(ticket)
        results = await drain(world, batch)
        assert [one.outcome for one in results] == [Outcome.CANCELLED]
    assert backend.calls == []


@pytest.mark.parametrize("ready_first", [True, False])
@virtual_time
async def test_cancel_races_with_completion(ready_first: bool) -> None:
    """A cancel in the same loop turn as the answer's end gives exactly one result, either way round."""
    gate = asyncio.Event()

    async def gated(_: Call, answer: Answer) -> None:
        await gate.wait()
        answer.push("done")

    async with World(ScriptedBackend(default=gated)) as world:
        batch = world.intake.open(OPTIONS, method="Test", prompts=1)
        (ticket,) = world.intake.accept(batch, [(prompt("a"), 1)])
        await asyncio.sleep(1)
        if ready_first:
            gate.set()
        world.scheduling.cancel(ticket)
        gate.set()
        results = await drain(world, batch)
        assert [one.custom_id for one in results] == ["a"]


@virtual_time
async def test_an_adapter_that_swallows_the_cancel() -> None:
    """Even an attempt that answers in spite of the cancel ends its prompt once, as cancelled."""

    async def stubborn(_: Call, answer: Answer) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            answer.push("too late")

    async with World(ScriptedBackend(default=stubborn)) as world:
        batch = world.intake.open(OPTIONS, method="Test", prompts=1)
        (ticket,) = world.intake.accept(batch, [(prompt("a"), 1)])
        await asyncio.sleep(1)
        world.scheduling.cancel(ticket)
        results = await drain(world, batch)
        assert [(one.outcome, one.text) for one in results] == [(Outcome.CANCELLED, "too late")]


@virtual_time
async def test_cancel_during_back_off() -> None:
    """A prompt cancelled while it waits for its retry ends at once and tells what its attempt ended in."""

    async def overloaded(_: Call, __: Answer) -> None:
        raise BackendError(Reason.BACKEND_OVERLOADED, "busy", retryable=True, retry_after_s=60)

    backend = ScriptedBackend(default=overloaded)
    async with World(backend) as world:
        batch = world.intake.open(OPTIONS, method="Test", prompts=1)
        (ticket,) = world.intake.accept(batch, [(prompt("a"), 1)])
        await asyncio.sleep(1)
        assert world.scheduling.snapshot().retry_waiting == 1
        world.scheduling.cancel(ticket)
        results = await drain(world, batch)
        assert [(one.outcome, one.attempts) for one in results] == [(Outcome.CANCELLED, 1)]
        assert [one.reason for one in results[0].history] == [Reason.BACKEND_OVERLOADED]
    assert len(backend.calls) == 1


@virtual_time
async def test_a_call_that_goes_away() -> None:
    """Closing an unfinished batch removes what is queued, cancels what runs, and leaves nothing behind."""
    backend = ScriptedBackend(default=second(100))
    async with World(backend, settings={"cap": 3}) as world:
        batch = world.submit([prompt(str(number)) for number in range(50)])
        await asyncio.sleep(1)
        world.intake.close(batch)
        await asyncio.sleep(0)
        now = world.scheduling.snapshot()
        assert now.queued == 0
        await world.dispatcher.settled()
        await asyncio.wait_for(world.scheduling.idle(), 1)
        assert world.scheduling.snapshot().cancelled == 50
        assert batch.summary().state is BatchState.CANCELLED
        assert world.intake.open_batches == 0
    assert (len(backend.calls), backend.cancelled) == (3, 3)
