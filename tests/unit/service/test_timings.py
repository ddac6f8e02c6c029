"""Where a prompt's time went: each part measured apart, on the monotonic clock, and adding up."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from expresslane.errors import BackendError, Reason
from expresslane.results import Outcome, Usage

from tests.support.virtual_time import virtual_time
from tests.unit.service.world import SECOND, ScriptedBackend, World, prompt

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call


async def engine(_: Call, answer: Answer) -> None:
    """2 s of prefill, then 11 tokens, one each 0.1 s."""
    await asyncio.sleep(2)
    for number in range(11):
        if number:
            await asyncio.sleep(0.1)
        answer.push("t")
    answer.usage = Usage(input_tokens=5, output_tokens=11)


@virtual_time
async def test_prefill_and_decode_are_told_apart() -> None:
    """TTFT and time per output token of an engine with known rates come out as they are (G04)."""
    async with World(ScriptedBackend(default=engine)) as world:
        result = await world.one()
        timings = result.timings
        assert (timings.ttft_ns, timings.attempt_ttft_ns) == (2 * SECOND, 2 * SECOND)
        assert timings.tpot_ns == pytest.approx(0.1 * SECOND, abs=2)
        assert timings.total_ns == pytest.approx(3 * SECOND, abs=2)
        assert result.usage == Usage(input_tokens=5, output_tokens=11)


@virtual_time
async def test_queue_wait_is_told_apart() -> None:
    """TTFT and total of a prompt that had to wait include the wait, and the attempt's do not (G25, A38)."""
    async with World(ScriptedBackend(default=engine), settings={"cap": 1}) as world:
        results, summary = await world.run([prompt("a"), prompt("b")])
        waited = results[1].timings
        assert waited.queue_wait_ns == pytest.approx(3 * SECOND, abs=5)
        assert waited.attempt_ttft_ns == 2 * SECOND
        assert waited.ttft_ns == waited.queue_wait_ns + waited.attempt_ttft_ns
        assert waited.total_ns == waited.queue_wait_ns + (waited.attempt_ns or 0)
        assert (summary.queue_wait.count, summary.queue_wait.p50_ns) == (2, 0)
        assert summary.speed_up == pytest.approx(1)


@virtual_time
async def test_an_earlier_attempt_is_neither_wait_nor_service() -> None:
    """After a retry the last attempt's times are its own; the failed one counts in the total and in no other part."""

    async def fails_late(_: Call, __: Answer) -> None:
        await asyncio.sleep(4)
        raise BackendError(Reason.BACKEND_OVERLOADED, "busy", retryable=True, retry_after_s=1)

    backend = ScriptedBackend(default=engine)
    backend.plays = [fails_late]
    async with World(backend) as world:
        timings = (await world.one()).timings
        assert timings.queue_wait_ns == SECOND
        assert timings.total_ns == pytest.approx(8 * SECOND, abs=5)
        assert timings.attempt_ns == pytest.approx(3 * SECOND, abs=5)
        assert timings.ttft_ns == pytest.approx(7 * SECOND, abs=5)


@virtual_time
async def test_wall_clock_jumps_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wall clock that jumps back by a day changes no duration and no deadline (A37)."""
    async with World(ScriptedBackend(default=engine)) as world:
        batch = world.submit([prompt("a")])
        await asyncio.sleep(1)
        monkeypatch.setattr(time, "time", lambda: 0.0)
        monkeypatch.setattr(time, "time_ns", lambda: 0)
        await batch.outbox.wait(100)
        (result,) = batch.outbox.take().results
        assert result.outcome is Outcome.SUCCEEDED
        assert result.timings.total_ns == pytest.approx(3 * SECOND, abs=2)
