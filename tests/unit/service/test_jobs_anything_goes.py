"""Jobs under random use: created, watched, left, cancelled, deleted and expired, in little room."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from expresslane.batches.held import Amount
from expresslane.errors import BackendError, Reason, RefusedError
from expresslane.settings import TenantSettings

from tests.support.virtual_time import virtual_time
from tests.unit.service.test_jobs import create, store, watched
from tests.unit.service.world import Play, ScriptedBackend, World

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call
    from expresslane.jobs import Job, JobStore
    from expresslane.results import Result


def anything(chance: random.Random) -> Play:
    """Answers of any length after any time, and now and then a failure."""

    async def play(_call: Call, answer: Answer) -> None:
        await asyncio.sleep(chance.random() * 3)
        if chance.random() < 0.1:
            raise BackendError(Reason.BACKEND_OVERLOADED, "no", retryable=True)
        answer.push("x" * chance.randrange(5_000))

    return play


class Users:
    """Do anything to the jobs, and remember what must come of it."""

    def __init__(self, jobs: JobStore, chance: random.Random) -> None:
        self._jobs = jobs
        self._chance = chance
        self.made: list[Job] = []
        self.watches: list[tuple[Job, int, asyncio.Task[list[Result]]]] = []

    async def act(self) -> None:
        """One thing, after some time."""
        chance = self._chance
        await asyncio.sleep(chance.random() * 4)
        known = self._jobs.newest(20)
        if not known or chance.random() < 0.4:
            with suppress(RefusedError):
                self.made.append(create(self._jobs, chance.randrange(1, 15), fail_fast=chance.random() < 0.2))
                self._watch(self.made[-1], 0)
            return
        job = chance.choice(known)
        match chance.choice(("watch", "watch", "watch", "leave", "cancel", "delete")):
            case "watch":
                self._watch(job, chance.randrange(job.batch.total + 1))
            case "leave" if self.watches:
                self.watches.pop(chance.randrange(len(self.watches)))[2].cancel()
            case "cancel":
                self._jobs.cancel(job)
            case "delete":
                self._jobs.delete(job)

    def _watch(self, job: Job, after: int) -> None:
        self.watches.append((job, after, asyncio.ensure_future(watched(self._jobs, job, after))))


@pytest.mark.parametrize("seed", range(30))
@virtual_time
async def test_nothing_is_lost_and_nothing_stays(seed: int) -> None:
    """Each watch brings each result once, each job ends, and at last nothing is kept (A05); the seed is the test's."""
    chance = random.Random(seed)
    bounds = TenantSettings(job_limit=seed % 2 * 4, job_results_limit_bytes=seed % 3 * 8_000)  # 0: none of its own
    backend = ScriptedBackend(default=anything(chance), default_cap=chance.choice((1, 3, 10)))
    async with World(backend, tenants={"default": bounds}) as world:
        room = chance.choice((20_000, 100_000))
        jobs = store(world, limit=10, results_limit_bytes=room, retention_s=chance.choice((5.0, 30.0)))
        users = Users(jobs, chance)
        for _ in range(80):
            await users.act()
        for job, after, watch in users.watches:
            indexes = [one.index for one in await watch]
            assert len(set(indexes)) == len(indexes) == job.batch.total - after
        await asyncio.sleep(1_000)
        assert (jobs.newest(1), jobs.kept_bytes, world.intake.open_batches) == ([], 0, 0)
        assert (jobs.kept(), jobs._parts) == (Amount(), {})
        for job in users.made:
            assert job.summary is not None
            assert sum(job.summary.outcomes.values()) == job.batch.total
            assert (job.batch.in_flight, job.readers) == (0, 0)
