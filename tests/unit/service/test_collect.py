"""CollectBatch's response stays within its bound, whatever the results hold."""

from __future__ import annotations

import pytest
from expresslane.batches.summary import BatchState, Tally
from expresslane.errors import AttemptError, PromptError, Reason
from expresslane.prompts import Prompt, RequestOptions, Sampling
from expresslane.results import Outcome, Result, Timings, Usage
from expresslane.servicers.collect import Collector, check_collectable

LIMIT = 4 * 1024 * 1024
LONG = Timings(10**13, 10**13 + 1, 10**13 + 1, 10**13 + 1, 10**13 + 1, 10**9 + 1)
ID = "i" * 250


def failed(index: int) -> Result:
    """A failure with everything that a failure can have, each at its longest."""
    history = tuple(
        AttemptError("b" * 63, Reason.BACKEND_RATE_LIMITED, "\U0001f600" * 500, 429, 10**12) for _ in range(19)
    )
    error = PromptError(
        Reason.BACKEND_QUOTA_EXHAUSTED,
        "\U0001f600" * 600,
        retryable=True,
        deadline="first_token",
        http_status=429,
        provider_code="c" * 200,
        provider_body="d" * 2_048,
        provider_request_id="e" * 8_000,
    )
    name = f"{ID}{index:06}"
    return Result(
        name, index, Outcome.FAILED, LONG, error=error, attempts=20, history=history, backend="b" * 63, model="m" * 60
    )


def answered(index: int, size: int) -> Result:
    """A success with a text of that size."""
    usage = Usage(10**6, 10**6, 10**6)
    name = f"{ID}{index:06}"
    text = "x" * size
    return Result(
        name, index, Outcome.SUCCEEDED, LONG, answered=True, text=text, usage=usage, backend="b", answer_bytes=size
    )


@pytest.mark.parametrize("size", [4, 1_000, 100_000])
@pytest.mark.parametrize("failures", [0, 2_000, 4_000])
def test_what_was_accepted_fits(size: int, failures: int) -> None:
    """A batch that is accepted is answered within the bound, in order, and counted as it is delivered."""
    options = RequestOptions(sampling=Sampling(max_tokens=1))
    check_collectable([(Prompt(f"{ID}{index:06}", "m", "x", options=options), 1) for index in range(4_000)], LIMIT)
    collector, tally = Collector(LIMIT), Tally()
    for index in reversed(range(4_000)):
        result = failed(index) if index < failures else answered(index, size)
        tally.add(result, 1)
        collector.add([result])
    response = collector.response(tally.summary("r", BatchState.COMPLETED, 4_000, 10**9))
    assert response.ByteSize() <= LIMIT
    assert [result.index for result in response.results] == list(range(4_000))
    kept = [result for result in response.results if result.choices]
    assert all(len(result.choices[0].text) == size for result in kept)
    assert (response.summary.succeeded, response.summary.failed) == (len(kept), 4_000 - len(kept))
    assert sum(response.summary.reasons.values()) == response.summary.failed
    assert sum(error.count for error in response.summary.errors) == response.summary.failed
    assert {error.backend for error in response.summary.errors} <= {"backends/b", f"backends/{'b' * 63}"}
    assert len(kept) == 4_000 - failures if size == 4 else len(kept) < 4_000
