"""The store of jobs: batches that outlive the call that brought them, in memory, bounded in number, bytes and time."""

from __future__ import annotations

import itertools
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from expresslane.batches.keeper import Keeper, Kept
from expresslane.batches.log import Cursor
from expresslane.errors import Reason, RefusedError
from expresslane.identity import DEFAULT_TENANT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from expresslane.batches.batch import Batch, BatchOptions
    from expresslane.batches.held import Bounds
    from expresslane.batches.log import Log
    from expresslane.clock import Clock
    from expresslane.intake import Intake
    from expresslane.prompts import Prompt
    from expresslane.scheduling import Scheduling
    from expresslane.tenants import Tenant

__all__ = ["Job", "JobStore"]


class Job(Kept):
    """A batch under a name, with its results. `summary` and `ended_ns` are set together when it ends.

    Times are of the wall clock, in nanoseconds. `number` grows from job to job.
    """

    def __init__(self, job_id: str, number: int, batch: Batch, log: Log, created_ns: int) -> None:
        super().__init__((batch.options.tenant, job_id), batch, log)
        self.id = job_id
        self.number = number
        self.created_ns = created_ns
        self.ended_ns: int | None = None


class JobStore(Keeper[Job]):
    """Keeps every job until its retention after its end is over or it is deleted."""

    noun = "jobs"
    setting = "job"
    full_reason = Reason.JOBS_FULL
    way_out = "delete jobs that are no longer needed"

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
        super().__init__(
            intake, scheduling, limit=limit, results_limit_bytes=results_limit_bytes, wall_clock=wall_clock
        )
        self._retention_s = retention_s
        self._numbers = itertools.count(1)

    def tenant(self, name: str) -> Tenant:
        """Whose jobs those are of this name."""
        return self._intake.tenants.find(name)

    def create(self, job_id: str, options: BatchOptions, prompts: Sequence[tuple[Prompt, int]]) -> Job:
        """Accept a batch as a job; an empty id is made up.

        Raises RefusedError (JOB_EXISTS, JOBS_FULL, and those of the intake).
        """
        job_id = job_id or uuid.uuid4().hex
        key = (options.tenant, job_id)
        if key in self._entries:
            raise RefusedError(Reason.JOB_EXISTS, f"there is a job {job_id!r} already")

        def make(batch: Batch, log: Log) -> Job:
            return Job(job_id, next(self._numbers), batch, log, self._wall_clock())

        return self._keep(key, options, prompts, method="CreateJob", make=make)

    def get(self, job_id: str, tenant: str = DEFAULT_TENANT) -> Job:
        """A tenant's job by its id; those of others are not there. Raises RefusedError (UNKNOWN_JOB)."""
        job = self._entries.get((tenant, job_id))
        if job is None:
            raise RefusedError(Reason.UNKNOWN_JOB, f"there is no job {job_id[:64]!r}, or no longer")
        return job

    def newest(self, count: int, before: int | None = None, tenant: str = DEFAULT_TENANT) -> list[Job]:
        """Up to `count` jobs of a tenant, newest first, with numbers below `before`."""
        own = (job for job in reversed(self._entries.values()) if job.tenant == tenant)
        older = (job for job in own if before is None or job.number < before)
        return list(itertools.islice(older, count))

    @contextmanager
    def watch(self, job: Job, after: int) -> Iterator[Cursor]:
        """A reader's place in the job's results; they stay for as long as anybody reads."""
        with self.reading(job):
            yield Cursor(job.log, after)

    def _bounds(self, tenant: Tenant) -> Bounds:
        return tenant.job_bounds

    def _ended(self, entry: Job) -> None:
        entry.ended_ns = self._wall_clock()
        self._expire_in(entry, self._retention_s, entry.ended_ns)
