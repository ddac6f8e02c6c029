"""What counts as refused: prompts by reason where a call brought any, else the call (A28)."""

from __future__ import annotations

import pytest
from expresslane.errors import Reason, RefusedError
from expresslane.refused import Refused, bringing

BATCH = "expresslane.v1.Inference/GenerateBatch"


def refusal(reason: Reason, prompts: int = 0) -> RefusedError:
    """A refusal of a call with so many prompts."""
    with pytest.raises(RefusedError) as raised, bringing(prompts):
        raise RefusedError(reason, "no")
    return raised.value


def test_prompts_are_counted_where_they_are_known() -> None:
    """A refused call counts with all that it brought, one that nobody has read as a call."""
    refused = Refused()
    refused.call(BATCH, refusal(Reason.QUEUE_FULL, 5))
    refused.call("expresslane.v1.Jobs/CreateJob", refusal(Reason.QUEUE_FULL, 2))
    refused.call(BATCH, RefusedError(Reason.UNAUTHENTICATED, "no key"))
    refused.prompt(Reason.UNKNOWN_MODEL)
    assert (refused.prompts, refused.calls) == ({"QUEUE_FULL": 7, "UNKNOWN_MODEL": 1}, {"UNAUTHENTICATED": 1})


@pytest.mark.parametrize(
    ("method", "reason", "prompts"),
    [
        (BATCH, Reason.REQUEST_EXISTS, 3),
        ("expresslane.v1.Jobs/CreateJob", Reason.JOB_EXISTS, 3),
        ("expresslane.v1.Inference/CancelBatch", Reason.UNKNOWN_REQUEST, 0),
        ("expresslane.v1.Admin/UpdateBackend", Reason.INVALID_FIELD, 0),
    ],
)
def test_what_is_no_refused_work(method: str, reason: Reason, prompts: int) -> None:
    """A name that is taken, and calls that take no prompts, count as nothing."""
    refused = Refused()
    refused.call(method, refusal(reason, prompts))
    assert (refused.prompts, refused.calls) == ({}, {})


@pytest.mark.parametrize("method", ["Inference/GenerateBatch", "Inference/CollectBatch", "Jobs/CreateJob"])
def test_a_batch_that_is_too_large_is_refused(method: str) -> None:
    """Whether its caller goes on from it by itself is not known."""
    refused = Refused()
    refused.call(f"expresslane.v1.{method}", refusal(Reason.BATCH_TOO_LARGE, 12))
    assert (refused.prompts, refused.calls) == ({"BATCH_TOO_LARGE": 12}, {})
