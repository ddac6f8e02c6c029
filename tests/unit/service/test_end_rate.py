"""When to come back while little or nothing has ended: later and later, and not every second (A07, A26)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from expresslane.end_rate import EndRate, FirstEnds
from expresslane.errors import Reason, RefusedError

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.world import SECOND, ScriptedBackend, World, drain, prompt, second


def refused_s(world: World, count: int, **options: Any) -> float:
    """When a batch of so many prompts that finds no room may come back, in seconds."""
    with pytest.raises(RefusedError) as raised:
        world.submit([prompt(f"late {number}", "x" * 100) for number in range(count)], **options)
    assert raised.value.reason is Reason.QUEUE_FULL
    assert raised.value.retry_after_ns is not None
    return raised.value.retry_after_ns / SECOND


@virtual_time
async def test_who_heeds_a_young_queue_asks_seldom() -> None:
    """Before anything has ended each delay is as long as that has lasted: few calls in place of one a second."""
    async with World(ScriptedBackend(default=second(50), default_cap=2), queue_limit=10) as world:
        start_ns = now_ns()
        batch = world.submit([prompt(str(number), "x" * 100) for number in range(10)])
        await asyncio.sleep(0.1)
        delays: list[float] = []
        while now_ns() - start_ns < 40 * SECOND:
            delays.append(refused_s(world, 3))
            await asyncio.sleep(delays[-1])
        assert delays[0] == 1
        assert delays == sorted(delays)
        assert len(delays) <= 8
        world.intake.close(batch)


@virtual_time
async def test_the_bound_by_bytes_is_the_same() -> None:
    """Also of the bounds that the core does not know; with more places to wait for than slots it takes longer."""
    async with World(ScriptedBackend(default=second(50), default_cap=2)) as world:
        batch = world.submit([prompt(str(number), "x" * 100) for number in range(10)], queue_limit_bytes=1_000)
        await asyncio.sleep(8)
        assert refused_s(world, 2, queue_limit_bytes=1_000) == pytest.approx(8), "both slots in as long again"
        assert refused_s(world, 8, queue_limit_bytes=1_000) == pytest.approx(8 * 4)
        await asyncio.sleep(40)
        assert refused_s(world, 8, queue_limit_bytes=1_000) == 60
        await asyncio.sleep(3)
        assert world.scheduling.snapshot().succeeded == 2
        assert refused_s(world, 3, queue_limit_bytes=1_000) == pytest.approx(51 / 2), "the first end is no rate yet"
        world.intake.close(batch)


@virtual_time
async def test_a_measured_rate_counts_alone() -> None:
    """Once all work has ended, or after a minute, the rate is measured: what was at the start says no more."""
    async with World(ScriptedBackend(default=second(0.5), default_cap=1), queue_limit=20) as world:
        await world.run([prompt(str(number)) for number in range(4)])
        await asyncio.sleep(30)
        batch = world.submit([prompt(str(number)) for number in range(20)])
        await asyncio.sleep(5.25)
        now = world.scheduling.snapshot()
        missing = 20 - (now.queue_limit - now.queued)
        assert refused_s(world, 20) == pytest.approx(missing / now.drain_rate_per_s, rel=0.01)
        await drain(world, batch)
        world.intake.close(batch)


def test_until_the_first_ends() -> None:
    """Of calls and batches too: the delay grows from 1 s to 60 s, until one has ended and the rate is measured."""
    at = [0]
    rate = EndRate(lambda: at[0])
    delays = []
    for now_s in (100, 101, 104, 110, 500):
        at[0] = now_s * SECOND
        delays.append(rate.retry_after_ns(3) / SECOND)
    assert delays == [1, 1, 4, 10, 60]
    rate.ended()
    assert rate.retry_after_ns(3) == 3 * SECOND


def test_a_minute_without_an_end_is_no_reason_to_hurry() -> None:
    """The longest delay stays, until something has ended; then the minute is over."""
    ends = FirstEnds()
    assert ends.retry_after_ns(0, SECOND, 1, lambda: 1) == SECOND
    ends.began(0)
    assert ends.retry_after_ns(300 * SECOND, SECOND, 1, lambda: 1) == 60 * SECOND
    ends.ended(idle=False)
    assert ends.retry_after_ns(300 * SECOND, SECOND, 1, lambda: 1) == SECOND


def test_what_has_ended_counts_as_a_slot() -> None:
    """Where little is in flight any more, as many as have ended are taken to end in as long again."""
    ends = FirstEnds()
    ends.began(0)
    for _ in range(4):
        ends.ended(idle=False)
    assert ends.retry_after_ns(8 * SECOND, SECOND, 8, lambda: 1) == 16 * SECOND
