"""The spans of a batch: tree, times, names, status, and what is never in them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from expresslane.errors import BackendError, PromptError, Reason
from expresslane.prompts import Chat, ChatMessage, Prompt, PromptClass, Sampling
from expresslane.results import FinishReason, Outcome, Result, Timings, Usage
from expresslane.telemetry.propagation import context_from_metadata
from expresslane.telemetry.spans import AttemptTrace, BatchTrace, PromptTrace, Tracer
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "the prompt's own words"


class Recorded:
    """A tracer and what it has recorded."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = Tracer(self.provider)

    def batch(self) -> BatchTrace:
        return self.tracer.start_batch(request_id="r-1", prompts=2, method="GenerateBatch")

    def prompt(self) -> PromptTrace:
        prompt = self.batch().start_prompt("p-1", 7, "small", 1_000, PromptClass.INTERACTIVE)
        assert prompt is not None
        return prompt

    def attempt(self, sampling: Sampling | None = None, *, raw: bool = False) -> AttemptTrace:
        return self.prompt().start_attempt(
            1, "gpu", "vllm", "https://gpu.example:8443/v1", "org/small", sampling or Sampling(), 2_000, raw=raw
        )

    def span(self, name: str) -> ReadableSpan:
        (found,) = (span for span in self.exporter.get_finished_spans() if span.name == name)
        return found


@pytest.fixture
def recorded() -> Recorded:
    """A tracer that records everything."""
    return Recorded()


@pytest.fixture
def caller() -> Iterator[None]:
    """The current context is that of a caller's sampled span."""
    token = otel_context.attach(context_from_metadata((("traceparent", CALLER), ("baggage", "team=search"))))
    yield
    otel_context.detach(token)


def result(outcome: Outcome, error: PromptError | None = None) -> Result:
    """A prompt's end after two attempts."""
    timings = Timings(queue_wait_ns=500_000_000, ttft_ns=750_000_000, total_ns=1_000_000_000)
    return Result("p-1", 7, outcome, timings, text=SECRET, error=error, attempts=2, backend="gpu")


def attributes(span: ReadableSpan) -> dict[str, object]:
    """The span's attributes as a plain dict."""
    return dict(span.attributes or {})


def parent_id(span: ReadableSpan) -> int:
    """The id of the span's parent."""
    assert span.parent is not None
    return span.parent.span_id


@pytest.mark.usefixtures("caller")
def test_the_spans_of_a_batch_are_one_tree_below_the_caller(recorded: Recorded) -> None:
    """Caller → batch → prompt → queue and attempt, all in the caller's trace."""
    batch = recorded.batch()
    prompt = batch.start_prompt("p-1", 0, "small", 1_000, PromptClass.STANDARD)
    assert prompt is not None
    prompt.queued(1_000, 2_000)
    attempt = prompt.start_attempt(1, "gpu", "vllm", "", "small", Sampling(), 2_000)
    attempt.end(3_000, outcome="success", usage=None, finish_reason="stop", error=None, simulated=False)
    prompt.end(result(Outcome.SUCCEEDED), 3_000)
    batch.end("COMPLETED", {"success": 1}, cancelled=False)

    spans = {span.name: span for span in recorded.exporter.get_finished_spans()}
    assert set(spans) == {"expresslane.batch", "expresslane.prompt", "expresslane.queue", "chat small"}
    ids = {name: span.context.span_id for name, span in spans.items() if span.context}
    assert parent_id(spans["expresslane.batch"]) == 0xB7AD6B7169203331
    assert parent_id(spans["expresslane.prompt"]) == ids["expresslane.batch"]
    assert parent_id(spans["expresslane.queue"]) == ids["expresslane.prompt"]
    assert parent_id(spans["chat small"]) == ids["expresslane.prompt"]
    assert {span.context.trace_id for span in spans.values() if span.context} == {0x0AF7651916CD43DD8448EB211C80319C}


def test_monotonic_times_become_wall_times(recorded: Recorded) -> None:
    """Durations are exact, and a span that starts now on the monotonic clock starts now on the wall clock."""
    before_ns = time.time_ns()
    batch = recorded.batch()
    now = time.monotonic_ns()
    prompt = batch.start_prompt("p-1", 0, "small", now, PromptClass.STANDARD)
    assert prompt is not None
    prompt.queued(now, now + 250_000_000)
    prompt.end(result(Outcome.SUCCEEDED), now + 400_000_000)
    after_ns = time.time_ns()

    queue, whole = recorded.span("expresslane.queue"), recorded.span("expresslane.prompt")
    assert queue.start_time is not None
    assert queue.end_time is not None
    assert whole.start_time == queue.start_time
    assert queue.end_time - queue.start_time == 250_000_000
    slack_ns = 1_000_000  # The two clocks are read one after the other.
    assert before_ns - slack_ns <= queue.start_time <= after_ns + slack_ns


