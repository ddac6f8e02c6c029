"""A 429 that does not say for how long: a pause all the same, no attempt, and fewer at once after it (A26, P35)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from expresslane.backends.rate_headers import Left, Told
from expresslane.errors import BackendError, Reason, status_code
from expresslane.prompts import Deadlines
from expresslane.results import Outcome

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.test_retries import SLOWEST, Highest, failing
from tests.unit.service.world import NONE, SECOND, Play, ScriptedBackend, World, prompt, second

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call

RATE_LIMITED = failing(Reason.BACKEND_RATE_LIMITED, http_status=429)


def slowest(world: World) -> World:
    """Pauses without chance, as long as they can be."""
    world.scheduling.limits.refusals.random = Highest()
    return world


@virtual_time
async def test_no_attempt_is_burnt_and_order_is_kept() -> None:
    """Five rounds turned away, a prompt with three attempts has made one in the end; who came first is served first."""
    backend = ScriptedBackend(default_cap=1)
    backend.plays = [RATE_LIMITED] * 5
    async with slowest(World(backend, settings={"rate_limit_ramp": False})) as world:
        results, _ = await world.run([prompt(name) for name in "abc"])
        assert [(one.custom_id, one.outcome, one.attempts) for one in results] == [
            (name, Outcome.SUCCEEDED, 1) for name in "abc"
        ]
        assert [one.turned_away for one in results] == [5, 0, 0]
        assert backend.asked == ["a"] * 6 + ["b", "c"]
        assert results[0].timings.total_ns == (1 + 2 + 4 + 8 + 16) * SECOND
        assert world.scheduling.limits.tally(0).total_ns == 31 * SECOND


@virtual_time
async def test_a_burst_is_one_pause() -> None:
    """Ten in flight that are all turned away pause once, not ten times as long; five go in the next round (P35)."""
    backend = ScriptedBackend(default=second(1))
    backend.plays = [RATE_LIMITED] * 10
    async with slowest(World(backend)) as world:
        results, _ = await world.run([prompt(str(number)) for number in range(10)])
        assert {(one.attempts, one.turned_away) for one in results} == {(1, 1)}
        assert sorted({one.timings.total_ns for one in results}) == [2 * SECOND, 3 * SECOND]
        described = world.scheduling.snapshot().backends[0]
        assert (described.turned_away, described.cap_by_model[0][1]) == (10, 6)


@virtual_time
async def test_the_ramp_respects_what_a_backend_takes_at_once() -> None:
    """A backend that takes three at once and turns away more is soon left with what it takes (P35)."""
    running = 0
    seen: list[int] = []

    async def at_most_three(call: Call, answer: Answer) -> None:
        nonlocal running
        running += 1
        seen.append(running)
        try:
            if running > 3:
                raise BackendError(Reason.BACKEND_RATE_LIMITED, "slow down", retryable=True, http_status=503)
            await second(1)(call, answer)
        finally:
            running -= 1

    turned_away = {}
    for ramp in (False, True):
        backend = ScriptedBackend(default=at_most_three, default_cap=30)
        async with slowest(World(backend, settings={"rate_limit_ramp": ramp})) as world:
            results, _ = await world.run([prompt(str(number)) for number in range(100)])
            assert {(one.outcome, one.attempts) for one in results} == {(Outcome.SUCCEEDED, 1)}
            turned_away[ramp] = world.scheduling.snapshot().backends[0].turned_away
    assert turned_away[True] * 5 < turned_away[False]


@virtual_time
async def test_work_moves_on() -> None:
    """With another backend for the model nothing waits for the pause."""
    full, free = ScriptedBackend("a", default=RATE_LIMITED), ScriptedBackend("b", default=second(1))
    async with slowest(World(full, free, settings={"cap": 2})) as world:
        results, _ = await world.run([prompt(str(number)) for number in range(4)])
        assert {(one.backend, one.attempts) for one in results} == {("b", 1)}
        assert max(one.timings.total_ns for one in results) == 2 * SECOND


@virtual_time
async def test_only_refusals_for_ever() -> None:
    """What is only ever turned away ends with the queue timeout, all of a batch at once, told what it waited for.

    The timeout does not begin anew each time that one is turned away.
    """
    backend = ScriptedBackend(default=RATE_LIMITED)
    async with slowest(World(backend)) as world:
        results, _ = await world.run([prompt(str(number)) for number in range(50)])
        assert {one.outcome for one in results} == {Outcome.EXPIRED}
        assert {one.timings.total_ns for one in results} == {300 * SECOND}
        errors = [one.error for one in results if one.error is not None]
        assert {(error.reason, error.deadline) for error in errors} == {(Reason.BACKEND_RATE_LIMITED, "queue")}
        assert status_code(errors[0].reason).name == "RESOURCE_EXHAUSTED"
        tried = [one.history for one in results if one.history]
        assert {one.http_status for history in tried for one in history} == {429}
        assert {one.attempts for one in results} == {0}
        assert len(backend.calls) < 30


@virtual_time
async def test_a_queue_timeout_for_another_reason_says_so() -> None:
    """A backend that is busy, and not refusing, is no rate limit."""
    backend = ScriptedBackend(default=second(500), default_cap=1)
    backend.plays = [RATE_LIMITED]
    async with slowest(World(backend)) as world:
        world.scheduling.limits.refusals.refused(
            0, 99, started_ns=0, now_ns=now_ns(), asked_s=None, base_s=1.0, max_s=1.0
        )
        first, _ = await world.run([prompt("first")])
        assert first[0].outcome is Outcome.SUCCEEDED
        results, _ = await world.run([prompt(name) for name in "ab"])
        assert [one.error.reason for one in results if one.error is not None] == [Reason.QUEUE_TIMEOUT]


@virtual_time
async def test_the_callers_deadline_comes_first() -> None:
    """A prompt that would wait past its caller's deadline ends with the rate limit at once, after one attempt."""
    backend = ScriptedBackend(default=RATE_LIMITED, default_cap=1)
    async with slowest(World(backend)) as world:
        results, _ = await world.run([prompt("a")], deadline_ns=now_ns() + 20 * SECOND)
        error = results[0].error
        assert error is not None
        assert (results[0].outcome, error.reason) == (Outcome.FAILED, Reason.BACKEND_RATE_LIMITED)
        assert (results[0].attempts, results[0].turned_away) == (1, 4)
        assert results[0].timings.total_ns == 15 * SECOND


