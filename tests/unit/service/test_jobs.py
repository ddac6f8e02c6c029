"""Jobs: batches that outlive their call, kept in the order of completion, bounded in number, bytes and time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from expresslane.batches.batch import BatchOptions
from expresslane.batches.summary import BatchState
from expresslane.errors import BackendError, Reason, RefusedError
from expresslane.jobs import Job, JobStore
from expresslane.results import Outcome
from expresslane.settings import TenantSettings

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.world import SECOND, ScriptedBackend, World, prompt, second

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call
    from expresslane.results import Result


def store(world: World, **limits: Any) -> JobStore:
    """A store with generous bounds but for `limits`."""
    plain = {"limit": 100, "results_limit_bytes": 1_000_000, "retention_s": 60.0}
    return JobStore(world.intake, world.scheduling, wall_clock=now_ns, **(plain | limits))


def create(jobs: JobStore, count: int, job_id: str = "", **options: Any) -> Job:
    """A job of so many short prompts."""
    prompts = [(prompt(str(number)), 10) for number in range(count)]
    return jobs.create(job_id, BatchOptions("r", **options), prompts)


async def watched(jobs: JobStore, job: Job, after: int = 0) -> list[Result]:
    """What a watch brings from a position on, to the job's end."""
    results: list[Result] = []
    with jobs.watch(job, after) as cursor:
        while not (cursor.closed and cursor.empty):
            assert await cursor.wait(86_400)
            results += cursor.take().results
    return results


async def failing(_call: Call, _answer: Answer) -> None:
    """Fail for good."""
    raise BackendError(Reason.BACKEND_REJECTED, "no")


async def large(_call: Call, answer: Answer) -> None:
    """Answer with 10,000 characters after a second."""
    await asyncio.sleep(1)
    answer.push("x" * 10_000)


def refusal(jobs: JobStore, job_id: str = "") -> RefusedError:
    """Why another job is refused."""
    with pytest.raises(RefusedError) as raised:
        create(jobs, 1, job_id)
    return raised.value


@virtual_time
async def test_every_watch_brings_every_result_once() -> None:
    """Watches from the start, the middle and after the end bring each result once, in the order of completion (A05)."""
    backend = ScriptedBackend(default=second(1), default_cap=1)
    async with World(backend) as world:
        jobs = store(world)
        job = create(jobs, 10)
        early = [asyncio.ensure_future(watched(jobs, job, after)) for after in (0, 0, 4, 10)]
        await asyncio.sleep(5.5)
        assert (job.log.count, job.summary) == (5, None)
        middle = await watched(jobs, job, 3)
        late = await watched(jobs, job)
        assert [one.custom_id for one in late] == backend.asked
        assert [await one for one in early] == [late, late, late[4:], []]
        assert middle == late[3:]
        assert job.summary is not None
        assert (job.summary.state, job.summary.wall_ns) == (BatchState.COMPLETED, 10 * SECOND)
        assert world.intake.open_batches == 0


@virtual_time
async def test_a_watch_says_when_nothing_comes() -> None:
    """Waiting for a result ends without one after the heartbeat's time (A05)."""
    async with World(ScriptedBackend(default=second(10))) as world:
        jobs = store(world)
        with jobs.watch(create(jobs, 1), 0) as cursor:
            assert not await cursor.wait(9)
            assert await cursor.wait(9)


@virtual_time
async def test_retention() -> None:
    """A job is forgotten, and its bytes are free, when its retention after its end is over, and not before (A05)."""
    async with World(ScriptedBackend(default=second(1))) as world:
        jobs = store(world, retention_s=60.0)
        job = create(jobs, 2, "mine")
        await asyncio.sleep(60.9)
        assert jobs.get("mine") is job
        assert (job.ended_ns, job.expires_ns) == (job.created_ns + SECOND, job.created_ns + 61 * SECOND)
        assert jobs.kept_bytes > 0
        await asyncio.sleep(0.2)
        with pytest.raises(RefusedError, match="no job 'mine'"):
            jobs.get("mine")
        assert jobs.kept_bytes == 0
        create(jobs, 1, "mine")