def test_an_attempt_follows_the_genai_conventions(recorded: Recorded) -> None:
    """Operation, provider, model, sampling parameters, usage, finish reason and server have their standard names."""
    attempt = recorded.attempt(Sampling(max_tokens=64, temperature=0.0, top_p=0.9, seed=7, stop=(SECRET,)))
    attempt.first_token(502_000)
    attempt.first_token(900_000)
    usage = Usage(input_tokens=100, cached_input_tokens=60, output_tokens=20, output_estimated=True)
    attempt.end(1_002_000, outcome="success", usage=usage, finish_reason="stop", error=None, simulated=False)

    span = recorded.span("chat org/small")
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "org/small",
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.seed": 7,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.0005,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 60,
        "server.address": "gpu.example",
        "server.port": 8443,
        "expresslane.backend": "gpu",
        "expresslane.backend.kind": "vllm",
        "expresslane.attempt": 1,
        "expresslane.custom_id": "p-1",
        "expresslane.outcome": "success",
        "expresslane.simulated": False,
        "expresslane.usage_estimated": True,
    }
    assert [event.name for event in span.events] == ["first_token"]


def test_an_untemplated_prompt_is_a_text_completion(recorded: Recorded) -> None:
    """A raw prompt's attempt is named by its own operation."""
    recorded.attempt(raw=True).end(3, outcome="success", usage=None, finish_reason="", error=None, simulated=True)
    span = recorded.span("text_completion org/small")
    assert attributes(span)["gen_ai.operation.name"] == "text_completion"
    assert attributes(span)["expresslane.simulated"] is True


@pytest.mark.parametrize(
    ("outcome", "error", "status", "error_type"),
    [
        (
            "failed",
            BackendError(Reason.BACKEND_REJECTED, SECRET, http_status=400),
            StatusCode.ERROR,
            "BACKEND_REJECTED",
        ),
        ("retry", BackendError(Reason.BACKEND_OVERLOADED, SECRET), StatusCode.ERROR, "BACKEND_OVERLOADED"),
        ("expired", PromptError(Reason.IDLE_TIMEOUT, SECRET, deadline="idle"), StatusCode.ERROR, "IDLE_TIMEOUT"),
        ("cancelled", PromptError(Reason.CANCELLED, SECRET), StatusCode.UNSET, "CANCELLED"),
        ("cancelled", None, StatusCode.UNSET, None),
    ],
)
def test_an_attempt_that_did_not_succeed_says_why(
    recorded: Recorded,
    outcome: str,
    error: PromptError | BackendError | None,
    status: StatusCode,
    error_type: str | None,
) -> None:
    """Failed, retried and expired attempts are errors by reason; one that the caller cancelled is not."""
    recorded.attempt().end(3, outcome=outcome, usage=None, finish_reason="", error=error, simulated=False)
    span = recorded.span("chat org/small")
    assert span.status.status_code is status
    assert attributes(span).get("error.type") == error_type
    assert attributes(span)["expresslane.outcome"] == outcome
    assert SECRET not in span.to_json()


@pytest.mark.parametrize(
    ("outcome", "reason", "status"),
    [
        (Outcome.SUCCEEDED, None, StatusCode.UNSET),
        (Outcome.FAILED, Reason.BACKEND_UNREACHABLE, StatusCode.ERROR),
        (Outcome.EXPIRED, Reason.QUEUE_TIMEOUT, StatusCode.ERROR),
        (Outcome.CANCELLED, Reason.CANCELLED, StatusCode.UNSET),
    ],
)
def test_a_prompt_ends_with_its_outcome(
    recorded: Recorded, outcome: Outcome, reason: Reason | None, status: StatusCode
) -> None:
    """The prompt's span has outcome, attempts, waits and reason, and no text of the answer or the error."""
    error = PromptError(reason, SECRET, deadline="queue") if reason else None
    recorded.prompt().end(result(outcome, error), 5_000)
    span = recorded.span("expresslane.prompt")
    assert span.status.status_code is status
    expected = {
        "expresslane.custom_id": "p-1",
        "expresslane.index": 7,
        "expresslane.model": "small",
        "expresslane.class": "interactive",
        "expresslane.outcome": outcome.value,
        "expresslane.attempts": 2,
        "expresslane.backend": "gpu",
        "expresslane.queue_wait_s": 0.5,
        "expresslane.ttft_s": 0.75,
        "expresslane.simulated": False,
    }
    if reason:
        expected |= {"error.type": reason.value, "expresslane.deadline": "queue"}
    assert attributes(span) == expected
    assert SECRET not in span.to_json()


