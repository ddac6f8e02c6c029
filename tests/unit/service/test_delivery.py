"""Results reach their reader in the order it asked for, and a slow reader stalls its own batch only."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from expresslane.errors import Reason
from expresslane.results import Outcome

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.world import SECOND, ScriptedBackend, World, drain, prompt, second

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call
    from expresslane.results import Result


def shuffled(seed: int) -> ScriptedBackend:
    """Answers after a random time from 0 to 10 s."""
    chance = random.Random(seed)

    async def play(call: Call, answer: Answer) -> None:
        await asyncio.sleep(chance.random() * 10)
        answer.push(f"echo {call.prompt.content}")

    return ScriptedBackend(default=play, default_cap=1_000)


@virtual_time
async def test_as_completed() -> None:
    """Without a window each result is delivered when it is ready, whatever its place in the batch (A03)."""
    async with World(shuffled(1)) as world:
        results, summary = await world.run([prompt(str(number)) for number in range(100)])
        finished = [result.timings.total_ns for result in results]
        assert finished == sorted(finished)
        assert [result.index for result in results] != list(range(100))
        assert summary.first_result_ns == finished[0]
        assert summary.median_result_ns == finished[49]


@pytest.mark.parametrize("window", [1, 2, 7, 100, 1_000])
@virtual_time
async def test_in_order_never_runs_ahead_of_its_window(window: int) -> None:
    """In-order results come by index, and no prompt starts `window` or more places ahead of the next due (A02)."""
    backend = shuffled(2)
    async with World(backend, policy="sjf") as world:
        prompts = [prompt(str(number), "x" * (400 - number)) for number in range(100)]
        batch = world.submit(prompts, reorder_window=window)
        results: list[Result] = []
        while len(results) < 100:
            started = len(backend.calls)
            new = await drain(world, batch, count=1)
            results += new
            ahead = [int(one) for one in backend.asked]
            assert max(ahead) < len(results) + window
            assert started <= len(backend.calls)
        assert [result.index for result in results] == list(range(100))
        assert backend.peak <= window


@virtual_time
async def test_the_next_due_prompt_is_never_held() -> None:
    """With window 1 a batch runs one prompt after the other and ends, also when none is read until it must be."""
    async with World(ScriptedBackend(default=second(1))) as world:
        batch = world.submit([prompt(str(number)) for number in range(5)], reorder_window=1)
        await asyncio.sleep(100)
        assert world.scheduling.snapshot().queued == 4
        results = await drain(world, batch)
        assert [result.index for result in results] == [0, 1, 2, 3, 4]


@virtual_time
async def test_a_slow_reader_holds_its_own_batch_only() -> None:
    """At `outbox_limit` unread results a batch starts nothing more; another batch runs on; reading resumes it."""
    backend = ScriptedBackend(default=second(1))
    async with World(backend, settings={"cap": 4}) as world:
        slow = world.submit([prompt(f"slow{number}") for number in range(100)], outbox_limit=8)
        await asyncio.sleep(50)
        assert 8 <= len(backend.calls) <= 8 + 4
        snapshot = world.scheduling.snapshot()
        assert (snapshot.in_flight, snapshot.queued) == (0, 100 - len(backend.calls))
        started = now_ns()
        others, _ = await world.run([prompt(f"other{number}") for number in range(40)])
        assert {result.outcome for result in others} == {Outcome.SUCCEEDED}
        assert now_ns() - started == 10 * SECOND
        results = await drain(world, slow)
        assert sorted(result.index for result in results) == list(range(100))


@pytest.mark.parametrize("window", [0, 100_000])
@virtual_time
async def test_a_reader_that_never_reads_large_answers(window: int) -> None:
    """With 100 KB answers unread, what runs is bounded by their bytes, whichever the delivery; reading resumes it."""

    async def large(_: Call, answer: Answer) -> None:
        await asyncio.sleep(1)
        answer.push("x" * 100_000)

    backend = ScriptedBackend(default=large)
    async with World(backend, settings={"cap": 4}) as world:
        prompts = [prompt(str(number)) for number in range(60)]
        batch = world.submit(prompts, reorder_window=window, outbox_limit_bytes=1_000_000)
        await asyncio.sleep(100)
        assert 10 <= len(backend.calls) <= 10 + 4
        assert world.scheduling.snapshot().in_flight == 0
        results = await drain(world, batch)
        assert sorted(result.index for result in results) == list(range(60))


@pytest.mark.parametrize("seed", range(20))
@virtual_time
async def test_in_order_never_deadlocks(seed: int) -> None:
    """In-order batches end whatever their window and limits, with answers larger than the limit of bytes (A02)."""
    chance = random.Random(seed)
    async with World(shuffled(seed), policy=chance.choice(("sjf", "ljf", "fcfs", "hrrn"))) as world:
        results, _ = await world.run(
            [prompt(str(number), "x" * chance.randint(1, 400)) for number in range(60)],
            reorder_window=chance.choice((1, 2, 9, 100_000)),
            outbox_limit=chance.choice((1, 3, 1_000)),
            outbox_limit_bytes=chance.choice((1, 300, 5_000)),
        )
        assert [result.index for result in results] == list(range(60))


@virtual_time
async def test_an_answer_too_large_for_a_result() -> None:
    """A complete answer that no message could carry is that prompt's failure, without its text, and counted as one."""

    async def large(_: Call, answer: Answer) -> None:
        answer.push("x" * 4_200_000)

    async with World(ScriptedBackend(default=large)) as world:
        (result,), summary = await world.run([prompt("a")])
        assert (result.outcome, result.text) == (Outcome.FAILED, "")
        assert result.error is not None
        assert result.error.reason is Reason.ANSWER_OVER_LIMIT
        assert summary.outcomes[Outcome.FAILED] == 1
        assert world.scheduling.snapshot().failed == 1


