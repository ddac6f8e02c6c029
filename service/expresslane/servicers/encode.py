"""Results and summaries into messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from google.protobuf.duration_pb2 import Duration

from expresslane.batches.summary import BatchState, ErrorKind, Percentiles, Summary
from expresslane.errors import AttemptError, PromptError, Reason, status_code
from expresslane.results import MAX_RESULT_BYTES, FinishReason, Outcome, Result, Timings, Usage
from expresslane.v1 import inference_pb2, jobs_pb2, types_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from expresslane.batches.outbox import Delta, Parcel
    from expresslane.rate_limits import Limit

__all__ = [
    "backend_name",
    "delta_messages",
    "drop_answer",
    "duration",
    "fill_result",
    "generate_responses",
    "in_parcels",
    "limited_event",
    "progress_event",
    "result_responses",
    "summary_message",
]

MAX_PARCEL_BYTES = 1024 * 1024
MAX_DELTA_CHARS = MAX_PARCEL_BYTES // 4  # a character takes at most four bytes
MAX_SHORT_BYTES = 120
NS = 10**9
Response = TypeVar(
    "Response", inference_pb2.GenerateBatchResponse, inference_pb2.StreamPromptsResponse, jobs_pb2.WatchJobResponse
)

_OUTCOMES = {
    Outcome.SUCCEEDED: types_pb2.OUTCOME_SUCCEEDED,
    Outcome.FAILED: types_pb2.OUTCOME_FAILED,
    Outcome.CANCELLED: types_pb2.OUTCOME_CANCELLED,
    Outcome.EXPIRED: types_pb2.OUTCOME_EXPIRED,
}
_FINISH = {
    FinishReason.UNSPECIFIED: types_pb2.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: types_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: types_pb2.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: types_pb2.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: types_pb2.FINISH_REASON_CONTENT_FILTER,
    FinishReason.OTHER: types_pb2.FINISH_REASON_OTHER,
}
_STATES = {
    BatchState.COMPLETED: inference_pb2.BATCH_STATE_COMPLETED,
    BatchState.FAILED_FAST: inference_pb2.BATCH_STATE_FAILED_FAST,
    BatchState.PARTIAL_DEADLINE: inference_pb2.BATCH_STATE_PARTIAL_DEADLINE,
    BatchState.CANCELLED: inference_pb2.BATCH_STATE_CANCELLED,
}
_DEADLINES = {
    "": types_pb2.DEADLINE_KIND_UNSPECIFIED,
    "queue": types_pb2.DEADLINE_KIND_QUEUE,
    "first_token": types_pb2.DEADLINE_KIND_FIRST_TOKEN,
    "idle": types_pb2.DEADLINE_KIND_IDLE,
    "attempt": types_pb2.DEADLINE_KIND_ATTEMPT,
    "caller": types_pb2.DEADLINE_KIND_CALLER,
    "no_backend": types_pb2.DEADLINE_KIND_NO_BACKEND,
}


def duration(nanoseconds: int) -> Duration:
    """Nanoseconds as a protobuf duration."""
    return Duration(seconds=nanoseconds // NS, nanos=nanoseconds % NS)


def _optional(nanoseconds: int | None) -> Duration | None:
    return None if nanoseconds is None else duration(nanoseconds)


def backend_name(backend: str) -> str:
    """The resource name of a backend; empty for none."""
    return f"backends/{backend}" if backend else ""


def fill_result(message: types_pb2.Result, result: Result) -> None:
    """Write one prompt's end into an empty message in place; one built apart would be copied into its response."""
    message.custom_id = result.custom_id
    message.index = result.index
    message.outcome = _OUTCOMES[result.outcome]
    message.attempts = result.attempts
    message.turned_away = result.turned_away
    message.backend = backend_name(result.backend)
    message.model = result.model
    message.simulated = result.simulated
    _fill_timings(message.timings, result.timings)
    if result.answered:
        choice = message.choices.add()
        choice.text = result.text
        choice.reasoning = result.reasoning
        choice.logprobs_json = result.logprobs_json
        choice.finish_reason = _FINISH[result.finish_reason]
        choice.finish_reason_raw = result.finish_reason_raw
        for call in result.tool_calls:
            choice.tool_calls.add(id=call.id, name=call.name, arguments=call.arguments)
    if result.usage is not None:
        _fill_usage(message.usage, result.usage)
    if result.history:
        message.history.extend(_attempt_error(attempt) for attempt in result.history)
    if result.error is not None:
        message.error.CopyFrom(_error(result.error))


