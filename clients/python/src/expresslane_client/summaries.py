"""What became of a whole batch, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from expresslane_client.results import Outcome, Usage
from expresslane_client.units import milliseconds
from expresslane_client.v1 import inference_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BatchState", "ErrorCount", "Percentiles", "Summary"]


class BatchState(StrEnum):
    """How a batch ended."""

    UNSPECIFIED = "unspecified"
    COMPLETED = "completed"
    FAILED_FAST = "failed_fast"
    PARTIAL_DEADLINE = "partial_deadline"
    CANCELLED = "cancelled"


_STATES = {inference_pb2.BatchState.Value(f"BATCH_STATE_{one.name}"): one for one in BatchState}


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of `count` durations in milliseconds; all 0 when there was none."""

    count: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    mean_ms: float = 0.0

    @classmethod
    def from_proto(cls, message: inference_pb2.Percentiles) -> Percentiles:
        """From the contract's message."""
        return cls(
            message.count,
            milliseconds(message.p50),
            milliseconds(message.p99),
            milliseconds(message.max),
            milliseconds(message.mean),
        )


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """How many prompts did not succeed for one reason at one backend (that of the last attempt; empty: none was made).

    `code`: the google.rpc.Code that goes with the reason. `http_status`: 0 when the error did not come with one.
    """

    outcome: Outcome
    reason: str
    code: int
    http_status: int
    backend: str
    count: int

    @classmethod
    def from_proto(cls, message: inference_pb2.ErrorCount) -> ErrorCount:
        """From the contract's message."""
        outcome = Outcome.from_proto(message.outcome)
        return cls(outcome, message.reason, message.code, message.http_status, message.backend, message.count)


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a batch; zero-safe. Times in milliseconds from acceptance, None: it did not happen.

    `sequential_estimate_ms` is what the succeeded prompts would have taken one after the other (an upper estimate), and
    `speed_up` its ratio to `wall_ms`. `ttft` and `total` include the queue wait. `simulated`: some result was made up.
    """

    request_id: str
    state: BatchState
    total_prompts: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    reasons: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    wall_ms: float = 0.0
    sequential_estimate_ms: float = 0.0
    speed_up: float = 0.0
    first_result_ms: float | None = None
    median_result_ms: float | None = None
    queue_wait: Percentiles = Percentiles()
    ttft: Percentiles = Percentiles()
    total: Percentiles = Percentiles()
    usage: Usage = field(default_factory=Usage)
    throughput_per_s: float = 0.0
    simulated: bool = False
    errors: tuple[ErrorCount, ...] = ()

    @classmethod
    def from_proto(cls, message: inference_pb2.BatchSummary) -> Summary:
        """From the contract's message."""
        has = message.HasField
        return cls(
            request_id=message.request_id,
            state=_STATES.get(message.state, BatchState.UNSPECIFIED),
            total_prompts=message.total,
            succeeded=message.succeeded,
            failed=message.failed,
            cancelled=message.cancelled,
            expired=message.expired,
            reasons=MappingProxyType(dict(message.reasons)),
            wall_ms=milliseconds(message.wall_time),
            sequential_estimate_ms=milliseconds(message.sequential_estimate),
            speed_up=message.speed_up,
            first_result_ms=milliseconds(message.time_to_first_result) if has("time_to_first_result") else None,
            median_result_ms=milliseconds(message.time_to_median_result) if has("time_to_median_result") else None,
            queue_wait=Percentiles.from_proto(message.queue_wait),
            ttft=Percentiles.from_proto(message.ttft),
            total=Percentiles.from_proto(message.total_time),
            usage=Usage.from_proto(message.usage),
            throughput_per_s=message.throughput_per_s,
            simulated=message.simulated,
            errors=tuple(ErrorCount.from_proto(error) for error in message.errors),
        )
