"""The numbers of a summary are exact and safe at zero."""

from __future__ import annotations

import random
from array import array

import pytest
from expresslane.batches.summary import BatchState, Percentiles, Tally, percentiles
from expresslane.errors import PromptError, Reason
from expresslane.results import Outcome, Result, Timings, Usage


def test_nothing_at_all() -> None:
    """A batch without a single result has zeros everywhere and divides by none of them (A14)."""
    summary = Tally().summary("r", BatchState.CANCELLED, 0, 0)
    assert (summary.speed_up, summary.throughput_per_s) == (0, 0)
    assert summary.queue_wait == summary.ttft == summary.total_time == Percentiles()
    assert (summary.first_result_ns, summary.median_result_ns) == (None, None)
    assert summary.usage == Usage()


@pytest.mark.parametrize("count", [1, 2, 3, 50, 99, 100, 101, 1_000])
def test_nearest_rank(count: int) -> None:
    """A percentile is the smallest value that at least that share of the values does not exceed (A14)."""
    values = random.Random(count).choices(range(10_000), k=count)
    found = percentiles(array("q", values))
    for share, value in ((0.5, found.p50_ns), (0.99, found.p99_ns)):
        reached = [one for one in sorted(values) if sum(other <= one for other in values) >= share * count]
        assert value == reached[0]
    assert (found.count, found.max_ns, found.mean_ns) == (count, max(values), sum(values) // count)


def test_sums() -> None:
    """Counts, reasons, tokens and the speed-up add up; a failed prompt adds to none of the successes' numbers (T03)."""
    tally = Tally()
    for number in range(4):
        timings = Timings(queue_wait_ns=number, ttft_ns=10, total_ns=100, attempt_ns=50)
        usage = Usage(7, 2, 3, output_estimated=number == 0)
        tally.add(Result(str(number), number, Outcome.SUCCEEDED, timings, usage=usage, attempts=1), 40 + number)
    error = PromptError(Reason.QUEUE_TIMEOUT, "model request timeout")
    tally.add(Result("late", 4, Outcome.EXPIRED, Timings(queue_wait_ns=999, total_ns=999), error=error), 60)
    summary = tally.summary("r", BatchState.COMPLETED, 5, 100)
    assert (summary.outcomes[Outcome.SUCCEEDED], summary.outcomes[Outcome.EXPIRED]) == (4, 1)
    assert summary.reasons == {Reason.QUEUE_TIMEOUT: 1}
    assert (summary.sequential_ns, summary.speed_up) == (200, 2.0)
    assert summary.throughput_per_s == pytest.approx(4e7)
    assert (summary.first_result_ns, summary.median_result_ns) == (40, 42)
    assert (summary.queue_wait.count, summary.queue_wait.max_ns) == (4, 3)
    assert summary.usage == Usage(28, 8, 12, output_estimated=True)