@virtual_time
async def test_tasks_are_bounded_by_what_is_released() -> None:
    """10,000 waiting prompts have no tasks and no timers of their own: both stay near the cap (A36)."""
    backend = ScriptedBackend(default=second(1))
    async with World(backend, settings={"cap": 8}) as world:
        before = len(asyncio.all_tasks())
        batch = world.submit([prompt(str(number)) for number in range(10_000)])
        seen = 0
        timers = 0
        while batch.unfinished:
            await drain(world, batch, count=500)
            seen = max(seen, len(asyncio.all_tasks()))
            scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
            timers = max(timers, sum(not timer._cancelled for timer in scheduled))
        assert seen - before <= 8
        assert timers <= 8 + 5
        assert world.scheduling.snapshot().succeeded == 10_000
    assert backend.peak == 8


@virtual_time
async def test_a_thousand_prompts_keep_their_answers() -> None:
    """1,000 prompts that finish in random order each get their own answer, once (T13, A04)."""
    async with World(shuffled(3), shuffled_named("c", 4), settings={"cap": 50}) as world:
        results, summary = await world.run([prompt(f"id-{number}", f"text {number}") for number in range(1_000)])
        assert len(results) == len({result.custom_id for result in results}) == 1_000
        for result in results:
            assert (result.custom_id, result.text) == (f"id-{result.index}", f"echo text {result.index}")
        assert summary.outcomes[Outcome.SUCCEEDED] == 1_000


def shuffled_named(name: str, seed: int) -> ScriptedBackend:
    """A second backend of the same kind."""
    backend = shuffled(seed)
    backend.id = name
    return backend


@virtual_time
async def test_one_timer() -> None:
    """The driver keeps one timer however many prompts wait and run; it polls when that fires and not otherwise."""
    async with World(ScriptedBackend(default=second(1_000)), settings={"attempt_timeout_s": 5_000.0}) as world:
        polls = 0
        poll = world.scheduling._pump

        def counted() -> None:
            nonlocal polls
            polls += 1
            poll()

        world.scheduling._pump = counted  # type: ignore[method-assign]
        for number in range(10):
            world.submit([prompt(f"{number}-{one}") for one in range(100)])
        await asyncio.sleep(1)
        before = polls
        await asyncio.sleep(50)
        assert polls - before <= 1
