"""A backend that fails too often is left alone: work moves, or is told the truth."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from expresslane.backends.http_errors import error_of_response
from expresslane.errors import BackendError, Reason, status_code
from expresslane.fleet import Change
from expresslane.results import Outcome
from expresslane.retries import RetryPolicy
from multidict import CIMultiDict

from tests.support.virtual_time import virtual_time
from tests.unit.service.world import SECOND, Play, ScriptedBackend, World, prompt, second

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call

ONCE = RetryPolicy(attempts=1, base_s=0.5, cap_s=30)
SAMPLES = 20
OPEN_S = 60.0


async def break_down(_: Call, __: Answer) -> None:
    """Fail by the backend's own fault."""
    raise BackendError(Reason.BACKEND_ERROR, "it broke", retryable=True, http_status=500)


def refusing(status: int) -> Play:
    """Refuse what the caller asked for, as HTTP says it."""

    async def play(_: Call, __: Answer) -> None:
        raise error_of_response(status, CIMultiDict(), b"", "http://b")

    return play


@virtual_time
async def test_with_no_other_backend_it_is_unavailable() -> None:
    """What waits for a backend whose breaker is open ends after 10 s as UNAVAILABLE: nobody is at a limit."""
    backend = ScriptedBackend(default=break_down)
    async with World(backend, retries=ONCE, settings={"breaker_open_s": OPEN_S}) as world:
        await world.run([prompt(str(number)) for number in range(SAMPLES)])
        sent = len(backend.calls)
        result = await world.one()
        assert result.error is not None
        assert (result.outcome, result.error.reason) == (Outcome.EXPIRED, Reason.NO_BACKEND)
        assert status_code(result.error.reason) is grpc.StatusCode.UNAVAILABLE
        assert (result.timings.total_ns, result.attempts) == (10 * SECOND, 0)
        assert result.error.message == (
            "no backend was available within EXPRESSLANE_NO_BACKEND_TIMEOUT_S for the model 'm': "
            f"backends/b: breaker open, {SAMPLES} of {SAMPLES} attempts failed, tried again in {OPEN_S - 10:g} s"
        )
    assert len(backend.calls) == sent


def broken_then(play: Play) -> ScriptedBackend:
    """Fails until its breaker opens, then lets the first probe meet this, and answers all later ones."""
    backend = ScriptedBackend()
    backend.plays = [break_down] * SAMPLES + [play]
    return backend


@virtual_time
async def test_a_slow_probe_is_waited_for() -> None:
    """P33: a first token that takes 28 s is no failure: who waits for it meanwhile is not told that nobody is there."""
    backend = broken_then(second(28))
    async with World(backend, retries=ONCE) as world:
        await world.run([prompt(str(number)) for number in range(SAMPLES)])
        results, _ = await world.run([prompt(str(number)) for number in range(10)])
        assert {(one.outcome, one.timings.total_ns) for one in results} == {(Outcome.SUCCEEDED, 33 * SECOND)}


@virtual_time
async def test_a_hung_probe_is_given_up() -> None:
    """P33: after 30 s what waits is told that nobody is there; the attempt itself goes on to its end."""
    backend = broken_then(second(500))
    async with World(backend, retries=ONCE) as world:
        await world.run([prompt(str(number)) for number in range(SAMPLES)])
        results, _ = await world.run([prompt(str(number)) for number in range(10)])
        *given_up, probe = results
        assert {one.error.reason for one in given_up if one.error} == {Reason.NO_BACKEND}
        assert {one.timings.total_ns for one in given_up} == {35 * SECOND}
        assert (probe.outcome, probe.timings.total_ns) == (Outcome.SUCCEEDED, 505 * SECOND)
        assert (await world.one()).outcome is Outcome.SUCCEEDED


@virtual_time
async def test_tripped_breakers() -> None:
    """The core tells of the breakers that are open or being tried, and of no other, as its snapshot does."""
    backends = [ScriptedBackend("bad"), ScriptedBackend("good")]
    backends[0].plays = [break_down, second(10)]
    async with World(*backends, retries=ONCE, settings={"breaker_min_samples": 1, "breaker_open_s": 5.0}) as world:

        def tripped() -> dict[int, str]:
            told, backends = world.core.tripped_breakers(), world.scheduling.snapshot().backends
            snapshots = {one.backend: one.breaker for one in backends if one.breaker and one.breaker.state != "closed"}
            fields = ("state", "since_ns", "half_open_at_ns", "good", "bad", "opened")
            for backend in snapshots.keys() | told.keys():
                assert all(getattr(told[backend], field) == getattr(snapshots[backend], field) for field in fields)
            return {backend: one.state for backend, one in told.items()}

        assert tripped() == {}
        assert (await world.one()).outcome is Outcome.FAILED
        assert tripped() == {0: "open"}
        world.fleet.members[1].available = False
        world.fleet.update(world.fleet.members[1], Change())
        probe = asyncio.create_task(world.one())
        await asyncio.sleep(6)
        assert tripped() == {0: "half_open"}
        assert (await probe).outcome is Outcome.SUCCEEDED
        assert tripped() == {}


@virtual_time
async def test_with_another_backend_work_moves() -> None:
    """Prompts go to the backend that works, at once and without an attempt at the other."""
    bad, good = ScriptedBackend("bad", default=break_down), ScriptedBackend("good")
    async with World(bad, good, retries=ONCE, settings={"breaker_open_s": OPEN_S}) as world:
        other = world.fleet.members[1]
        other.available = False
        world.fleet.update(other, Change())
        while len(bad.calls) < SAMPLES:
            await world.one()
        other.available = True
        world.fleet.update(other, Change())
        results, _ = await world.run([prompt(str(number)) for number in range(50)])
        assert {(one.outcome, one.backend, one.attempts) for one in results} == {(Outcome.SUCCEEDED, "good", 1)}
    assert len(bad.calls) == SAMPLES


@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 413, 422])
@virtual_time
async def test_what_callers_did_wrong_opens_nothing(status: int) -> None:
    """O16: requests that the backend refuses say nothing about it, also those worth another attempt.

    Nor does a 401 where no other backend serves the model: each prompt is told at once.
    """
    backend = ScriptedBackend(default=refusing(status))
    async with World(backend, retries=ONCE, settings={"breaker_open_s": OPEN_S}) as world:
        await world.run([prompt(str(number)) for number in range(3 * SAMPLES)])
        result = await world.one()
        assert (result.attempts, result.timings.total_ns) == (1, 0)
    assert len(backend.calls) == 3 * SAMPLES + 1
