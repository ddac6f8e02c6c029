"""The store of jobs: batches that outlive the call that brought them, in memory, bounded in number, bytes and time."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from expresslane.batches.log import Budget, Cursor, Log
from expresslane.errors import Reason, RefusedError
from expresslane.identity import DEFAULT_TENANT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from expresslane.batches.batch import Batch, BatchOptions
    from expresslane.batches.summary import Summary
    from expresslane.clock import Clock
    from expresslane.intake import Intake
    from expresslane.prompts import Prompt
    from expresslane.scheduling import Scheduling
    from expresslane.tenants import Tenant

__all__ = ["Job", "JobStore"]

NO_EXPIRY_RETRY_NS = 10 * 10**9
MIN_RETRY_NS = 10**9


class Job:
    """A batch under a name, with its results. `summary` and `ended_ns` are set together when it ends.

    Times are of the wall clock, in nanoseconds. `number` grows from job to job.
    """

    def __init__(self, job_id: str, number: int, batch: Batch, log: Log, created_ns: int) -> None:
        self.id = job_id
        self.number = number
        self.batch = batch
        self.log = log
        self.created_ns = created_ns
        self.ended_ns: int | None = None
        self.expires_ns: int | None = None
        self.summary: Summary | None = None
        self.forgotten = False
        self.watches = 0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def tenant(self) -> str:
        """Whose job it is; ids are unique within a tenant."""
        return self.batch.options.tenant


class JobStore:
    """Keeps every job until its retention is over or it is deleted; refuses new ones rather than drop what it keeps.

    While the results of all jobs fill `results_limit_bytes`, running jobs are held: nothing of them is released until a
    job is deleted or expires. What waits meanwhile is subject to its queue timeout, as ever.
    """

    def __init__(
        self,
        intake: Intake,
        scheduling: Scheduling,
        *,
        limit: int,
        results_limit_bytes: int,
        retention_s: float,
        wall_clock: Clock = time.time_ns,
    ) -> None:
        self._intake = intake
        self._scheduling = scheduling
        self._limit = limit
        self._retention_s = retention_s
        self._wall_clock = wall_clock
        self._budget = Budget(results_limit_bytes, self._budget_changed)
        self._jobs: dict[tuple[str, str], Job] = {}
        self._numbers = itertools.count(1)

    @property
    def kept_bytes(self) -> int:
        """About what the results of all jobs take."""
        return self._budget.used_bytes

    def tenant(self, name: str) -> Tenant:
        """Whose jobs those are of this name."""
        return self._intake.tenants.find(name)

    def create(self, job_id: str, options: BatchOptions, prompts: Sequence[tuple[Prompt, int]]) -> Job:
        """Accept a batch as a job; an empty id is made up.

        Raises RefusedError (JOB_EXISTS, JOBS_FULL, and those of the intake).
        """
        job_id = job_id or uuid.uuid4().hex
        key = (options.tenant, job_id)
        if key in self._jobs:
            raise RefusedError(Reason.JOB_EXISTS, f"there is a job {job_id!r} already")
        self._check_room()
        log = Log(self._budget, lambda: self._ended(job))
        batch = self._intake.open(options, method="CreateJob", prompts=len(prompts), outbox=log)
        job = Job(job_id, next(self._numbers), batch, log, self._wall_clock())
        try:
            self._intake.accept(batch, prompts)
        except RefusedError:
            self._intake.close(batch)
            raise
        self._jobs[key] = job
        return job

    def get(self, job_id: str, tenant: str = DEFAULT_TENANT) -> Job:
        """A tenant's job by its id; those of others are not there. Raises RefusedError (UNKNOWN_JOB)."""
        job = self._jobs.get((tenant, job_id))
        if job is None:
            raise RefusedError(Reason.UNKNOWN_JOB, f"there is no job {job_id[:64]!r}, or no longer")
        return job

    def newest(self, count: int, before: int | None = None, tenant: str = DEFAULT_TENANT) -> list[Job]:
        """Up to `count` jobs of a tenant, newest first, with numbers below `before`."""
        own = (job for job in reversed(self._jobs.values()) if job.tenant == tenant)
        older = (job for job in own if before is None or job.number < before)
        return list(itertools.islice(older, count))

    def cancel(self, job: Job) -> None:
        """Cancel what is unfinished."""
        if job.batch.unfinished:
            self._intake.cancel(job.batch)

    def delete(self, job: Job) -> None:
        """Cancel what is unfinished and forget the job; watches under way go on to its end."""
        self.cancel(job)
        self._forget(job)

    @contextmanager
    def watch(self, job: Job, after: int) -> Iterator[Cursor]:
        """A reader's place in the job's results; they stay for as long as anybody reads."""
        job.watches += 1
        try:
            yield Cursor(job.log, after)
        finally:
            job.watches -= 1
            self._let_go(job)

    def close(self) -> None:
        """Forget everything."""
        for job in list(self._jobs.values()):
            self._forget(job)

    def _check_room(self) -> None:
        if len(self._jobs) >= self._limit:
            full = f"{self._limit:,} jobs"
        elif self._budget.full:
            full = f"results of {self._budget.limit_bytes:,} bytes"
        else:
            return
        expiries = [job.expires_ns for job in self._jobs.values() if job.expires_ns is not None]
        wait_ns = min(expiries) - self._wall_clock() if expiries else NO_EXPIRY_RETRY_NS
        message = f"{full} are kept, the most this service keeps; delete jobs that are no longer needed"
        raise RefusedError(Reason.JOBS_FULL, message, retry_after_ns=max(wait_ns, MIN_RETRY_NS))

    def _ended(self, job: Job) -> None:
        self._intake.close(job.batch)
        job.summary = job.batch.summary()
        job.ended_ns = self._wall_clock()
        job.expires_ns = job.ended_ns + int(self._retention_s * 1e9)
        if not job.forgotten:
            job.timer = asyncio.get_running_loop().call_later(self._retention_s, self._forget, job)

    def _forget(self, job: Job) -> None:
        if job.forgotten:
            return
        job.forgotten = True
        del self._jobs[job.tenant, job.id]
        if job.timer is not None:
            job.timer.cancel()
        self._let_go(job)

    def _let_go(self, job: Job) -> None:
        if job.forgotten and not job.watches:
            job.log.discard()

    def _budget_changed(self) -> None:
        for job in self._jobs.values():
            if job.summary is None:
                self._scheduling.reader_moved(job.batch)