def drop_answer(message: types_pb2.Result, why: str) -> None:
    """Take the answer out of an encoded result: a success fails with ANSWER_OVER_LIMIT, others keep a shorter error."""
    message.ClearField("choices")
    message.ClearField("history")
    if message.outcome == types_pb2.OUTCOME_SUCCEEDED:
        message.outcome = types_pb2.OUTCOME_FAILED
        message.error.CopyFrom(_error(PromptError(Reason.ANSWER_OVER_LIMIT, why)))
        return
    for field in ("provider_body", "provider_code", "provider_request_id"):
        message.error.ClearField(field)
    message.error.message = message.error.message.encode()[:MAX_SHORT_BYTES].decode(errors="ignore")


def _fill_within(message: types_pb2.Result, result: Result, limit_bytes: int) -> int:
    """Write a result whose message is at most `limit_bytes`; returns its size."""
    fill_result(message, result)
    size = message.ByteSize()
    if size > limit_bytes:
        drop_answer(message, f"the result of {size:,} bytes is larger than a result may be")
        size = message.ByteSize()
    return size


def result_responses(
    results: Iterable[Result], empty: Callable[[], Response], limit_bytes: int = MAX_RESULT_BYTES
) -> Iterator[Response]:
    """Responses of at most 1 MiB of results each; a single larger result, up to the limit, has one of its own."""
    response = empty()
    size = 0
    for result in results:
        message = response.results.add()
        more = _fill_within(message, result, limit_bytes)
        if size and size + more > MAX_PARCEL_BYTES:
            following = empty()
            following.results.append(message)
            del response.results[-1]
            yield response
            response, size = following, 0
        size += more
    if size:
        yield response


def generate_responses(parcel: Parcel, limit_bytes: int = MAX_RESULT_BYTES) -> Iterator[inference_pb2.GenerateResponse]:
    """The responses for one prompt's parcel: its last deltas share one with the result where both fit in 1 MiB."""
    response: inference_pb2.GenerateResponse | None = None
    for deltas in in_parcels(delta_messages(parcel.deltas)):
        if response is not None:
            yield response
        response = inference_pb2.GenerateResponse(deltas=deltas)
    for result in parcel.results:
        last = inference_pb2.GenerateResponse()
        _fill_within(last.result, result, limit_bytes)
        if response is not None and response.ByteSize() + last.ByteSize() > MAX_PARCEL_BYTES:
            yield response
        elif response is not None:
            last.deltas.MergeFrom(response.deltas)
        response = last
    if response is not None:
        yield response


def _fill_timings(message: types_pb2.Timings, timings: Timings) -> None:
    _fill_duration(message.queue_wait, timings.queue_wait_ns)
    _fill_duration(message.total, timings.total_ns)
    if timings.ttft_ns is not None:
        _fill_duration(message.ttft, timings.ttft_ns)
    if timings.attempt_ttft_ns is not None:
        _fill_duration(message.attempt_ttft, timings.attempt_ttft_ns)
    if timings.attempt_ns is not None:
        _fill_duration(message.attempt, timings.attempt_ns)
    if timings.tpot_ns is not None:
        _fill_duration(message.tpot, timings.tpot_ns)


def _fill_duration(message: Duration, nanoseconds: int) -> None:
    message.seconds, message.nanos = divmod(nanoseconds, NS)


def _fill_usage(message: types_pb2.Usage, usage: Usage) -> None:
    message.input_tokens = usage.input_tokens
    message.cached_input_tokens = usage.cached_input_tokens
    message.output_tokens = usage.output_tokens
    message.input_estimated = usage.input_estimated
    message.output_estimated = usage.output_estimated


def _error(error: PromptError) -> types_pb2.PromptError:
    code: int = status_code(error.reason).value[0]
    return types_pb2.PromptError(
        code=code,
        reason=error.reason,
        message=error.message,
        retryable=error.retryable,
        deadline=_DEADLINES[error.deadline],
        http_status=error.http_status,
        provider_code=error.provider_code,
        provider_body=error.provider_body,
        provider_request_id=error.provider_request_id,
        field=error.field,
        retry_delay=_optional(error.retry_after_ns),
    )


def _attempt_error(error: AttemptError) -> types_pb2.AttemptError:
    return types_pb2.AttemptError(
        backend=backend_name(error.backend),
        reason=error.reason,
        message=error.message,
        http_status=error.http_status,
        duration=duration(error.duration_ns),
    )


