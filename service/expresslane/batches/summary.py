"""The summary of a batch, added up result by result."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from expresslane.results import Outcome, Result, Usage

if TYPE_CHECKING:
    from expresslane.errors import Reason

__all__ = ["BatchState", "ErrorKind", "Percentiles", "Summary", "Tally", "percentiles"]

MAX_SAMPLES = 1_000_000
MAX_ERROR_KINDS = 100
"""A backend may answer with any status; further kinds are counted without status and backend."""


class BatchState(Enum):
    """How a batch ended."""

    COMPLETED = "completed"
    FAILED_FAST = "failed_fast"
    PARTIAL_DEADLINE = "partial_deadline"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Exact nearest-rank percentiles of `count` durations, in nanoseconds; all zero when there are none."""

    count: int = 0
    p50_ns: int = 0
    p99_ns: int = 0
    max_ns: int = 0
    mean_ns: int = 0


class ErrorKind(NamedTuple):
    """What prompts have in common that did not succeed; `backend` is that of the last attempt, if there was one."""

    outcome: Outcome
    reason: Reason
    http_status: int
    backend: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a batch. Durations in nanoseconds; None: it did not happen."""

    request_id: str
    state: BatchState
    total: int
    outcomes: dict[Outcome, int]
    errors: dict[ErrorKind, int]
    wall_ns: int
    sequential_ns: int
    first_result_ns: int | None
    median_result_ns: int | None
    queue_wait: Percentiles
    ttft: Percentiles
    tpot: Percentiles
    total_time: Percentiles
    usage: Usage
    simulated: bool

    @property
    def reasons(self) -> Counter[Reason]:
        """Prompts that did not succeed, by reason."""
        reasons: Counter[Reason] = Counter()
        for kind, count in self.errors.items():
            reasons[kind.reason] += count
        return reasons

    @property
    def speed_up(self) -> float:
        """Sequential estimate over wall time, 0 when nothing succeeded."""
        return self.sequential_ns / self.wall_ns if self.wall_ns else 0.0

    @property
    def throughput_per_s(self) -> float:
        """Succeeded prompts per second of wall time."""
        return self.outcomes[Outcome.SUCCEEDED] * 1e9 / self.wall_ns if self.wall_ns else 0.0


def percentiles(values: array[int]) -> Percentiles:
    """Nearest rank: the smallest value that at least p % of the values do not exceed."""
    if not values:
        return Percentiles()
    ordered = sorted(values)
    count = len(ordered)
    return Percentiles(
        count=count,
        p50_ns=ordered[(count * 50 + 99) // 100 - 1],
        p99_ns=ordered[(count * 99 + 99) // 100 - 1],
        max_ns=ordered[-1],
        mean_ns=sum(ordered) // count,
    )


def _samples() -> array[int]:
    return array("q")


@dataclass(slots=True)
class Tally:
    """Adds results up. Durations are kept exactly for the first million results of a batch and no longer after that."""

    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    errors: Counter[ErrorKind] = field(default_factory=Counter)
    finished: int = 0
    sequential_ns: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    input_estimated: bool = False
    output_estimated: bool = False
    simulated: bool = False
    queue_waits: array[int] = field(default_factory=_samples)
    ttfts: array[int] = field(default_factory=_samples)
    tpots: array[int] = field(default_factory=_samples)
    totals: array[int] = field(default_factory=_samples)
    finished_at: array[int] = field(default_factory=_samples)

    def add(self, result: Result, elapsed_ns: int) -> None:
        """Count one result, `elapsed_ns` after the batch was accepted."""
        self.finished += 1
        self.outcomes[result.outcome] += 1
        if result.error is not None:
            self._add_error(ErrorKind(result.outcome, result.error.reason, result.error.http_status, result.backend))
        self.simulated |= result.simulated
        if (usage := result.usage) is not None:
            self.input_tokens += usage.input_tokens
            self.cached_input_tokens += usage.cached_input_tokens
            self.output_tokens += usage.output_tokens
            self.input_estimated |= usage.input_estimated
            self.output_estimated |= usage.output_estimated
        timings = result.timings
        if result.outcome is Outcome.SUCCEEDED:
            self.sequential_ns += timings.attempt_ns or 0
        if self.finished > MAX_SAMPLES:
            return
        self.finished_at.append(elapsed_ns)
        if result.attempts:
            self.queue_waits.append(timings.queue_wait_ns)
        if timings.ttft_ns is not None:
            self.ttfts.append(timings.ttft_ns)
        if timings.tpot_ns is not None:
            self.tpots.append(timings.tpot_ns)
        if result.outcome is Outcome.SUCCEEDED:
            self.totals.append(timings.total_ns)

    def _add_error(self, kind: ErrorKind) -> None:
        if len(self.errors) >= MAX_ERROR_KINDS and kind not in self.errors:
            kind = kind._replace(http_status=0, backend="")
        self.errors[kind] += 1

    def summary(self, request_id: str, state: BatchState, total: int, wall_ns: int) -> Summary:
        """The sum so far."""
        at = self.finished_at
        return Summary(
            request_id=request_id,
            state=state,
            total=total,
            outcomes=dict(self.outcomes),
            errors=dict(self.errors.most_common()),
            wall_ns=wall_ns,
            sequential_ns=self.sequential_ns,
            first_result_ns=at[0] if at else None,
            median_result_ns=at[(len(at) + 1) // 2 - 1] if at else None,
            queue_wait=percentiles(self.queue_waits),
            ttft=percentiles(self.ttfts),
            tpot=percentiles(self.tpots),
            total_time=percentiles(self.totals),
            usage=Usage(
                self.input_tokens,
                self.cached_input_tokens,
                self.output_tokens,
                self.input_estimated,
                self.output_estimated,
            ),
            simulated=self.simulated,
        )
