"""Refusals as statuses that any gRPC client can read."""

from __future__ import annotations

import pytest
from expresslane.batches.outbox import Delta, Parcel
from expresslane.errors import FieldViolation, PromptError, Reason, RefusedError, status_code
from expresslane.results import Outcome, Result, Timings
from expresslane.servicers.encode import delta_messages, generate_responses, in_parcels, result_responses
from expresslane.servicers.status import details
from expresslane.v1 import errors_pb2, inference_pb2, types_pb2
from google.rpc import error_details_pb2


def test_every_reason_has_its_code_and_its_place_in_the_contract() -> None:
    """The reasons in Python are those of errors.proto, one for one, and the contract's comment names the code."""
    names = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert names == {reason.value for reason in Reason}
    assert all(status_code(reason).value[0] for reason in Reason)


def test_details() -> None:
    """Reason and domain are in ErrorInfo, fields in BadRequest, the time to come back in RetryInfo."""
    violation = FieldViolation("prompts[3].custom_id", "required", Reason.MISSING_CUSTOM_ID)
    status = details(RefusedError(Reason.QUEUE_FULL, "full", violations=[violation], retry_after_ns=1_500_000_000))
    info, bad, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    assert [one.Unpack(into) for one, into in zip(status.details, (info, bad, retry), strict=True)] == [True] * 3
    assert (info.reason, info.domain) == ("QUEUE_FULL", "expresslane.dev")
    assert [(one.field, one.reason) for one in bad.field_violations] == [("prompts[3].custom_id", "MISSING_CUSTOM_ID")]
    assert (retry.retry_delay.seconds, retry.retry_delay.nanos) == (1, 500_000_000)


@pytest.mark.parametrize("letter", ["x", "ü", "漢"])
def test_trailers_stay_under_4_kib(letter: str) -> None:
    """However much is wrong, message (percent-encoded) and details (base64) fit in 4 KiB together."""
    violations = [FieldViolation(letter * 500, letter * 500)] * 50
    status = details(RefusedError(Reason.INVALID_FIELD, letter * 5_000, violations=violations))
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    assert 1 <= len(bad.field_violations) <= 20
    message = status.message.encode()
    encoded = len(message) * (1 if letter == "x" else 3)
    assert encoded + status.ByteSize() * 4 / 3 < 4_096


def test_usual_violations_all_fit() -> None:
    """Twenty violations of the usual length are all shown."""
    violations = [FieldViolation(f"prompts[{n}].custom_id", "required: 1 to 256 bytes") for n in range(25)]
    bad = error_details_pb2.BadRequest()
    details(RefusedError(Reason.INVALID_FIELD, "no", violations=violations)).details[1].Unpack(bad)
    assert len(bad.field_violations) == 20


SIZES = [400_000, 400_000, 400_000, 3_000_000, 10, 20]
SPLIT = [[400_000, 400_000], [400_000], [3_000_000], [10, 20]]


def test_results_are_split_at_1_mib() -> None:
    """Results are packed into responses of at most 1 MiB, in order; a larger one goes alone."""
    results = [Result("x" * size, 0, Outcome.SUCCEEDED, Timings()) for size in SIZES]
    responses = result_responses(results, inference_pb2.GenerateBatchResponse)
    assert [[len(one.custom_id) for one in response.results] for response in responses] == SPLIT


def test_no_results_need_no_response() -> None:
    """A parcel without results gives no response."""
    assert list(result_responses([], inference_pb2.StreamPromptsResponse)) == []


def test_deltas_are_split_at_1_mib() -> None:
    """Deltas are packed into messages of at most 1 MiB, in order; a larger one goes alone."""
    deltas = [inference_pb2.Delta(text="x" * size) for size in SIZES]
    assert [[len(one.text) for one in parcel] for parcel in in_parcels(deltas)] == SPLIT


def test_a_delta_above_1_mib_is_split() -> None:
    """What a slow reader let pile up comes in several deltas, reasoning first, and loses nothing."""
    text, reasoning = "é" * 1_500_000, "r" * 1_200_000
    messages = list(delta_messages([Delta("p", 3, [text], [reasoning]), Delta("q", 4, ["a", "b"])]))
    assert max(message.ByteSize() for message in messages) <= 1024 * 1024
    split = [message for message in messages if message.index == 3]
    assert "".join(one.reasoning for one in split) == reasoning
    assert "".join(one.text for one in split) == text
    assert [(one.custom_id, one.text) for one in messages[len(split) :]] == [("q", "ab")]


def test_a_result_above_the_limit_loses_its_answer() -> None:
    """A result that no message can carry keeps its own error, or fails with ANSWER_OVER_LIMIT where it had none."""
    error = PromptError(Reason.IDLE_TIMEOUT, "m" * 500, provider_body="b")
    results = [
        Result("a", 0, Outcome.SUCCEEDED, Timings(), answered=True, text="x" * 5_000_000),
        Result("b", 1, Outcome.EXPIRED, Timings(), answered=True, logprobs_json="x" * 5_000_000, error=error),
        Result("c", 2, Outcome.SUCCEEDED, Timings(), answered=True, text="kept"),
    ]
    (response,) = result_responses(results, inference_pb2.GenerateBatchResponse)
    assert [one.error.reason for one in response.results] == ["ANSWER_OVER_LIMIT", "IDLE_TIMEOUT", ""]
    assert [one.outcome for one in response.results] == [
        types_pb2.OUTCOME_FAILED,
        types_pb2.OUTCOME_EXPIRED,
        types_pb2.OUTCOME_SUCCEEDED,
    ]
    assert [len(one.choices) for one in response.results] == [0, 0, 1]


@pytest.mark.parametrize(
    ("size", "expected"), [(10, [(1, True)]), (600_000, [(1, False), (0, True)])], ids=["small", "large"]
)
def test_last_deltas_come_with_the_result(size: int, expected: list[tuple[int, bool]]) -> None:
    """A generation's last deltas and its result share a message, unless that would exceed 1 MiB."""
    text = "x" * size
    result = Result("p", 0, Outcome.SUCCEEDED, Timings(), answered=True, text=text)
    responses = list(generate_responses(Parcel([result], [Delta("p", 0, [text])])))
    assert [(len(one.deltas), one.HasField("result")) for one in responses] == expected
    assert "".join(delta.text for one in responses for delta in one.deltas) == text
    assert responses[-1].result.choices[0].text == text
