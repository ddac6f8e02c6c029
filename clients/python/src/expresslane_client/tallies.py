"""What became of a batch that took more than one call, counted from its results."""

from __future__ import annotations

import math
import time
from array import array
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING

from expresslane_client.results import Outcome, Usage
from expresslane_client.summaries import BatchState, ErrorCount, Percentiles, Summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from expresslane_client.results import Result

__all__ = ["Tally"]


class Tally:
    """Counts results as they come and sums them up as the service would; times are this process's, from the call on."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun_s = self._last_s = clock()
        self._outcomes: Counter[Outcome] = Counter()
        self._reasons: Counter[str] = Counter()
        self._errors: Counter[tuple[Outcome, str, int, int, str]] = Counter()
        self._arrived_ms = array("d")
        self._queue_ms, self._ttft_ms, self._total_ms = array("d"), array("d"), array("d")
        self._sequential_ms = 0.0
        self._usage = Usage()
        self._simulated = False

    def add(self, result: Result, late_ms: float = 0.0) -> None:
        """Count one result of a prompt that was sent for the last time so much later than for the first.

        The service's times begin with the last; those of the summary with the first.
        """
        self._last_s = self._clock()
        self._arrived_ms.append((self._last_s - self._begun_s) * 1e3)
        self._outcomes[result.outcome] += 1
        self._simulated |= result.simulated
        if result.error is not None:
            error = result.error
            self._reasons[error.reason] += 1
            self._errors[result.outcome, error.reason, error.code, error.http_status, result.backend] += 1
        if result.attempts:
            self._queue_ms.append(late_ms + result.queue_ms)
        if result.ttft_ms is not None:
            self._ttft_ms.append(late_ms + result.ttft_ms)
        if result.ok:
            self._total_ms.append(late_ms + result.total_ms)
            self._sequential_ms += result.attempt_ms or 0.0
        if result.usage is not None:
            self._usage = _sum(self._usage, result.usage)

    @property
    def elapsed_ms(self) -> float:
        """Time since the call."""
        return (self._clock() - self._begun_s) * 1e3

    def summary(self, request_id: str, state: BatchState) -> Summary:
        """The summary of all results."""
        wall_ms = (self._last_s - self._begun_s) * 1e3
        succeeded = self._outcomes[Outcome.SUCCEEDED]
        count = len(self._arrived_ms)
        return Summary(
            request_id=request_id,
            state=state,
            total_prompts=count,
            succeeded=succeeded,
            failed=self._outcomes[Outcome.FAILED],
            cancelled=self._outcomes[Outcome.CANCELLED],
            expired=self._outcomes[Outcome.EXPIRED],
            reasons=MappingProxyType(dict(self._reasons)),
            wall_ms=wall_ms,
            sequential_estimate_ms=self._sequential_ms,
            speed_up=self._sequential_ms / wall_ms if wall_ms else 0.0,
            first_result_ms=self._arrived_ms[0] if count else None,
            median_result_ms=self._arrived_ms[(count - 1) // 2] if count else None,
            queue_wait=_percentiles(self._queue_ms),
            ttft=_percentiles(self._ttft_ms),
            total=_percentiles(self._total_ms),
            usage=self._usage,
            throughput_per_s=succeeded / wall_ms * 1e3 if wall_ms else 0.0,
            simulated=self._simulated,
            errors=tuple(ErrorCount(*kind, count) for kind, count in self._errors.most_common()),
        )


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.input_tokens + other.input_tokens,
        one.cached_input_tokens + other.cached_input_tokens,
        one.output_tokens + other.output_tokens,
        one.input_estimated or other.input_estimated,
        one.output_estimated or other.output_estimated,
    )


def _percentiles(values: array[float]) -> Percentiles:
    """Exact, nearest rank."""
    if not values:
        return Percentiles()
    ordered = sorted(values)
    at = [ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99)]
    return Percentiles(len(ordered), at[0], at[1], ordered[-1], sum(ordered) / len(ordered))
