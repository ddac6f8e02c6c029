"""Limits per minute and pauses: what waits is told why and until when, and what a pause costs (T10, T14, T15)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from expresslane.backends.rate_headers import Left, Told
from expresslane.errors import Reason, RefusedError
from expresslane.fleet import Change
from expresslane.rate_limits import Limit, Tally
from expresslane.results import Outcome
from expresslane.retries import RetryPolicy

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.test_retries import failing
from tests.unit.service.world import SECOND, ScriptedBackend, World, drain, prompt, say, second

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call


def limited(retry_after_s: float | None = 20.0) -> list[object]:
    """Turn one attempt away."""
    return [failing(Reason.BACKEND_RATE_LIMITED, http_status=429, retry_after_s=retry_after_s)]


def test_time_is_counted_once() -> None:
    """Two limits over the same time have cost that time once."""
    tally = Tally()
    tally.add(0, 10)
    tally.add(5, 12)
    tally.add(20, 21)
    assert (tally.times, tally.total_ns) == (3, 13)


@virtual_time
async def test_requests_per_minute() -> None:
    """Ten a minute: the eleventh goes when the first is a minute old, and its caller is told why it waits (T10)."""
    backend = ScriptedBackend()
    async with World(backend, settings={"requests_per_min": 10}) as world:
        started = now_ns()
        batch = world.submit([prompt(str(number)) for number in range(15)])
        assert len(await drain(world, batch, 10)) == 10
        (limit,) = batch.limits.values()
        assert limit == Limit("requests_per_min", started + 60 * SECOND, "b")
        await drain(world, batch)
        assert now_ns() - started == pytest.approx(60 * SECOND, abs=SECOND / 100)
        tally = world.scheduling.limits.tally(0)
        assert (tally.times, tally.total_ns) == (1, 60 * SECOND)
        world.intake.close(batch)


@virtual_time
async def test_a_batch_that_comes_later_is_told_too() -> None:
    """The core tells once until the reset; a batch that is submitted meanwhile learns it from the start (T15)."""
    async with World(ScriptedBackend(), settings={"requests_per_min": 1}) as world:
        first = world.submit([prompt("a"), prompt("b")])
        await drain(world, first, 1)
        later = world.submit([prompt("c")])
        assert list(later.limits.values()) == list(first.limits.values())
        for batch in (first, later):
            world.intake.close(batch)


@virtual_time
async def test_a_limit_lifted_at_runtime_lets_go_at_once() -> None:
    """What waits for a limit goes on as soon as it is raised, and what comes then is told of none (T11)."""
    async with World(ScriptedBackend(), settings={"requests_per_min": 1}) as world:
        started = now_ns()
        batch = world.submit([prompt(str(number)) for number in range(5)])
        await drain(world, batch, 1)
        assert batch.limits
        (member,) = world.fleet.members
        world.fleet.update(member, Change(requests_per_min=0))
        later = world.submit([prompt("later")])
        assert not later.limits
        assert len(await drain(world, batch)) == 4
        assert now_ns() == started
        for one in (batch, later):
            world.intake.close(one)


@virtual_time
async def test_what_waits_for_a_limit_can_be_cancelled() -> None:
    """A caller that is told to wait may go instead (T15)."""
    async with World(ScriptedBackend(), settings={"requests_per_min": 1}) as world:
        batch = world.submit([prompt("a"), prompt("b")])
        await drain(world, batch, 1)
        world.intake.cancel(batch)
        (result,) = await drain(world, batch)
        assert (result.custom_id, result.outcome) == ("b", Outcome.CANCELLED)
        world.intake.close(batch)


@virtual_time
async def test_a_prompt_above_the_whole_limit_is_refused() -> None:
    """It could never be released, so it is refused before it waits."""
    async with World(ScriptedBackend(), settings={"tokens_per_min": 100}) as world:
        with pytest.raises(RefusedError, match="above the whole limit of 100") as raised:
            world.submit([prompt("a", "x" * 4_000)])
        assert raised.value.reason is Reason.ABOVE_RATE_LIMIT


@virtual_time
async def test_a_rate_limit_pauses_the_backend_and_costs_no_attempt() -> None:
    """Four times turned away for 20 s, a prompt with three attempts still succeeds; others wait with it (A26)."""
    backend = ScriptedBackend(default_cap=1)
    backend.plays = limited() * 4  # type: ignore[assignment]
    async with World(backend, retries=RetryPolicy(attempts=3, base_s=0.5, cap_s=30)) as world:
        results, _ = await world.run([prompt("a"), prompt("b")])
        assert {result.outcome for result in results} == {Outcome.SUCCEEDED}
        assert len(backend.calls) == 6
        assert {result.timings.total_ns for result in results} == {80 * SECOND}
        assert world.scheduling.limits.tally(0).total_ns == 80 * SECOND


@virtual_time
async def test_other_work_does_not_run_into_a_pause() -> None:
    """While a backend asked to be left alone nothing is sent there, whoever it is from."""
    backend = ScriptedBackend()
    backend.plays = limited()  # type: ignore[assignment]
    async with World(backend) as world:
        first = world.submit([prompt("a")])
        while not first.limits:
            await first.outbox.wait(1)
        others, _ = await world.run([prompt("b")])
        assert others[0].timings.queue_wait_ns == 20 * SECOND
        assert len(backend.calls) == 3
        world.intake.close(first)


@virtual_time
async def test_work_moves_to_another_backend() -> None:
    """With another backend for the model a paused one's prompts do not wait for it (A26)."""
    one, two = ScriptedBackend("one"), ScriptedBackend("two")
    for backend in (one, two):
        backend.plays = limited()  # type: ignore[assignment]
        backend.default = second(1)
    two.plays = []
    async with World(one, two, settings={"cap": 1}) as world:
        results, _ = await world.run([prompt("a")])
        assert results[0].backend == "two" or not one.calls
        assert results[0].timings.total_ns == 1 * SECOND


