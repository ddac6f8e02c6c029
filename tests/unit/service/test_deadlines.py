"""Each deadline ends what it must, when it must, under its own name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import pytest
from expresslane.backends.base import Discovery
from expresslane.batches.summary import BatchState
from expresslane.deadlines import batch_deadline_ns
from expresslane.errors import BackendError, Reason
from expresslane.prompts import Deadlines
from expresslane.results import Outcome

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.world import SECOND, Play, ScriptedBackend, World, drain, prompt, second

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call


async def never(_: Call, __: Answer) -> None:
    """An attempt without an end."""
    await asyncio.Event().wait()


async def alive_without_end(_: Call, answer: Answer) -> None:
    """A stream that says something every 50 s."""
    while True:
        answer.push("x")
        await asyncio.sleep(50)


async def falls_silent(_: Call, answer: Answer) -> None:
    """A stream that stops after its first piece."""
    answer.push("half an ")
    await asyncio.Event().wait()


@virtual_time
async def test_queue_timeout_after_300_s() -> None:
    """A prompt that waits 300 s ends as `model request timeout` and never reaches the backend (O08, O09)."""
    backend = ScriptedBackend(default=second(500))
    async with World(backend, settings={"cap": 1}) as world:
        started = now_ns()
        results, summary = await world.run([prompt("a"), prompt("b")])
        late, fine = results
        assert late.error is not None
        assert (late.outcome, late.error.reason) == (Outcome.EXPIRED, Reason.QUEUE_TIMEOUT)
        assert late.error.message == "model request timeout"
        assert (late.error.deadline, late.attempts) == ("queue", 0)
        assert late.timings.queue_wait_ns == late.timings.total_ns == 300 * SECOND
        assert fine.outcome is Outcome.SUCCEEDED
        assert summary.reasons == {Reason.QUEUE_TIMEOUT: 1}
        assert now_ns() - started == 500 * SECOND
    assert backend.asked == [fine.custom_id]


@virtual_time
async def test_queue_timeout_restarts_when_a_sibling_ends() -> None:
    """A batch on one slot outlives the queue timeout as long as its prompts keep finishing (O08)."""
    async with World(ScriptedBackend(default=second(200)), settings={"cap": 1}) as world:
        results, summary = await world.run([prompt(str(number)) for number in range(6)])
        assert [result.outcome for result in results] == [Outcome.SUCCEEDED] * 6
        assert summary.wall_ns == 1_200 * SECOND


@virtual_time
async def test_own_queue_deadline() -> None:
    """A prompt's own queue deadline holds instead of the configured one, for that prompt alone (O10)."""
    async with World(ScriptedBackend(default=second(100)), settings={"cap": 1}) as world:
        prompts = [prompt("a"), prompt("b", deadlines=Deadlines(queue_ns=7 * SECOND)), prompt("c")]
        results, _ = await world.run(prompts)
        by_id = {result.custom_id: result for result in results}
        assert by_id["b"].outcome is Outcome.EXPIRED
        assert by_id["b"].timings.total_ns == 7 * SECOND
        assert by_id["a"].outcome is by_id["c"].outcome is Outcome.SUCCEEDED


class Case(NamedTuple):
    """A deadline, who sets it, and when it ends the attempt."""

    deadline: str
    play: Play
    settings: dict[str, float]
    own: Deadlines
    ends_s: int
    reason: Reason
    text: str = ""


FIRST, IDLE, ATTEMPT = Reason.FIRST_TOKEN_TIMEOUT, Reason.IDLE_TIMEOUT, Reason.ATTEMPT_TIMEOUT
CASES = [
    Case("first_token", never, {"first_token_timeout_s": 20}, Deadlines(), 20, FIRST),
    Case("first_token", never, {"first_token_timeout_s": 20}, Deadlines(first_token_ns=3 * SECOND), 3, FIRST),
    Case("first_token", never, {}, Deadlines(first_token_ns=3 * SECOND), 3, FIRST),
    Case("idle", falls_silent, {"idle_timeout_s": 60}, Deadlines(), 60, IDLE, "half an "),
    Case("idle", falls_silent, {"idle_timeout_s": 60}, Deadlines(idle_ns=2 * SECOND), 2, IDLE, "half an "),
    Case("attempt", never, {"attempt_timeout_s": 30}, Deadlines(), 30, ATTEMPT),
    Case("attempt", never, {"attempt_timeout_s": 30}, Deadlines(attempt_ns=40 * SECOND), 40, ATTEMPT),
    Case("attempt", alive_without_end, {"attempt_timeout_s": 600}, Deadlines(), 600, ATTEMPT, "x" * 12),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.deadline}-{case.ends_s}s")
@virtual_time
async def test_deadline_of_an_attempt(case: Case) -> None:
    """First token, idle and attempt each end the attempt on time, with its own reason (A10)."""
    backend = ScriptedBackend(default=case.play)
    async with World(backend, settings=case.settings) as world:
        result = await world.one(case.own)
        assert result.outcome is Outcome.EXPIRED
        assert result.error is not None
        assert (result.error.reason, result.error.deadline) == (case.reason, case.deadline)
        assert "backends/b" in result.error.message
        assert result.timings.total_ns == case.ends_s * SECOND
        assert result.text == case.text
    assert backend.cancelled == 1