@virtual_time
async def test_the_end_of_retention_does_not_end_a_watch() -> None:
    """Results stay, and count, for as long as somebody reads them, though the job has expired (A05)."""
    async with World(ScriptedBackend()) as world:
        jobs = store(world, retention_s=1.0)
        job = create(jobs, 3)
        with jobs.watch(job, 0) as cursor:
            await asyncio.sleep(5)
            with pytest.raises(RefusedError):
                jobs.get(job.id)
            assert jobs.kept_bytes > 0
            assert len(cursor.take().results) == 3
        assert jobs.kept_bytes == 0


@virtual_time
async def test_most_jobs() -> None:
    """At `limit` jobs another is refused with the time until one expires; deleting one makes room (A05, A07)."""
    async with World(ScriptedBackend(default=second(1))) as world:
        jobs = store(world, limit=2, retention_s=60.0)
        create(jobs, 1, "a")
        create(jobs, 1, "b")
        assert (refusal(jobs).reason, refusal(jobs).retry_after_ns) == (Reason.JOBS_FULL, 10 * SECOND)
        assert refusal(jobs, "a").reason is Reason.JOB_EXISTS
        await asyncio.sleep(11)
        assert refusal(jobs).retry_after_ns == 50 * SECOND
        jobs.delete(jobs.get("a"))
        create(jobs, 1, "c")
        assert [job.id for job in jobs.newest(9)] == ["c", "b"]


@virtual_time
async def test_a_tenants_own_bounds() -> None:
    """A tenant at its bound of jobs, or of their results, is refused and held; others are not (A05, A07)."""
    tenants = {"many": TenantSettings(job_limit=2), "large": TenantSettings(job_results_limit_bytes=50_000)}
    async with World(ScriptedBackend(default=large, default_cap=2), tenants=tenants) as world:
        jobs = store(world)
        own = [create(jobs, 1, tenant="many") for _ in range(2)]
        with pytest.raises(RefusedError, match="EXPRESSLANE_TENANTS__MANY__JOB_LIMIT") as raised:
            create(jobs, 1, tenant="many")
        assert raised.value.reason is Reason.JOBS_FULL
        big = create(jobs, 20, tenant="large")
        await asyncio.sleep(60)
        assert (big.batch.in_flight, big.summary) == (0, None)
        assert 50_000 <= jobs.kept("large").bytes < 80_000
        with pytest.raises(RefusedError, match="EXPRESSLANE_TENANTS__LARGE__JOB_RESULTS_LIMIT_BYTES"):
            create(jobs, 1, tenant="large")
        jobs.delete(own[0])
        for tenant in ("many", "modest"):
            assert len(await watched(jobs, create(jobs, 1, tenant=tenant))) == 1
        jobs.delete(big)
        assert len(await watched(jobs, create(jobs, 1, tenant="large"))) == 1


@virtual_time
async def test_names_are_a_tenants_own() -> None:
    """Tenants have jobs of the same name, and see none of each other's (A05)."""
    async with World(ScriptedBackend()) as world:
        jobs = store(world)
        mine, other = create(jobs, 1, "same", tenant="a"), create(jobs, 1, "same", tenant="b")
        assert (jobs.get("same", "a"), jobs.get("same", "b")) == (mine, other)
        assert (jobs.newest(9, tenant="a"), jobs.newest(9, tenant="c")) == ([mine], [])
        with pytest.raises(RefusedError, match="no job 'same'"):
            jobs.get("same", "c")
        jobs.delete(mine)
        assert jobs.get("same", "b") is other


@virtual_time
async def test_full_of_results() -> None:
    """Full of results, jobs are refused, running ones held, other batches not; room lets them go on (A05, A16)."""
    backend = ScriptedBackend(default=large, default_cap=2)
    async with World(backend) as world:
        jobs = store(world, results_limit_bytes=100_000)
        old = create(jobs, 5)
        await watched(jobs, old)
        job = create(jobs, 8)
        await asyncio.sleep(30)
        assert (job.batch.in_flight, job.summary) == (0, None)
        assert 100_000 <= jobs.kept_bytes < 125_000
        assert refusal(jobs).reason is Reason.JOBS_FULL
        others, _ = await world.run([prompt("not a job's")])
        assert others[0].outcome is Outcome.SUCCEEDED
        ran = len(backend.calls)
        jobs.delete(old)
        results = await watched(jobs, job)
        assert ran < len(backend.calls)
        assert sorted(one.index for one in results) == list(range(8))
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}


