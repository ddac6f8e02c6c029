"""What one failed prompt does to the rest of its batch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from expresslane.batches.summary import BatchState
from expresslane.errors import BackendError, Reason
from expresslane.results import Outcome

from tests.support.virtual_time import virtual_time
from tests.unit.service.world import ScriptedBackend, World, drain, prompt

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call


async def by_text(call: Call, answer: Answer) -> None:
    """Fail where the prompt says so, else answer after 10 s."""
    if call.prompt.content == "bad":
        await asyncio.sleep(1)
        raise BackendError(Reason.BACKEND_REJECTED, "no", http_status=400)
    await asyncio.sleep(10)
    answer.push("fine")


def mixed(bad: int, good: int) -> list:  # type: ignore[type-arg]
    """Prompts of both sorts."""
    return [prompt(f"bad{n}", "bad") for n in range(bad)] + [prompt(f"good{n}", "good") for n in range(good)]


@virtual_time
async def test_continue() -> None:
    """By default a failed prompt hurts no other (T16, A11)."""
    async with World(ScriptedBackend(default=by_text)) as world:
        results, summary = await world.run(mixed(1, 30))
        assert summary.state is BatchState.COMPLETED
        assert (summary.outcomes[Outcome.SUCCEEDED], summary.outcomes[Outcome.FAILED]) == (30, 1)
        assert len(results) == 31


@virtual_time
async def test_fail_fast() -> None:
    """With FAIL_FAST the first failure cancels what waits and what runs, and each sibling says why (T16)."""
    backend = ScriptedBackend(default=by_text)
    async with World(backend, settings={"cap": 4}, policy="fcfs") as world:
        results, summary = await world.run(mixed(1, 30), fail_fast=True)
        assert summary.state is BatchState.FAILED_FAST
        assert (summary.outcomes[Outcome.FAILED], summary.outcomes[Outcome.CANCELLED]) == (1, 30)
        assert len(results) == len({result.custom_id for result in results}) == 31
        for result in results:
            assert result.error is not None
        reasons = {result.error.reason for result in results if result.error and result.outcome is Outcome.CANCELLED}
        assert reasons == {Reason.BATCH_FAILED}
    assert (len(backend.calls), backend.cancelled) == (4, 3)


@pytest.mark.parametrize(
    ("bad", "rate", "state"),
    [
        (3, 0.25, BatchState.FAILED_FAST),
        (2, 0.25, BatchState.COMPLETED),
        (1, 0.001, BatchState.FAILED_FAST),
        (8, 1.0, BatchState.COMPLETED),
        (3, 0.0, BatchState.COMPLETED),
    ],
)
@virtual_time
async def test_max_failure_rate(bad: int, rate: float, state: BatchState) -> None:
    """More failures than the rate allows, of the whole batch, cancel the rest; as many as it allows do not (A31)."""
    async with World(ScriptedBackend(default=by_text)) as world:
        _, summary = await world.run(mixed(bad, 8 - bad), max_failure_rate=rate)
        assert summary.state is state
        assert sum(summary.outcomes.values()) == 8


@pytest.mark.parametrize(
    ("taken_in", "rate", "failed", "ended"),
    [(100, 0.1, 20, True), (100, 0.3, 31, True), (19, 0.1, 19, False), (30, 1.0, 30, False)],
)
@virtual_time
async def test_max_failure_rate_of_an_open_batch(taken_in: int, rate: float, failed: int, ended: bool) -> None:
    """A session ends once more of what it took in has failed than may; below 20 results nothing is judged (T16)."""
    async with World(ScriptedBackend(default=by_text), settings={"cap": 1}) as world:
        batch = world.submit(mixed(taken_in, 0), is_open=True, max_failure_rate=rate)
        results = await drain(world, batch, taken_in)
        outcomes = [one.outcome for one in results]
        assert (outcomes.count(Outcome.FAILED), batch.open) == (failed, not ended)
        assert outcomes.count(Outcome.CANCELLED) == taken_in - failed
        assert (batch.stopped is BatchState.FAILED_FAST) is ended


@pytest.mark.parametrize(
    ("bad", "rate", "state"),
    [(5, 0.9, BatchState.FAILED_FAST), (2, 0.5, BatchState.COMPLETED), (5, 1.0, BatchState.COMPLETED)],
)
@virtual_time
async def test_max_failure_rate_when_the_input_ends(bad: int, rate: float, state: BatchState) -> None:
    """When a session's input ends its rate is that of all its prompts, however few, and whenever they failed (T16)."""
    async with World(ScriptedBackend(default=by_text)) as world:
        batch = world.submit(mixed(bad, 5 - bad), is_open=True, max_failure_rate=rate)
        await drain(world, batch, bad)
        assert batch.open
        world.scheduling.end_input(batch)
        await drain(world, batch)
        assert batch.summary().state is state
        assert sum(batch.summary().outcomes.values()) == 5


@virtual_time
async def test_fail_fast_ends_an_open_batch() -> None:
    """A failure in a FAIL_FAST session ends it, although its caller could still send."""
    async with World(ScriptedBackend(default=by_text)) as world:
        batch = world.submit(mixed(1, 3), is_open=True, fail_fast=True)
        results = await drain(world, batch)
        assert len(results) == 4
        assert batch.summary().state is BatchState.FAILED_FAST
        assert not batch.open


@virtual_time
async def test_unknown_model_fails_alone() -> None:
    """A prompt for a model that nobody serves fails at once with close names; its siblings run."""
    async with World(ScriptedBackend(), settings={"models": (("mistral-7b", "x"),)}) as world:
        results, summary = await world.run([prompt("a", model="mistral-7"), prompt("b", model="mistral-7b")])
        assert summary.state is BatchState.COMPLETED
        assert [(one.custom_id, one.outcome) for one in results] == [("a", Outcome.FAILED), ("b", Outcome.SUCCEEDED)]
        assert results[0].error is not None
        assert (results[0].error.reason, results[0].error.field) == (Reason.UNKNOWN_MODEL, "model")
        assert "'mistral-7b'" in results[0].error.message


@virtual_time
async def test_a_finished_batch_stays_completed_when_the_service_stops() -> None:
    """Stopping cancels what is unfinished, and does not touch a batch whose results only wait for their reader."""
    async with World(ScriptedBackend(default=by_text)) as world:
        done, running = world.submit(mixed(0, 2)), None
        await asyncio.sleep(20)
        running = world.submit(mixed(0, 2))
        await asyncio.sleep(1)
        world.intake.stop_all("the service is stopping")
        assert len(await drain(world, done)) == 2
        assert done.summary().state is BatchState.COMPLETED
        cut = await drain(world, running)
        assert {one.error.reason for one in cut if one.error} == {Reason.DRAINING}
        assert running.summary().state is BatchState.CANCELLED
