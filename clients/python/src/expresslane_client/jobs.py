"""A job: a batch that outlives the call that brought it, as it is now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from expresslane_client.summaries import Summary
from expresslane_client.v1 import jobs_pb2

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

__all__ = ["Job", "JobState", "job_name"]


class JobState(StrEnum):
    """Where a job stands; every state but RUNNING is final."""

    UNSPECIFIED = "unspecified"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED_FAST = "failed_fast"
    CANCELLED = "cancelled"


_STATES = {jobs_pb2.JobState.Value(f"JOB_STATE_{one.name}"): one for one in JobState}


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is now; jobs.proto says what each field means. The last four are None while it runs.

    `total = succeeded + failed + cancelled + expired + queued + in_flight`. Times are the service's, in UTC.
    """

    name: str
    request_id: str
    state: JobState
    total: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    queued: int
    in_flight: int
    created: datetime
    ended: datetime | None
    expires: datetime | None
    summary: Summary | None

    @property
    def id(self) -> str:
        """The name without `jobs/`."""
        return self.name.removeprefix("jobs/")

    @property
    def finished(self) -> int:
        """Prompts that have ended."""
        return self.succeeded + self.failed + self.cancelled + self.expired

    @property
    def running(self) -> bool:
        """Whether some prompts have not ended."""
        return self.state is JobState.RUNNING

    @classmethod
    def from_proto(cls, message: jobs_pb2.Job) -> Job:
        """From the contract's message."""
        has = message.HasField
        return cls(
            name=message.name,
            request_id=message.request_id,
            state=_STATES.get(message.state, JobState.UNSPECIFIED),
            total=message.total,
            succeeded=message.succeeded,
            failed=message.failed,
            cancelled=message.cancelled,
            expired=message.expired,
            queued=message.queued,
            in_flight=message.in_flight,
            created=_utc(message.create_time),
            ended=_utc(message.end_time) if has("end_time") else None,
            expires=_utc(message.expire_time) if has("expire_time") else None,
            summary=Summary.from_proto(message.summary) if has("summary") else None,
        )


def job_name(name: str) -> str:
    """The resource name of a job that was named with or without `jobs/`."""
    return name if name.startswith("jobs/") else f"jobs/{name}"


def _utc(time: Timestamp) -> datetime:
    return time.ToDatetime(UTC)