@virtual_time
async def test_a_job_larger_than_all_the_room() -> None:
    """A job whose own results fill the room ends too: what is held runs into its queue timeout, in-band (A05)."""
    async with World(ScriptedBackend(default=large, default_cap=2)) as world:
        jobs = store(world, results_limit_bytes=100_000)
        job = create(jobs, 50)
        results = await watched(jobs, job)
        assert sorted(one.index for one in results) == list(range(50))
        reasons = [one.error.reason for one in results if one.error]
        assert set(reasons) == {Reason.QUEUE_TIMEOUT}
        assert 35 < len(reasons) < 45


@virtual_time
async def test_cancel() -> None:
    """Cancelling ends waiting prompts at once and running ones by an abort; a second time changes nothing (A05)."""
    backend = ScriptedBackend(default=second(10), default_cap=1)
    async with World(backend) as world:
        jobs = store(world)
        job = create(jobs, 4)
        await asyncio.sleep(15)
        jobs.cancel(job)
        results = await watched(jobs, job)
        jobs.cancel(job)
        assert [one.outcome for one in results] == [Outcome.SUCCEEDED] + [Outcome.CANCELLED] * 3
        assert (backend.cancelled, job.summary and job.summary.state) == (1, BatchState.CANCELLED)
        done = create(jobs, 1)
        await watched(jobs, done)
        jobs.cancel(done)
        assert done.summary is not None
        assert done.summary.state is BatchState.COMPLETED


@virtual_time
async def test_delete_while_it_runs() -> None:
    """Deleting cancels and forgets; a watch under way gets the rest, and no bytes stay counted behind (A05)."""
    async with World(ScriptedBackend(default=second(10), default_cap=1)) as world:
        jobs = store(world)
        job = create(jobs, 3)
        unwatched = create(jobs, 3)
        watch = asyncio.ensure_future(watched(jobs, job))
        await asyncio.sleep(1)
        jobs.delete(job)
        jobs.delete(unwatched)
        assert jobs.newest(9) == []
        assert [one.outcome for one in await watch] == [Outcome.CANCELLED] * 3
        assert (jobs.kept_bytes, world.intake.open_batches) == (0, 0)


@virtual_time
async def test_a_failure_at_the_very_end() -> None:
    """What the last result decides is in the summary: FAIL_FAST ends a job FAILED_FAST (A05)."""
    async with World(ScriptedBackend(default=failing)) as world:
        jobs = store(world)
        job = create(jobs, 1, fail_fast=True)
        await watched(jobs, job)
        assert job.summary is not None
        assert job.summary.state is BatchState.FAILED_FAST


@virtual_time
async def test_nobody_serves_the_model() -> None:
    """A job none of whose prompts can be queued ends like any other (A05)."""
    async with World(ScriptedBackend()) as world:
        jobs = store(world)
        job = jobs.create("", BatchOptions("r"), [(prompt("a", model="none"), 1)])
        results = await watched(jobs, job)
        assert [one.error and one.error.reason for one in results] == [Reason.UNKNOWN_MODEL]


@virtual_time
async def test_refused_by_the_queue() -> None:
    """A job that does not fit in the queue leaves nothing behind (A05, A07)."""
    async with World(ScriptedBackend(default=second(1)), queue_limit=2) as world:
        jobs = store(world)
        with pytest.raises(RefusedError) as raised:
            create(jobs, 3, "mine")
        assert raised.value.reason is Reason.BATCH_TOO_LARGE
        assert (jobs.newest(9), world.intake.open_batches) == ([], 0)
        create(jobs, 1, "mine")


@virtual_time
async def test_draining_and_stopping() -> None:
    """A draining service takes no job; a stopping one ends those that run like any batch (A05, T12)."""
    async with World(ScriptedBackend(default=second(10))) as world:
        jobs = store(world)
        job = create(jobs, 2)
        await asyncio.sleep(1)
        world.intake.draining = True
        assert refusal(jobs).reason is Reason.DRAINING
        world.intake.stop_all("the service is stopping")
        results = await watched(jobs, job)
        assert [one.error and one.error.reason for one in results] == [Reason.DRAINING] * 2
        jobs.close()
        assert jobs.kept_bytes == 0
