"""Random worlds: whatever happens in whatever order, each prompt ends exactly once and no cap is broken.

The parameter is the seed: rerun one with `pytest 'tests/unit/service/test_anything_goes.py::test_random_world[SEED]'`.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from expresslane.backends.base import Discovery
from expresslane.batches.batch import BatchOptions
from expresslane.batches.held import Bounds
from expresslane.errors import BackendError, Reason, RefusedError
from expresslane.fleet import Change
from expresslane.policies import POLICY_NAMES, Scope
from expresslane.prompts import Deadlines, PromptClass

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.world import SECOND, ScriptedBackend, World, drain, prompt

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call
    from expresslane.batches.batch import Batch
    from expresslane.results import Result

CAP = 4
FAILURES = (
    (Reason.BACKEND_OVERLOADED, True),
    (Reason.BACKEND_RATE_LIMITED, True),
    (Reason.BACKEND_REJECTED, False),
    (Reason.BACKEND_UNREACHABLE, True),
)


class Chaos:
    """One random world."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.backends = [ScriptedBackend(name, default=self.play) for name in ("a", "b")]
        for backend in self.backends:
            backend.discovery = Discovery()

    async def play(self, call: Call, answer: Answer) -> None:
        """Any end an attempt can have, at any time, or none at all."""
        chance = self.chance
        await asyncio.sleep(chance.choice((0, 0, 0.5, 3)) * chance.random())
        kind = chance.random()
        if kind < 0.1:
            await asyncio.Event().wait()
        if kind < 0.3:
            answer.push("half")
        if kind < 0.5:
            reason, retryable = chance.choice(FAILURES)
            raise BackendError(reason, "by chance", retryable=retryable, retry_after_s=chance.choice((None, 2.0)))
        for piece in (call.prompt.custom_id, "!"):
            answer.push(piece)
            await asyncio.sleep(chance.random())

    def options(self) -> dict[str, Any]:
        """Any way to run a batch."""
        chance = self.chance
        return {
            "tenant": chance.choice(("default", "acme", "other")),
            "fail_fast": chance.random() < 0.2,
            "max_failure_rate": chance.choice((0, 0, 0.3)),
            "stream_deltas": chance.random() < 0.3,
            "reorder_window": chance.choice((0, 0, 1, 3, 50)),
            "outbox_limit": chance.choice((1, 5, 1_000)),
            "deadline_ns": chance.choice((0, 0, now_ns() + chance.randrange(20 * SECOND))),
        }

    async def caller(self, world: World, number: int) -> None:
        """One call: sends, reads slowly, cancels some, perhaps goes away."""
        chance = self.chance
        await asyncio.sleep(chance.random() * 10)
        options = BatchOptions(str(number), **self.options())
        batch = await self.opened(world, options)
        tickets = []
        for part in range(chance.randrange(1, 4)):
            if not batch.open:
                break
            prompts = [
                prompt(
                    f"{number}-{part}-{n}",
                    "x" * chance.randrange(1, 2_000),
                    model=chance.choice(("m", "m", "m", "m", "unknown")),
                    deadlines=Deadlines(
                        queue_ns=chance.choice((0, 0, 2 * SECOND)),
                        idle_ns=chance.choice((0, SECOND)),
                        ttft_target_ns=chance.choice((0, 5 * SECOND)),
                    ),
                    sequential=chance.random() < 0.05,
                )
                for n in range(chance.randrange(1, 20))
            ]
            tickets += world.intake.accept(batch, [(one, len(str(one.content))) for one in prompts])
            await asyncio.sleep(chance.random() * 3)
        batch.end_input()
        for ticket in chance.sample(tickets, len(tickets) // 5):
            world.scheduling.cancel(ticket)
        if chance.random() < 0.2:
            world.intake.close(batch)
        check(batch, await self.read(world, batch))
        world.intake.close(batch)
        batch.outbox.leave()

    async def opened(self, world: World, options: BatchOptions) -> Batch:
        """A new batch, as soon as its tenant has read enough of others."""
        while True:
            try:
                return world.intake.open(options, method="Test", prompts=0, is_open=True)
            except RefusedError as refusal:
                if refusal.reason is not Reason.UNREAD_FULL:
                    raise
                await asyncio.sleep(self.chance.random())

    async def read(self, world: World, batch: Batch) -> list[Result]:
        """All results, at a reader's random pace."""
        results: list[Result] = []
        while not (batch.outbox.closed and batch.outbox.empty):
            results += await drain(world, batch, count=1)
            await asyncio.sleep(self.chance.choice((0, 0, 0.5)))
        return results

    async def operator(self, world: World) -> None:
        """Turns every switch there is."""
        while True:
            await asyncio.sleep(self.chance.random() * 2)
            self.turn(world)

    def turn(self, world: World) -> None:
        """One switch."""
        chance = self.chance
        member = chance.choice(world.fleet.members)
        match chance.randrange(6):
            case 0 | 1:
                world.fleet.update(member, Change(enabled=chance.random() < 0.7))
            case 2 | 3:
                world.fleet.update(member, Change(cap=chance.randrange(1, CAP + 1)))
            case 4:
                limits = Change(requests_per_min=chance.choice((0, 0, 60)), tokens_per_min=chance.choice((0, 50_000)))
                world.fleet.update(member, limits)
                weight = chance.randrange(1, 5)
                world.tenants.update("acme", {"weight": weight, "requests_per_min": chance.choice((0, 40))})
            case 5:
                scope = Scope(chance.choice((None, *PromptClass)), chance.choice(("", "m")))
                policy = chance.choice(POLICY_NAMES)
                world.scheduling.set_policy(scope, policy, world.registry.number("m") if scope.model else None)


def check(batch: Batch, results: list[Result]) -> None:
    """Every prompt of the batch has ended once, its answer is its own, and the summary adds up."""
    assert sorted(one.index for one in results) == list(range(batch.total))
    if batch.options.reorder_window:
        assert [one.index for one in results] == list(range(batch.total))
    for one in results:
        assert one.text in {"", "half", one.custom_id, f"{one.custom_id}!", f"half{one.custom_id}!"} or one.error
        assert (one.error is None) == (one.outcome.value == "success")
        assert one.timings.queue_wait_ns <= one.timings.total_ns
    summary = batch.summary()
    assert sum(summary.outcomes.values()) == summary.total == len(results)
    assert batch.in_flight == 0


@pytest.mark.parametrize("seed", range(40))
@virtual_time
async def test_random_world(seed: int) -> None:
    """Retries, timeouts, cancels, slow readers, outages and switches together lose nothing and end nothing twice."""
    chaos = Chaos(seed)
    policy = chaos.chance.choice(POLICY_NAMES)
    settings = {"cap": CAP, "attempt_timeout_s": 8.0, "idle_timeout_s": 3.0, "lanes": seed % 2 == 0}
    core: dict[str, Any] = {"policy": policy, "in_flight_limit": seed % 8}
    unread = Bounds(seed % 3 * 5, seed % 5 * 1_000)  # what slow readers may leave, or no such bound
    async with World(*chaos.backends, settings=settings, unread_bounds=unread, **core) as world:
        operator = asyncio.create_task(chaos.operator(world))
        await asyncio.gather(*(chaos.caller(world, number) for number in range(8)))
        operator.cancel()
        assert world.intake.open_batches == 0
        assert (world.tenants.unread.results, world.tenants.unread.bytes, world.tenants.unread.holders) == (0, 0, 0)
        assert world.scheduling.snapshot().submitted > 0
    assert all(backend.peak <= CAP for backend in chaos.backends)
    assert all(backend.in_flight == 0 for backend in chaos.backends)