@virtual_time
async def test_a_pause_beyond_the_deadline_ends_the_prompt_at_once() -> None:
    """What can only wait past its caller's deadline is told the truth now: the rate limit."""
    backend = ScriptedBackend()
    backend.plays = limited()  # type: ignore[assignment]
    async with World(backend) as world:
        results, _ = await world.run([prompt("a")], deadline_ns=now_ns() + 10 * SECOND)
        error = results[0].error
        assert error is not None
        assert (results[0].outcome, error.reason) == (Outcome.FAILED, Reason.BACKEND_RATE_LIMITED)
        assert results[0].timings.total_ns == 0


@virtual_time
async def test_a_backend_that_only_ever_turns_away() -> None:
    """A prompt is not turned away for ever: after twenty times its attempts count."""
    backend = ScriptedBackend()
    backend.default = limited(1.0)[0]  # type: ignore[assignment]
    async with World(backend) as world:
        result = await world.one()
        assert (result.outcome, result.attempts, result.turned_away) == (Outcome.FAILED, 3, 20)
        assert result.error is not None
        assert (result.error.reason, len(result.history)) == (Reason.BACKEND_RATE_LIMITED, 22)


@virtual_time
async def test_a_pause_is_for_one_model() -> None:
    """Prompts of another model of the backend go on, and their callers are not told to wait."""
    backend = ScriptedBackend(default_cap=1)
    backend.plays = limited()  # type: ignore[assignment]
    both = {"models": (("m", "m"), ("n", "n"))}
    async with World(backend, settings=both) as world:
        first = world.submit([prompt("a"), prompt("b")])
        while not first.limits:
            await first.outbox.wait(1)
        other = world.submit([prompt("c", model="n")])
        (result,) = await drain(world, other)
        assert result.timings.total_ns == 0
        assert not other.limits
        assert len(await drain(world, first)) == 2
        for batch in (first, other):
            world.intake.close(batch)


@virtual_time
async def test_a_backend_that_says_that_nothing_is_left() -> None:
    """What a backend says of its own limit beside an answer keeps the next prompt from running into it (A26)."""

    async def last(call: Call, answer: Answer) -> None:
        answer.told(Told(Left(0, 0, 7.5)))
        await say(call, answer)

    backend = ScriptedBackend(default_cap=1)
    backend.plays = [last]
    async with World(backend) as world:
        results, _ = await world.run([prompt("a"), prompt("b")])
        assert [one.timings.total_ns for one in results] == [0, 7.5 * SECOND]
        assert len(backend.calls) == 2


def saying(*left: Told) -> list[object]:
    """Answers of a second each, which say what is left before they begin."""

    def play(one: Told) -> object:
        async def say_left(call: Call, answer: Answer) -> None:
            answer.told(one)
            await second(1)(call, answer)

        return say_left

    return [play(one) for one in left]


@virtual_time
async def test_as_many_as_a_backend_has_left() -> None:
    """Three left and eight slots: three go, the rest at the reset, and the caller is told why (A26, T15)."""
    backend = ScriptedBackend(default_cap=8, default=second(1))
    backend.plays = saying(Told(requests=Left(3, 50, 20.0)))  # type: ignore[assignment]
    async with World(backend) as world:
        started = now_ns()
        await world.run([prompt("first")])
        batch = world.submit([prompt(str(number)) for number in range(9)])
        results = await drain(world, batch)
        ends = sorted(one.timings.total_ns for one in results)
        assert ends == [1 * SECOND] * 3 + [20 * SECOND] * 6
        (limit,) = batch.limits.values()
        assert limit == Limit("requests_left", started + 20 * SECOND, "b")
        assert {one.attempts for one in results} == {1}
        world.intake.close(batch)


@virtual_time
async def test_too_few_tokens_left() -> None:
    """A prompt that asks for more tokens than are left waits for the reset; one that asks for no more goes at once."""
    backend = ScriptedBackend(default_cap=8, default=second(1))
    few, enough = Told(tokens=Left(2, 100, 20.0)), Told(tokens=Left(100_000, 200_000, 20.0))
    backend.plays = saying(few, enough)  # type: ignore[assignment]
    async with World(backend) as world:
        for waits_s in (19, 0):
            await world.run([prompt("first")])
            batch = world.submit([prompt("x" * 400)])
            (result,) = await drain(world, batch)
            assert result.timings.total_ns == (waits_s + 1) * SECOND
            assert [limit.kind for limit in batch.limits.values()] == ["tokens_left"] * bool(waits_s)
            world.intake.close(batch)


@virtual_time
async def test_more_has_come_back() -> None:
    """A later answer that has more left opens at once what an earlier one had closed."""
    backend = ScriptedBackend(default_cap=2, default=second(1))
    none, some = Told(requests=Left(0, 9, 200.0)), Told(requests=Left(9, 9, 200.0))

    async def late(call: Call, answer: Answer) -> None:
        await second(3)(call, answer)
        answer.told(some)

    backend.plays = [*saying(none), late]  # type: ignore[list-item]
    async with World(backend) as world:
        results, _ = await world.run([prompt(name) for name in "abc"])
        assert sorted(one.timings.total_ns for one in results) == [1 * SECOND, 3 * SECOND, 4 * SECOND]