@pytest.mark.parametrize(
    ("own_s", "caller_s", "which"),
    [
        (60, 3_600, "the prompt's own queue timeout, deadlines.queue, 60 s away"),
        (0, 100, "the call's deadline, 100 s away"),
        (200, 100.5, "the call's deadline, 100.5 s away"),
    ],
)
@virtual_time
async def test_a_pause_beyond_what_the_caller_set_ends_the_prompt_at_once(
    own_s: int, caller_s: float, which: str
) -> None:
    """P33: a wait that the call's deadline or the prompt's own queue timeout would cut short is not begun."""
    backend = ScriptedBackend(default=failing(Reason.BACKEND_RATE_LIMITED, http_status=429, retry_after_s=3_600))
    async with World(backend) as world:
        deadlines = Deadlines(queue_ns=own_s * SECOND)
        results, _ = await world.run([prompt("a", deadlines=deadlines)], deadline_ns=now_ns() + int(caller_s * SECOND))
        result = results[0]
        assert (result.outcome, result.attempts, result.timings.total_ns) == (Outcome.FAILED, 1, 0)
        assert result.error is not None
        assert (result.error.reason, result.error.retryable) == (Reason.BACKEND_RATE_LIMITED, True)
        assert f"a wait of 3600 s would end after {which})" in result.error.message
        assert result.error.retry_after_ns == 3_600 * SECOND


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("prompts", [1, 2, 12])
@virtual_time
async def test_a_retry_after_beyond_the_queue_timeout_is_honoured(status: int, prompts: int) -> None:
    """P33: with an hour until the call's deadline, 400 s are waited for, though the queue timeout is 300 s.

    That is so for the ten in flight, and for those of the batch that wait behind them; and for all of them again where
    after the pause of a 429 some are turned away once more and others are not.
    """
    reason = Reason.BACKEND_RATE_LIMITED if status == 429 else Reason.BACKEND_OVERLOADED
    backend = ScriptedBackend(default=second(1))
    backend.plays = [failing(reason, http_status=status, retry_after_s=400)] * prompts
    async with World(backend) as world:
        results, _ = await world.run(
            [prompt(str(number)) for number in range(prompts)], deadline_ns=now_ns() + 3_600 * SECOND
        )
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
        assert min(one.timings.total_ns for one in results) == 401 * SECOND
        again = prompts > 10 and status == 429
        assert (max(one.timings.total_ns for one in results) > 800 * SECOND) == again