def delta_messages(deltas: Iterable[Delta]) -> Iterator[inference_pb2.Delta]:
    """Pieces of the prompts' output, one message for each prompt; more, in order, where it is larger than 1 MiB."""
    for delta in deltas:
        text, reasoning = "".join(delta.text), "".join(delta.reasoning)
        custom_id, index = delta.custom_id, delta.index
        message = inference_pb2.Delta(custom_id=custom_id, index=index, text=text, reasoning=reasoning)
        if len(text) + len(reasoning) <= MAX_DELTA_CHARS or message.ByteSize() <= MAX_PARCEL_BYTES:
            yield message
            continue
        for start in range(0, len(reasoning), MAX_DELTA_CHARS):
            piece = reasoning[start : start + MAX_DELTA_CHARS]
            yield inference_pb2.Delta(custom_id=custom_id, index=index, reasoning=piece)
        for start in range(0, len(text), MAX_DELTA_CHARS):
            yield inference_pb2.Delta(custom_id=custom_id, index=index, text=text[start : start + MAX_DELTA_CHARS])


def progress_event(*, queued: int, in_flight: int, finished: int, elapsed_ns: int) -> inference_pb2.Event:
    """How far a batch is."""
    progress = inference_pb2.Progress(
        queued=queued, in_flight=in_flight, finished=finished, elapsed=duration(elapsed_ns)
    )
    return inference_pb2.Event(progress=progress)


def limited_event(limit: Limit, now_ns: int) -> inference_pb2.Event:
    """What a batch's prompts wait for."""
    limited = inference_pb2.RateLimited(
        backend=backend_name(limit.backend),
        tenant=limit.tenant,
        limit=limit.kind,
        reset_in=duration(max(0, limit.reset_ns - now_ns)),
    )
    return inference_pb2.Event(rate_limited=limited)


def in_parcels(messages: Iterable[inference_pb2.Delta]) -> Iterator[list[inference_pb2.Delta]]:
    """Split into lists of at most 1 MiB each; a single larger message is a list of its own."""
    parcel: list[inference_pb2.Delta] = []
    size = 0
    for message in messages:
        more = message.ByteSize()
        if parcel and size + more > MAX_PARCEL_BYTES:
            yield parcel
            parcel, size = [], 0
        parcel.append(message)
        size += more
    if parcel:
        yield parcel


def summary_message(summary: Summary) -> inference_pb2.BatchSummary:
    """What became of a batch."""
    message = inference_pb2.BatchSummary(
        request_id=summary.request_id,
        state=_STATES[summary.state],
        total=summary.total,
        succeeded=summary.outcomes[Outcome.SUCCEEDED],
        failed=summary.outcomes[Outcome.FAILED],
        cancelled=summary.outcomes[Outcome.CANCELLED],
        expired=summary.outcomes[Outcome.EXPIRED],
        reasons={str(reason): count for reason, count in summary.reasons.items()},
        wall_time=duration(summary.wall_ns),
        sequential_estimate=duration(summary.sequential_ns),
        speed_up=summary.speed_up,
        time_to_first_result=_optional(summary.first_result_ns),
        time_to_median_result=_optional(summary.median_result_ns),
        queue_wait=_percentiles(summary.queue_wait),
        ttft=_percentiles(summary.ttft),
        tpot=_percentiles(summary.tpot),
        total_time=_percentiles(summary.total_time),
        throughput_per_s=summary.throughput_per_s,
        simulated=summary.simulated,
        errors=[_error_count(kind, count) for kind, count in summary.errors.items()],
    )
    _fill_usage(message.usage, summary.usage)
    return message


def _error_count(kind: ErrorKind, count: int) -> inference_pb2.ErrorCount:
    return inference_pb2.ErrorCount(
        outcome=_OUTCOMES[kind.outcome],
        reason=kind.reason,
        code=status_code(kind.reason).value[0],
        http_status=kind.http_status,
        backend=backend_name(kind.backend),
        count=count,
    )


def _percentiles(values: Percentiles) -> inference_pb2.Percentiles:
    if not values.count:
        return inference_pb2.Percentiles()
    return inference_pb2.Percentiles(
        count=values.count,
        p50=duration(values.p50_ns),
        p99=duration(values.p99_ns),
        max=duration(values.max_ns),
        mean=duration(values.mean_ns),
    )
