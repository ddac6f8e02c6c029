"""The summary of a batch, added up result by result."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from expresslane.batches.samples import Percentiles, Samples
from expresslane.results import Outcome, Result, Usage

if TYPE_CHECKING:
    from expresslane.errors import Reason

__all__ = ["BatchState", "ErrorKind", "Percentiles", "Summary", "Tally"]

MAX_ERROR_KINDS = 100
"""A backend may answer with any status; further kinds are counted without status and backend."""


class BatchState(Enum):
    """How a batch ended."""

    COMPLETED = "completed"
    FAILED_FAST = "failed_fast"
    PARTIAL_DEADLINE = "partial_deadline"
    CANCELLED = "cancelled"


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


@dataclass(slots=True)
class Tally:
    """Adds results up, in bounded memory however many there are."""

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
    queue_waits: Samples = field(default_factory=Samples)
    ttfts: Samples = field(default_factory=Samples)
    tpots: Samples = field(default_factory=Samples)
    totals: Samples = field(default_factory=Samples)
    finished_at: Samples = field(default_factory=Samples)

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
        self.finished_at.add(elapsed_ns)
        if result.attempts:
            self.queue_waits.add(timings.queue_wait_ns)
        if timings.ttft_ns is not None:
            self.ttfts.add(timings.ttft_ns)
        if timings.tpot_ns is not None:
            self.tpots.add(timings.tpot_ns)
        if result.outcome is Outcome.SUCCEEDED:
            self.totals.add(timings.total_ns)

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
            first_result_ns=at.first if at.count else None,
            median_result_ns=at.median() if at.count else None,
            queue_wait=self.queue_waits.percentiles(),
            ttft=self.ttfts.percentiles(),
            tpot=self.tpots.percentiles(),
            total_time=self.totals.percentiles(),
            usage=Usage(
                self.input_tokens,
                self.cached_input_tokens,
                self.output_tokens,
                self.input_estimated,
                self.output_estimated,
            ),
            simulated=self.simulated,
        )