@pytest.mark.parametrize(
    ("state", "cancelled", "status", "error_type"),
    [
        ("COMPLETED", False, StatusCode.UNSET, None),
        ("FAILED_FAST", False, StatusCode.ERROR, "BATCH_FAILED"),
        ("PARTIAL_DEADLINE", False, StatusCode.ERROR, "CALLER_DEADLINE"),
        ("CANCELLED", True, StatusCode.UNSET, None),
    ],
)
def test_a_batch_ends_with_its_state(
    recorded: Recorded, state: str, cancelled: bool, status: StatusCode, error_type: str | None
) -> None:
    """The batch's span has state and counts; failed fast and out of time are errors, cancelled is not."""
    recorded.batch().end(state, {"success": 1, "failed": 1}, cancelled=cancelled)
    span = recorded.span("expresslane.batch")
    assert span.status.status_code is status
    assert attributes(span).get("error.type") == error_type
    assert attributes(span)["expresslane.batch.state"] == state
    assert attributes(span)["expresslane.batch.count.failed"] == 1
    assert attributes(span)["expresslane.cancelled"] is cancelled


def test_an_attempt_passes_its_own_context_to_the_backend(recorded: Recorded) -> None:
    """The request to a backend carries the attempt's span as its parent."""
    attempt = recorded.attempt()
    headers = attempt.headers
    attempt.end(3, outcome="success", usage=None, finish_reason="", error=None, simulated=False)
    context = recorded.span("chat org/small").context
    assert context is not None
    assert trace.format_span_id(context.span_id) in headers["traceparent"]


@pytest.mark.usefixtures("caller")
def test_an_unsampled_batch_has_no_prompt_spans_and_still_passes_context() -> None:
    """When the batch is not recorded prompts cost nothing, and backends see the trace as unsampled."""
    batch = Tracer(TracerProvider(sampler=ALWAYS_OFF)).start_batch(request_id="", prompts=1, method="GenerateBatch")
    assert not batch.recording
    assert batch.start_prompt("p", 0, "small", 0, PromptClass.STANDARD) is None
    assert batch.headers["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert int(batch.headers["traceparent"][-2:], 16) & 1 == 0
    assert batch.headers["baggage"] == "team=search"
    batch.end("COMPLETED", {}, cancelled=False)


@pytest.mark.usefixtures("caller")
def test_without_tracing_the_callers_context_passes_through_as_it_came() -> None:
    """With nothing exported the backend continues the caller's own, still sampled trace."""
    batch = Tracer().start_batch(request_id="", prompts=1, method="Generate")
    assert not batch.recording
    assert batch.headers["traceparent"] == CALLER


def test_without_tracing_and_without_a_caller_there_are_no_headers() -> None:
    """No trace is invented where nobody asked for one."""
    assert Tracer().start_batch(request_id="", prompts=1, method="Generate").headers == {}


def test_a_waiting_prompt_holds_no_span(recorded: Recorded) -> None:
    """A prompt's span is made when it is first released or ends: a long queue is not a long list of spans."""
    started: list[str] = []

    class Watch(SimpleSpanProcessor):
        def on_start(self, span: trace.Span, parent_context: otel_context.Context | None = None) -> None:
            assert parent_context is not None
            started.append(getattr(span, "name", ""))

    recorded.provider.add_span_processor(Watch(InMemorySpanExporter()))
    prompt = recorded.prompt()
    assert started == ["expresslane.batch"]
    prompt.queued(1_000, 2_000)
    assert started == ["expresslane.batch", "expresslane.prompt", "expresslane.queue"]


def content_of(prompt: Prompt, ended: Result, *, content: bool) -> tuple[Any, Any]:
    """The messages that a prompt's span shows, asked and answered."""
    recorded = Recorded()
    recorded.tracer = Tracer(recorded.provider, content=content)
    recorded.prompt().end(ended, 3_000, prompt)
    attributes = recorded.span("expresslane.prompt").attributes or {}
    asked, answered = (attributes.get(f"gen_ai.{side}.messages") for side in ("input", "output"))
    return asked and json.loads(str(asked)), answered and json.loads(str(answered))


ANSWER = Result("p-1", 7, Outcome.SUCCEEDED, Timings(), answered=True, text="blue", finish_reason=FinishReason.STOP)


def test_content_stands_in_spans_only_where_it_is_switched_on() -> None:
    """Prompt and answer by the GenAI conventions; without the switch neither is there."""
    parts = ((False, "why?"), (True, '{"type":"image_url"}'))
    chat = Chat((ChatMessage("system", ((False, "be short"),)), ChatMessage("user", parts)))
    prompt = Prompt("p-1", "small", chat)
    asked, answered = content_of(prompt, ANSWER, content=True)
    assert asked == [
        {"role": "system", "parts": [{"type": "text", "content": "be short"}]},
        {"role": "user", "parts": [{"type": "text", "content": "why?"}, {"type": "other"}]},
    ]
    blue = {"type": "text", "content": "blue"}
    assert answered == [{"role": "assistant", "parts": [blue], "finish_reason": "stop"}]
    assert content_of(prompt, ANSWER, content=False) == (None, None)


def test_content_in_spans_is_bounded() -> None:
    """Of a long prompt its beginning is shown, and how much is not."""
    asked, answered = content_of(Prompt("p-1", "small", "x" * 10_000), result(Outcome.FAILED), content=True)
    (part,) = asked[0]["parts"]
    assert part["content"] == "x" * 4_096 + "... (5,904 characters more)"
    assert answered is None