@virtual_time
async def test_without_any_deadline_a_prompt_ends_all_the_same() -> None:
    """P33: a provider that asks for a week each time is waited for twenty days, and one for each further attempt."""
    backend = ScriptedBackend(default=failing(Reason.BACKEND_RATE_LIMITED, http_status=429, retry_after_s=7 * 86_400))
    async with World(backend) as world:
        result = await world.one()
        assert (result.outcome, result.attempts, result.turned_away) == (Outcome.FAILED, 3, 20)
        assert result.timings.total_ns == (20 + 2) * 86_400 * SECOND


@pytest.mark.parametrize(("deadlines", "asked_s"), [(NONE, None), (Deadlines(queue_ns=20 * SECOND), 60)])
@virtual_time
async def test_the_last_attempt_is_told_where_the_queue_ends_a_prompt(
    deadlines: Deadlines, asked_s: float | None
) -> None:
    """A prompt that ends while it waits says what its last attempt ended in, or that it is not worth the wait."""
    backend = ScriptedBackend(default=second(900), default_cap=1)
    backend.plays = [failing(Reason.BACKEND_OVERLOADED, http_status=503, retry_after_s=asked_s)]
    async with World(backend, retries=SLOWEST) as world:
        results, _ = await world.run([prompt("a", deadlines=deadlines), prompt("b")])
        ended = next(one for one in results if one.custom_id == "a")
        error = ended.error
        assert error is not None
        if asked_s is None:
            assert (error.reason, len(ended.history)) == (Reason.QUEUE_TIMEOUT, 1)
            assert "its last attempt, at backends/b, ended in BACKEND_OVERLOADED" in error.message
        else:
            assert (error.reason, error.retry_after_ns) == (Reason.BACKEND_OVERLOADED, 60 * SECOND)


@virtual_time
async def test_after_what_was_asked_for_the_queue_timeout_counts() -> None:
    """A backend that is down to one slot after its pause: the other prompt has the whole queue timeout from there."""
    backend = ScriptedBackend(default=second(500), default_cap=1)
    backend.plays = [failing(Reason.BACKEND_OVERLOADED, http_status=503, retry_after_s=400)] * 2
    async with World(backend) as world:
        results, _ = await world.run([prompt("a"), prompt("b")])
        by_id = {one.custom_id: one for one in results}
        ends = {name: (one.outcome, one.timings.total_ns) for name, one in by_id.items()}
        assert ends == {"a": (Outcome.SUCCEEDED, 900 * SECOND), "b": (Outcome.EXPIRED, 700 * SECOND)}
        error = by_id["b"].error
        assert error is not None
        assert (error.reason, error.deadline) == (Reason.QUEUE_TIMEOUT, "queue")


