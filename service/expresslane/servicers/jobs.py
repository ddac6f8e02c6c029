"""The Jobs service: decodes, asks the store, encodes."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

from expresslane.batches.summary import BatchState
from expresslane.clock import Clock, monotonic_ns
from expresslane.errors import RefusedError
from expresslane.identity import tenant_of
from expresslane.refused import bringing
from expresslane.results import Outcome
from expresslane.servicers import encode
from expresslane.servicers.admin import MAX_PAGE_SIZE, PAGE_SIZE
from expresslane.servicers.calls import HEARTBEATS, batch_options, check_heartbeat, decode_batch
from expresslane.servicers.decode import duration_ns
from expresslane.servicers.delivery import Reader
from expresslane.servicers.status import abort, invalid
from expresslane.v1 import jobs_pb2 as pb

if TYPE_CHECKING:
    from expresslane.arrivals import Arrivals
    from expresslane.jobs import Job, JobStore
    from expresslane.scheduling import Scheduling
    from expresslane.settings import Settings

__all__ = ["JobsServicer"]

PREFIX = "jobs/"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_STATES = {
    BatchState.COMPLETED: pb.JOB_STATE_COMPLETED,
    BatchState.FAILED_FAST: pb.JOB_STATE_FAILED_FAST,
    BatchState.CANCELLED: pb.JOB_STATE_CANCELLED,
}


class JobsServicer:
    """Serves expresslane.v1.Jobs."""

    def __init__(
        self,
        jobs: JobStore,
        scheduling: Scheduling,
        settings: Settings,
        *,
        arrivals: Arrivals,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._arrivals = arrivals
        self._jobs = jobs
        self._scheduling = scheduling
        self._settings = settings
        self._clock = clock

    async def CreateJob(self, request: pb.CreateJobRequest, context: Any) -> pb.Job:  # noqa: N802
        """Accept a batch and return at once."""
        try:
            with bringing(len(request.prompts)):
                options = batch_options(request.config, self._settings, context, self._clock())
                options = replace(options, stream_deltas=False, reorder_window=0, deadline_ns=0)
                if request.job_id and not _ID.fullmatch(request.job_id):
                    raise invalid("job_id", "1 to 63 of a-z, 0-9 and -, not beginning with -; or empty")
                prompts = await decode_batch(request.prompts, self._settings, self._jobs.tenant(options.tenant))
                return _job(self._jobs.create(request.job_id, options, prompts))
        except RefusedError as refusal:
            await abort(context, refusal)

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.Job:  # noqa: N802
        """A job as it is now."""
        try:
            return _job(self._find(request.name, context))
        except RefusedError as refusal:
            await abort(context, refusal)

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:  # noqa: N802
        """A page of jobs, newest first."""
        token = request.page_token
        if not 0 <= request.page_size <= MAX_PAGE_SIZE:
            await abort(context, invalid("page_size", f"0 to {MAX_PAGE_SIZE:,}"))
        if token and not (token.isascii() and token.isdecimal() and len(token) < 20):
            await abort(context, invalid("page_token", "not a token that this method has given"))
        size = request.page_size or PAGE_SIZE
        jobs = self._jobs.newest(size + 1, int(token) if token else None, tenant_of(context))
        more = str(jobs[size - 1].number) if len(jobs) > size else ""
        return pb.ListJobsResponse(jobs=map(_job, jobs[:size]), next_page_token=more)

    async def WatchJob(self, _: object, context: Any) -> None:  # noqa: N802
        """Stream a job's results from a position on, then the summary."""
        try:
            job, position, heartbeat_s = await self._arrivals.take_in(context, tenant_of(context), self._to_watch)
        except RefusedError as refusal:
            await abort(context, refusal)
        limit = job.batch.options.result_limit_bytes
        with self._jobs.watch(job, position) as cursor:
            reader = Reader(job.batch, self._scheduling, source=cursor, heartbeat_s=heartbeat_s, clock=self._clock)
            await context.write(pb.WatchJobResponse(events=[reader.progress()], position=position))
            while not reader.over:
                parcel = await reader.next()
                if parcel is None:
                    await context.write(pb.WatchJobResponse(events=[reader.progress()], position=position))
                    continue
                if news := reader.news():
                    await context.write(pb.WatchJobResponse(events=news, position=position))
                for response in encode.result_responses(parcel.results, pb.WatchJobResponse, limit):
                    position += len(response.results)
                    response.position = position
                    await context.write(response)
            summary = encode.summary_message(job.summary or job.batch.summary())
            await context.write(pb.WatchJobResponse(position=position, summary=summary))

    async def _to_watch(self, request: pb.WatchJobRequest, context: Any) -> tuple[Job, int, float]:
        """The job, the position and the heartbeat in seconds; not the request, which may be large all the same."""
        job = self._find(request.name, context)
        if not 0 <= request.after <= job.batch.total:
            raise invalid("after", f"0 to the job's {job.batch.total:,} prompts")
        if not check_heartbeat(request.heartbeat_interval):
            raise invalid("heartbeat_interval", HEARTBEATS)
        return job, request.after, duration_ns(request.heartbeat_interval) / 1e9 or self._settings.heartbeat_s

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.Job:  # noqa: N802
        """Cancel what is unfinished."""
        try:
            job = self._find(request.name, context)
        except RefusedError as refusal:
            await abort(context, refusal)
        self._jobs.cancel(job)
        return _job(job)

    async def DeleteJob(self, request: pb.DeleteJobRequest, context: Any) -> pb.DeleteJobResponse:  # noqa: N802
        """Cancel what is unfinished and forget the job."""
        try:
            self._jobs.delete(self._find(request.name, context))
        except RefusedError as refusal:
            await abort(context, refusal)
        return pb.DeleteJobResponse()

    def _find(self, name: str, context: Any) -> Job:
        if not name.startswith(PREFIX):
            raise invalid("name", f"{name[:60]!r} is not of the form {PREFIX}ID")
        return self._jobs.get(name.removeprefix(PREFIX), tenant_of(context))


def _job(job: Job) -> pb.Job:
    batch = job.batch
    outcomes = batch.tally.outcomes
    summary = job.summary
    return pb.Job(
        name=PREFIX + job.id,
        request_id=batch.options.request_id,
        state=_STATES[summary.state] if summary is not None else pb.JOB_STATE_RUNNING,
        total=batch.total,
        succeeded=outcomes[Outcome.SUCCEEDED],
        failed=outcomes[Outcome.FAILED],
        cancelled=outcomes[Outcome.CANCELLED],
        expired=outcomes[Outcome.EXPIRED],
        queued=batch.unfinished - batch.in_flight,
        in_flight=batch.in_flight,
        create_time=_timestamp(job.created_ns),
        end_time=_timestamp(job.ended_ns),
        expire_time=_timestamp(job.expires_ns),
        summary=encode.summary_message(summary) if summary is not None else None,
    )


def _timestamp(wall_ns: int | None) -> Timestamp | None:
    return None if wall_ns is None else Timestamp(seconds=wall_ns // 10**9, nanos=wall_ns % 10**9)
