"""Kept batches under random use: begun, left, come back to in any way, forgotten, in little room."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from expresslane.batches.call_cursor import CallCursor
from expresslane.batches.held import Amount
from expresslane.errors import BackendError, Reason, RefusedError
from expresslane.settings import TenantSettings

from tests.support.virtual_time import virtual_time
from tests.unit.service.test_kept_batches import create, store
from tests.unit.service.world import Play, ScriptedBackend, World

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call
    from expresslane.kept_batches import KeptBatch, KeptBatches
    from expresslane.results import Result


def anything(chance: random.Random) -> Play:
    """Answers of any length, in pieces, after any time, and now and then a failure."""

    async def play(_call: Call, answer: Answer) -> None:
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(chance.random())
            if chance.random() < 0.05:
                raise BackendError(Reason.BACKEND_OVERLOADED, "no", retryable=True)
            answer.push("x" * chance.randrange(2_000), "y" * chance.randrange(100))

    return play


async def heard(batches: KeptBatches, kept: KeptBatch, *, in_order: bool, deltas: bool) -> list[Result]:
    """All that an attached call hears; its deltas must add up to each result's text, and come no later."""
    results: list[Result] = []
    texts: Counter[int] = Counter()
    with batches.attached(kept):
        cursor = CallCursor(kept.log, in_order=in_order, deltas=deltas)
        while not (cursor.closed and cursor.empty):
            assert await cursor.wait(86_400)
            parcel = cursor.take()
            for delta in parcel.deltas:
                assert all(one.index != delta.index for one in results), "a delta after its result"
                texts[delta.index] += len("".join(delta.text))
            results += parcel.results
        kept.spent = True
    if deltas:
        assert all(texts[one.index] == len(one.text) for one in results)
    return results


class Callers:
    """Do anything with kept batches, and remember what must come of it."""

    def __init__(self, batches: KeptBatches, chance: random.Random) -> None:
        self._batches = batches
        self._chance = chance
        self.made: list[KeptBatch] = []
        self.calls: list[tuple[KeptBatch, bool, asyncio.Task[list[Result]]]] = []

    async def act(self) -> None:
        """One thing, after some time."""
        chance = self._chance
        await asyncio.sleep(chance.random() * 4)
        known = [kept for kept in self.made if not kept.forgotten]
        if not known or chance.random() < 0.4:
            with suppress(RefusedError):
                options = {"stream_deltas": chance.random() < 0.5, "fail_fast": chance.random() < 0.2}
                count, keep_s = chance.randrange(1, 15), chance.choice((1.0, 10.0, 60.0))
                self.made.append(create(self._batches, count, f"r{len(self.made)}", keep_s=keep_s, **options))
                await self._call(self.made[-1])
        elif chance.random() < 0.6:
            await self._call(chance.choice(known))
        elif chance.random() < 0.2:
            kept = chance.choice(known)
            assert self._batches.cancel_named("default", kept.batch.options.request_id) is kept
        elif self.calls:
            self.calls.pop(chance.randrange(len(self.calls)))[2].cancel()

    async def _call(self, kept: KeptBatch) -> None:
        in_order = self._chance.random() < 0.5
        hearing = heard(self._batches, kept, in_order=in_order, deltas=self._chance.random() < 0.5)
        self.calls.append((kept, in_order, asyncio.ensure_future(hearing)))
        await asyncio.sleep(0)  # it is attached now


@pytest.mark.parametrize("seed", range(30))
@virtual_time
async def test_nothing_is_lost_and_nothing_stays(seed: int) -> None:
    """Who stays hears every result once, in the order asked for; who leaves costs nothing for long."""
    chance = random.Random(seed)
    bounds = TenantSettings(kept_limit=seed % 2 * 4, kept_results_limit_bytes=seed % 3 * 8_000)  # 0: none of its own
    backend = ScriptedBackend(default=anything(chance), default_cap=chance.choice((1, 3, 10)))
    async with World(backend, tenants={"default": bounds}) as world:
        batches = store(world, limit=10, results_limit_bytes=chance.choice((20_000, 100_000)))
        callers = Callers(batches, chance)
        for _ in range(80):
            await callers.act()
        for kept, in_order, call in callers.calls:
            indexes = [one.index for one in await call]
            assert sorted(indexes) == list(range(kept.batch.total))
            assert not in_order or indexes == sorted(indexes)
        await asyncio.sleep(1_000)
        assert (batches.kept_bytes, world.intake.open_batches) == (0, 0)
        assert (batches.kept(), batches._parts) == (Amount(), {})
        for kept in callers.made:
            assert kept.summary is not None
            assert sum(kept.summary.outcomes.values()) == kept.batch.total
            assert (kept.batch.in_flight, kept.readers, kept.forgotten) == (0, 0, True)
            assert kept.log.live == {}