@virtual_time
async def test_a_pause_that_a_header_asked_for_is_told_too() -> None:
    """A26: what waits for a limit that the provider announced, and never refused for, is told that it waited for it."""
    backend = ScriptedBackend(default_cap=1)

    async def last_one(_: Call, answer: Answer) -> None:
        answer.push("x")
        answer.told(Told(Left(0, 0, 3600.0)))

    backend.plays = [last_one]
    async with World(backend) as world:
        results, _ = await world.run([prompt("a"), prompt("b")])
        assert [one.outcome for one in results] == [Outcome.SUCCEEDED, Outcome.EXPIRED]
        assert [(one.error.reason, one.error.deadline) for one in results if one.error] == [
            (Reason.BACKEND_RATE_LIMITED, "queue")
        ]


@pytest.mark.parametrize(
    ("play", "paused_s"),
    [
        (failing(Reason.BACKEND_QUOTA_EXHAUSTED, retryable=False, http_status=429, retry_after_s=20), 0),
        (failing(Reason.BACKEND_RATE_LIMITED, retryable=False, http_status=429), 1),
        (failing(Reason.BACKEND_RATE_LIMITED, retryable=False, http_status=429, retry_after_s=20), 20),
    ],
)
@virtual_time
async def test_what_is_not_to_be_repeated_is_not(play: Play, paused_s: int) -> None:
    """A26: a spent quota, and a 429 that says x-should-retry: false, are sent once; that 429 pauses the others too."""
    backend = ScriptedBackend(default_cap=1)
    backend.plays = [play]
    async with slowest(World(backend)) as world:
        results, _ = await world.run([prompt("a"), prompt("b")])
        assert [(one.outcome, one.attempts) for one in results] == [(Outcome.FAILED, 1), (Outcome.SUCCEEDED, 1)]
        assert [one.timings.total_ns for one in results] == [0, paused_s * SECOND]


@virtual_time
async def test_no_retry_budget_is_spent() -> None:
    """P33: forty in flight, each turned away once for a second, with one retry for five first attempts: all succeed."""
    backend = ScriptedBackend(default_cap=40)
    backend.plays = [failing(Reason.BACKEND_RATE_LIMITED, http_status=429, retry_after_s=1)] * 40
    async with World(backend, settings={"rate_limit_ramp": False}, retry_ratio=0.2) as world:
        results, _ = await world.run([prompt(str(number)) for number in range(40)])
        assert {(one.outcome, one.attempts, one.turned_away) for one in results} == {(Outcome.SUCCEEDED, 1, 1)}
        assert [(one.retries_allowed, one.retries_denied) for one in world.scheduling.tenant_limits()] == [(0, 0)]


@virtual_time
async def test_a_rate_limit_in_the_middle_of_an_answer_is_an_attempt() -> None:
    """What had begun to answer was not turned away at the door: it pauses the model and costs an attempt."""

    async def breaks_off(_: Call, answer: Answer) -> None:
        answer.push("x")
        raise BackendError(Reason.BACKEND_RATE_LIMITED, "slow down", retryable=True)

    backend = ScriptedBackend(default_cap=1)
    backend.plays = [breaks_off]
    async with slowest(World(backend)) as world:
        results, _ = await world.run([prompt("a"), prompt("b")])
        assert sorted((one.attempts, one.turned_away) for one in results) == [(1, 0), (2, 0)]
        assert min(one.timings.total_ns for one in results) == SECOND


@virtual_time
async def test_pauses_grow_until_a_success() -> None:
    """1 s, 2 s, 4 s while nothing succeeds in between; after a success 1 s again."""
    at: list[int] = []

    def noting(play: Play) -> Play:
        async def play_noted(call: Call, answer: Answer) -> None:
            at.append(now_ns())
            await play(call, answer)

        return play_noted

    backend = ScriptedBackend(default=noting(second(1)), default_cap=1)
    backend.plays = [noting(one) for one in [RATE_LIMITED] * 3 + [second(1)] + [RATE_LIMITED] * 2]
    async with slowest(World(backend)) as world:
        await world.run([prompt("a"), prompt("b")])
    assert [(after - before) // SECOND for before, after in pairwise(at)] == [1, 2, 4, 1, 1, 2]
