"""Results, summaries and events as frozen values."""

from __future__ import annotations

import dataclasses

import pytest
from expresslane_client import (
    AttemptError,
    BatchState,
    FinishReason,
    Outcome,
    Percentiles,
    PromptClass,
    Result,
    Summary,
)
from expresslane_client.backends import (
    Backend,
    BackendEstimates,
    BackendFailure,
    BackendModel,
    Breaker,
    Holdings,
    Limit,
    Policy,
    Snapshot,
    Tenant,
)
from expresslane_client.events import event_from_proto
from expresslane_client.units import duration, milliseconds
from expresslane_client.v1 import admin_pb2, inference_pb2, types_pb2

IN_MS = {"uptime", "queue_time_limit", "rate_limited_time", "reset_in", "since", "half_open_in", "age"}
"""Durations, which the client has in milliseconds."""


@pytest.mark.parametrize(
    "value",
    [Backend, BackendEstimates, BackendFailure, BackendModel, Breaker, Holdings, Limit, Policy, Snapshot, Tenant],
)
def test_what_admin_shows_is_shown_whole(value: type) -> None:
    """Each field of the contract's message is there, and nothing else (A28)."""
    names = {field.name for field in getattr(admin_pb2, value.__name__).DESCRIPTOR.fields}
    ours = {f"{name.removesuffix('_time')}_ms" if name in IN_MS else name for name in names - {"class"}}
    ours |= {"prompt_class"} if "class" in names else set()
    assert {field.name for field in dataclasses.fields(value)} == ours


def test_an_empty_result_has_no_times_it_did_not_measure() -> None:
    """What did not happen is None, not zero; there is always a text to print (A13)."""
    result = Result.from_proto(types_pb2.Result(custom_id="a", outcome=types_pb2.OUTCOME_EXPIRED))
    assert (result.ttft_ms, result.attempt_ms, result.usage, result.error) == (None, None, None, None)
    assert (result.ok, result.text, result.outcome) == (False, "", Outcome.EXPIRED)


def test_a_result_keeps_every_field() -> None:
    """Answer, error, earlier attempts, tokens and times all have their place (A13, G25)."""
    message = types_pb2.Result(custom_id="a", index=3, outcome=types_pb2.OUTCOME_FAILED, attempts=2, simulated=True)
    message.choices.add(text="t", reasoning="r", finish_reason=types_pb2.FINISH_REASON_LENGTH, finish_reason_raw="max")
    message.choices[0].tool_calls.add(id="1", name="f", arguments="{}")
    message.error.MergeFrom(
        types_pb2.PromptError(code=4, reason="IDLE_TIMEOUT", deadline=types_pb2.DEADLINE_KIND_IDLE, retryable=True)
    )
    message.history.add(
        backend="backends/a", reason="BACKEND_OVERLOADED", message="m", http_status=503, duration=duration(0.25)
    )
    message.usage.output_tokens = 7
    message.timings.queue_wait.CopyFrom(duration(1.5))
    message.timings.ttft.CopyFrom(duration(2))
    message.timings.attempt_ttft.CopyFrom(duration(0.5))
    result = Result.from_proto(message)
    assert result.error is not None
    assert result.error.deadline == "idle"
    assert result.history == (AttemptError("backends/a", "BACKEND_OVERLOADED", "m", 503, 250.0),)
    assert (result.choice.finish_reason, result.choice.tool_calls[0].name) == (FinishReason.LENGTH, "f")
    assert result.queue_ms + (result.attempt_ttft_ms or 0) == result.ttft_ms == 2000.0
    assert result.usage is not None
    assert result.usage.output_tokens == 7
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.index = 1  # type: ignore[misc]


def test_words_of_a_newer_service_do_no_harm() -> None:
    """Enum values that this client does not know are told as such instead of raising."""
    message = types_pb2.Result(outcome=99)  # type: ignore[arg-type]
    message.choices.add(finish_reason=99)
    result = Result.from_proto(message)
    assert (result.outcome, result.choice.finish_reason) == (Outcome.UNSPECIFIED, FinishReason.OTHER)
    assert Summary.from_proto(inference_pb2.BatchSummary(state=99)).state is BatchState.UNSPECIFIED  # type: ignore[arg-type]
    assert event_from_proto(inference_pb2.Event()) is None


def test_an_empty_summary_is_all_zeros() -> None:
    """A batch without successes has zeros everywhere and divides by nothing (A14)."""
    summary = Summary.from_proto(inference_pb2.BatchSummary())
    assert (summary.speed_up, summary.throughput_per_s, summary.first_result_ms) == (0.0, 0.0, None)
    assert summary.ttft == Percentiles()


def test_the_enums_cover_the_contract() -> None:
    """Every value of the contract's enums has a name here."""
    assert len(Outcome) == len(types_pb2.Outcome.values())
    assert len(FinishReason) == len(types_pb2.FinishReason.values())
    assert len(BatchState) == len(inference_pb2.BatchState.values())
    assert len(PromptClass) == len(types_pb2.PromptClass.values()) - 1


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 0.1, 1.5, 86_400.0])
def test_durations_survive_the_round_trip(seconds: float) -> None:
    """Seconds become a protobuf duration and milliseconds without losing more than a nanosecond."""
    assert milliseconds(duration(seconds)) == pytest.approx(seconds * 1e3, abs=1e-6)
