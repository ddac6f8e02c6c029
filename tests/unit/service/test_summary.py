"""The numbers of a summary are exact and safe at zero."""

from __future__ import annotations

import random

import pytest
from expresslane.batches.samples import SAMPLES_MAX, Percentiles, Samples
from expresslane.batches.summary import MAX_ERROR_KINDS, BatchState, ErrorKind, Tally
from expresslane.errors import PromptError, Reason
from expresslane.results import Outcome, Result, Timings, Usage


def test_nothing_at_all() -> None:
    """A batch without a single result has zeros everywhere and divides by none of them (A14)."""
    summary = Tally().summary("r", BatchState.CANCELLED, 0, 0)
    assert (summary.speed_up, summary.throughput_per_s) == (0, 0)
    assert summary.queue_wait == summary.ttft == summary.total_time == Percentiles()
    assert (summary.first_result_ns, summary.median_result_ns) == (None, None)
    assert summary.usage == Usage()


def kept(values: list[int]) -> Samples:
    """The values, one after the other."""
    samples = Samples()
    for value in values:
        samples.add(value)
    return samples


@pytest.mark.parametrize("count", [SAMPLES_MAX - 1, SAMPLES_MAX, SAMPLES_MAX + 1, 100_000, 250_000])
def test_durations_of_any_number_of_results(count: int) -> None:
    """A16: bounded memory, percentiles over all results within 2 % of the exact ones, and the rest exact."""
    chance = random.Random(count)
    values = [round(chance.uniform(1, 2) * 1e9) for _ in range(count)]
    samples = kept(values)
    assert len(samples._kept) < SAMPLES_MAX
    found, ordered = samples.percentiles(), sorted(values)
    assert (found.count, found.max_ns, found.mean_ns) == (count, ordered[-1], sum(values) // count)
    assert samples.first == values[0]
    assert found.p50_ns == pytest.approx(ordered[count // 2], rel=0.02)
    assert found.p99_ns == pytest.approx(ordered[count * 99 // 100], rel=0.02)
    in_turns = kept([number % 2 for number in range(count)])
    assert sum(in_turns._kept) == pytest.approx(len(in_turns._kept) / 2, rel=0.1)
    rising = kept(list(range(count)))
    assert rising.median() == pytest.approx(count / 2, rel=0.01)
    assert rising.percentiles().p99_ns == pytest.approx(count * 0.99, rel=0.01)


@pytest.mark.parametrize("count", [1, 2, 3, 50, 99, 100, 101, 1_000])
def test_nearest_rank(count: int) -> None:
    """A percentile is the smallest value that at least that share of the values does not exceed (A14)."""
    values = random.Random(count).choices(range(10_000), k=count)
    found = kept(values).percentiles()
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


def failure(reason: Reason, status: int, backend: str) -> Result:
    """A prompt that failed for a reason."""
    error = PromptError(reason, "no", http_status=status)
    return Result("f", 0, Outcome.FAILED, Timings(), error=error, backend=backend, attempts=1)


def test_errors_by_reason_status_and_backend() -> None:
    """What did not succeed is counted by outcome, reason, status and backend, the most frequent first (A32)."""
    tally = Tally()
    for status, backend, count in ((503, "b", 3), (500, "a", 4), (503, "a", 1)):
        for _ in range(count):
            tally.add(failure(Reason.BACKEND_ERROR, status, backend), 1)
    summary = tally.summary("r", BatchState.COMPLETED, 8, 1)
    kinds = [(Outcome.FAILED, Reason.BACKEND_ERROR, *rest) for rest in ((500, "a"), (503, "b"), (503, "a"))]
    assert list(summary.errors.items()) == list(zip((ErrorKind(*kind) for kind in kinds), (4, 3, 1), strict=True))
    assert summary.reasons == {Reason.BACKEND_ERROR: 8}


def test_kinds_of_errors_are_bounded() -> None:
    """A backend that invents statuses makes no endless summary, and nothing is left uncounted (A32)."""
    tally = Tally()
    for status in range(10 * MAX_ERROR_KINDS):
        tally.add(failure(Reason.BACKEND_ERROR, status + 1, "a"), 1)
    summary = tally.summary("r", BatchState.COMPLETED, 10 * MAX_ERROR_KINDS, 1)
    assert len(summary.errors) == MAX_ERROR_KINDS + 1
    assert sum(summary.errors.values()) == 10 * MAX_ERROR_KINDS
    assert next(iter(summary.errors)) == ErrorKind(Outcome.FAILED, Reason.BACKEND_ERROR, 0, "")