@virtual_time
async def test_a_live_stream_is_never_idle() -> None:
    """A stream with a piece every 50 s runs for longer than the idle timeout of 60 s."""

    async def slow_but_alive(_: Call, answer: Answer) -> None:
        for _piece in range(6):
            answer.push("x")
            await asyncio.sleep(50)

    async with World(ScriptedBackend(default=slow_but_alive)) as world:
        result = await world.one()
        assert (result.outcome, result.text) == (Outcome.SUCCEEDED, "xxxxxx")
        assert result.timings.total_ns == 300 * SECOND


@virtual_time
async def test_the_callers_deadline_ends_the_batch_in_band() -> None:
    """What is unfinished at the batch's deadline expires, what had finished is kept, and the state says so."""
    backend = ScriptedBackend(default=second(4))
    async with World(backend, settings={"cap": 1}) as world:
        deadline_ns = batch_deadline_ns(now_ns(), 10.0)
        results, summary = await world.run([prompt(str(n)) for n in range(5)], deadline_ns=deadline_ns)
        assert summary.state is BatchState.PARTIAL_DEADLINE
        assert summary.wall_ns == 9.5 * SECOND
        assert summary.outcomes[Outcome.SUCCEEDED] == 2
        assert summary.outcomes[Outcome.EXPIRED] == 3
        for result in results[2:]:
            assert result.error is not None
            assert (result.error.reason, result.error.deadline) == (Reason.CALLER_DEADLINE, "caller")
    assert (len(backend.calls), backend.cancelled) == (3, 1)


@pytest.mark.parametrize(
    ("remaining_s", "margin_s"), [(0.5, 0.05), (1, 0.05), (10, 0.5), (40, 2), (3_600, 2), (0.06, 0.05)]
)
def test_margin_before_the_callers_deadline(remaining_s: float, margin_s: float) -> None:
    """The batch ends 5 % before its caller's deadline, between 50 ms and 2 s."""
    assert batch_deadline_ns(0, remaining_s) == pytest.approx((remaining_s - margin_s) * 1e9, abs=1)


@pytest.mark.parametrize(("remaining_s", "expected"), [(None, 0), (1e12, 0), (0.01, 11), (-5.0, 11)])
def test_no_deadline_and_one_that_has_passed(remaining_s: float | None, expected: int) -> None:
    """No deadline is 0, and one that has passed is at once, never "none"."""
    assert batch_deadline_ns(10, remaining_s) == expected


@virtual_time
async def test_a_backend_that_was_there_is_waited_for() -> None:
    """A20: an engine that loads its model for 100 s is waited for, one that stays away is not for more than 120 s."""
    for back_after_s in (100, None):
        backend = ScriptedBackend()
        async with World(backend) as world:
            await world.one()
            backend.discovery = down = BackendError(Reason.BACKEND_UNREACHABLE, "nobody there", retryable=True)
            world.fleet.unreachable(world.fleet.get("b"), down)
            batch = world.submit([prompt("a")])
            if back_after_s:
                await asyncio.sleep(back_after_s - 0.5)
                backend.discovery = Discovery()
            (result,) = await drain(world, batch)
            world.intake.close(batch)
            assert result.timings.total_ns == (back_after_s or 120) * SECOND
            assert (result.outcome is Outcome.SUCCEEDED) == bool(back_after_s)
            assert result.error is None or result.error.message.startswith(
                "no backend was available within EXPRESSLANE_NO_BACKEND_TIMEOUT_S or "
                "EXPRESSLANE_BACKENDS__B__ABSENCE_TIMEOUT_S, whichever is longest, for the model 'm': backends/b: "
            )


@virtual_time
async def test_the_callers_deadline_ends_the_wait_for_a_backend() -> None:
    """A backend that was there is waited for no longer than the caller has set."""
    backend = ScriptedBackend()
    async with World(backend) as world:
        await world.one()
        backend.discovery = down = BackendError(Reason.BACKEND_UNREACHABLE, "nobody there", retryable=True)
        world.fleet.unreachable(world.fleet.get("b"), down)
        (result,), _ = await world.run([prompt("a")], deadline_ns=now_ns() + 20 * SECOND)
        assert result.error is not None
        assert (result.error.deadline, result.timings.total_ns) == ("caller", 20 * SECOND)


@virtual_time
async def test_no_backend_for_10_s() -> None:
    """While every backend of the model is down work waits 10 s, then ends UNAVAILABLE and says what is wrong with each.

    What a backend's error quotes of a credential is not told.
    """
    backend = ScriptedBackend()
    trouble = "nobody there: http://me:hunter2@host/v1?api_key=sk-1234"
    backend.discovery = BackendError(Reason.BACKEND_UNREACHABLE, trouble, retryable=True)
    async with World(backend) as world:
        result = await world.one()
        assert result.error is not None
        assert (result.outcome, result.error.reason) == (Outcome.EXPIRED, Reason.NO_BACKEND)
        assert (result.error.deadline, result.timings.total_ns) == ("no_backend", 10 * SECOND)
        assert "for the model 'm': backends/b: nobody there" in result.error.message
        assert "hunter2" not in result.error.message
        assert "sk-1234" not in result.error.message
    assert backend.calls == []
