"""The spans of one batch: RPC → batch → prompt → queue and attempt, started and ended explicitly.

Times are `time.monotonic_ns()` values; one offset per batch turns them into wall time. A batch that is not recorded
gives None for every prompt, so that callers skip all work. No attribute holds text of a prompt or of an answer; error
messages are left out too, because a provider's may quote the prompt.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NoOpTracerProvider, SpanKind, Status, StatusCode, TracerProvider, set_span_in_context

from expresslane.errors import BackendError, PromptError, Reason
from expresslane.results import Outcome, Result, Usage
from expresslane.telemetry import names
from expresslane.telemetry.content import input_messages, output_messages
from expresslane.telemetry.propagation import headers_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from expresslane.prompts import Prompt, PromptClass, Sampling

__all__ = ["AttemptTrace", "BatchTrace", "PromptTrace", "Tracer"]

_SAMPLING: tuple[tuple[str, str], ...] = (
    ("max_tokens", names.GEN_AI_MAX_TOKENS),
    ("temperature", names.GEN_AI_TEMPERATURE),
    ("top_p", names.GEN_AI_TOP_P),
    ("top_k", names.GEN_AI_TOP_K),
    ("presence_penalty", names.GEN_AI_PRESENCE_PENALTY),
    ("frequency_penalty", names.GEN_AI_FREQUENCY_PENALTY),
    ("seed", names.GEN_AI_SEED),
)
_BATCH_ERRORS = {"FAILED_FAST": Reason.BATCH_FAILED, "PARTIAL_DEADLINE": Reason.CALLER_DEADLINE}
_NOT_AN_ERROR = frozenset({Outcome.SUCCEEDED, Outcome.CANCELLED})
_WORD = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_NS_PER_S = 1_000_000_000


class Tracer:
    """Starts the trace of each batch. Without a provider nothing is recorded and the caller's context passes on.

    `content`: whether prompts and answers stand in the spans of prompts.
    """

    def __init__(self, provider: TracerProvider | None = None, version: str = "", *, content: bool = False) -> None:
        self._content = content
        self._tracer = (provider or NoOpTracerProvider()).get_tracer(names.SCOPE, version)

    def start_batch(self, *, request_id: str, prompts: int, method: str, arrived_ns: int | None = None) -> BatchTrace:
        """Start a batch's span below the current one (the RPC's), at `arrived_ns` or now.

        `prompts` is 0 where it is not known yet.
        """
        attributes: dict[str, AttributeValue] = {names.METHOD: method, names.BATCH_PROMPTS: prompts}
        if request_id:
            attributes[names.REQUEST_ID] = request_id
        parent = otel_context.get_current()
        offset_ns = time.time_ns() - time.monotonic_ns()
        start_ns = (time.monotonic_ns() if arrived_ns is None else arrived_ns) + offset_ns
        span = self._tracer.start_span(names.SPAN_BATCH, parent, attributes=attributes, start_time=start_ns)
        return BatchTrace(self._tracer, span, parent, offset_ns, self._content)


@dataclass(slots=True, eq=False)
class BatchTrace:
    """The span of one batch. `recording`: whether its prompts have spans too."""

    _tracer: trace.Tracer
    _span: trace.Span
    _parent: Context
    _wall_offset_ns: int
    _content: bool = False
    recording: bool = field(init=False)
    _context: Context = field(init=False)
    _headers: Mapping[str, str] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.recording = self._span.is_recording()
        self._context = set_span_in_context(self._span, self._parent)

    @property
    def headers(self) -> Mapping[str, str]:
        """Trace context of the batch, for requests to backends whose attempt has no span; made once."""
        if self._headers is None:
            self._headers = headers_of(self._context)
        return self._headers

    def start_prompt(
        self, custom_id: str, index: int, model: str, submitted_ns: int, prompt_class: PromptClass
    ) -> PromptTrace | None:
        """The trace of one prompt, or None when the batch is not recorded."""
        if not self.recording:
            return None
        trace = PromptTrace(
            self._tracer, self._context, self._wall_offset_ns, custom_id, index, model, submitted_ns, prompt_class
        )
        trace.shows_content = self._content
        return trace

    def stage(self, name: str, since_ns: int, until_ns: int) -> None:
        """Record one stage of the whole batch, after it: taking it in, or handing the last results over."""
        if self.recording:
            span = self._tracer.start_span(name, self._context, start_time=since_ns + self._wall_offset_ns)
            span.end(until_ns + self._wall_offset_ns)

    def end(self, state: str, counts: Mapping[str, int], cancelled: bool) -> None:
        """End the batch: its summary's state (`COMPLETED`, `FAILED_FAST`, ...) and prompts by outcome."""
        if not self.recording:
            return
        attributes: dict[str, AttributeValue] = {names.BATCH_STATE: state, names.CANCELLED: cancelled}
        for outcome, count in counts.items():
            attributes[names.BATCH_COUNT_PREFIX + outcome] = count
        error = None if cancelled else _BATCH_ERRORS.get(state)
        if error is not None:
            attributes[names.ERROR_TYPE] = error.value
            self._span.set_status(Status(StatusCode.ERROR, error.value))
        self._span.set_attributes(attributes)
        self._span.end()


@dataclass(slots=True, eq=False)
class PromptTrace:
    """The span of one prompt, from submit to its end. Made when first needed: a waiting prompt holds no span."""

    _tracer: trace.Tracer
    _context: Context
    _wall_offset_ns: int
    _custom_id: str
    _index: int
    _model: str
    _submitted_ns: int
    _class: PromptClass
    shows_content: bool = field(default=False, init=False)
    _span: trace.Span | None = field(default=None, init=False)

    def _start(self) -> trace.Span:
        span = self._tracer.start_span(
            names.SPAN_PROMPT,
            self._context,
            attributes={
                names.CUSTOM_ID: self._custom_id,
                names.INDEX: self._index,
                names.MODEL: self._model,
                names.CLASS: self._class.name.lower(),
            },
            start_time=self._submitted_ns + self._wall_offset_ns,
        )
        self._span = span
        self._context = set_span_in_context(span, self._context)
        return span

    def queued(self, since_ns: int, until_ns: int) -> None:
        """Record one stay in the queue, after it: before the first release, or between two attempts."""
        if self._span is None:
            self._start()
        self._tracer.start_span(names.SPAN_QUEUE, self._context, start_time=since_ns + self._wall_offset_ns).end(
            until_ns + self._wall_offset_ns
        )

    def start_attempt(  # noqa: PLR0917 - seven plain facts, in the order they become known
        self,
        number: int,
        backend_id: str,
        kind: str,
        url: str,
        model: str,
        sampling: Sampling,
        start_ns: int,
        *,
        raw: bool = False,
    ) -> AttemptTrace:
        """Start the span of attempt `number` (from 1).

        `model` is the backend's own name for it; `raw`: an untemplated completion, not a chat.
        """
        if self._span is None:
            self._start()
        operation = "text_completion" if raw else "chat"
        attributes: dict[str, AttributeValue] = {
            names.GEN_AI_OPERATION: operation,
            names.GEN_AI_PROVIDER: kind,
            names.GEN_AI_REQUEST_MODEL: model,
            names.BACKEND: backend_id,
            names.BACKEND_KIND: kind,
            names.ATTEMPT: number,
            names.CUSTOM_ID: self._custom_id,
        }
        for parameter, name in _SAMPLING:
            value = getattr(sampling, parameter)
            if value is not None:
                attributes[name] = value
        if url:
            address, port = _server(url)
            attributes[names.SERVER_ADDRESS] = address
            attributes[names.SERVER_PORT] = port
        span = self._tracer.start_span(
            f"{operation} {model}",
            self._context,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=start_ns + self._wall_offset_ns,
        )
        return AttemptTrace(span, self._context, self._wall_offset_ns, start_ns)

    def end(self, result: Result, end_ns: int, prompt: Prompt | None = None) -> None:
        """End the prompt with its result; `prompt` is what it shows of itself where that is switched on."""
        span = self._span or self._start()
        timings = result.timings
        attributes: dict[str, AttributeValue] = {
            names.OUTCOME: str(result.outcome),
            names.ATTEMPTS: result.attempts,
            names.QUEUE_WAIT_S: timings.queue_wait_ns / _NS_PER_S,
            names.SIMULATED: result.simulated,
        }
        if self.shows_content and prompt is not None:
            attributes[names.GEN_AI_INPUT_MESSAGES] = input_messages(prompt)
            if result.answered:
                attributes[names.GEN_AI_OUTPUT_MESSAGES] = output_messages(result)
        if result.backend:
            attributes[names.BACKEND] = result.backend
        if timings.ttft_ns is not None:
            attributes[names.TTFT_S] = timings.ttft_ns / _NS_PER_S
        _end(span, attributes, result.outcome, result.error, end_ns + self._wall_offset_ns)


@dataclass(slots=True, eq=False)
class AttemptTrace:
    """The span of one attempt at one backend, by the GenAI semantic conventions."""

    _span: trace.Span
    _parent: Context
    _wall_offset_ns: int
    _start_ns: int
    _first_token_ns: int | None = field(default=None, init=False)
    _headers: Mapping[str, str] | None = field(default=None, init=False)

    @property
    def headers(self) -> Mapping[str, str]:
        """Trace context of the attempt, for the request to the backend; made once."""
        if self._headers is None:
            self._headers = headers_of(set_span_in_context(self._span, self._parent))
        return self._headers

    def first_token(self, at_ns: int) -> None:
        """The first token has come; only the first call counts."""
        if self._first_token_ns is None:
            self._first_token_ns = at_ns

    def end(
        self,
        end_ns: int,
        *,
        outcome: str,
        usage: Usage | None,
        finish_reason: str,
        error: PromptError | BackendError | None,
        simulated: bool,
    ) -> None:
        """End the attempt. `outcome` is the core's word: success, failed, retry, cancelled or expired."""
        attributes: dict[str, AttributeValue] = {names.OUTCOME: str(outcome), names.SIMULATED: simulated}
        if self._first_token_ns is not None:
            attributes[names.GEN_AI_TIME_TO_FIRST_CHUNK] = (self._first_token_ns - self._start_ns) / _NS_PER_S
            self._span.add_event(names.EVENT_FIRST_TOKEN, timestamp=self._first_token_ns + self._wall_offset_ns)
        if finish_reason:
            attributes[names.GEN_AI_FINISH_REASONS] = (_word(finish_reason),)
        if usage is not None:
            attributes[names.GEN_AI_INPUT_TOKENS] = usage.input_tokens
            attributes[names.GEN_AI_OUTPUT_TOKENS] = usage.output_tokens
            if usage.cached_input_tokens:
                attributes[names.GEN_AI_CACHE_READ_TOKENS] = usage.cached_input_tokens
            if usage.input_estimated or usage.output_estimated:
                attributes[names.USAGE_ESTIMATED] = True
        _end(self._span, attributes, outcome, error, end_ns + self._wall_offset_ns)


def _end(
    span: trace.Span,
    attributes: dict[str, AttributeValue],
    outcome: str,
    error: PromptError | BackendError | None,
    wall_ns: int,
) -> None:
    """Set what a span of a prompt or attempt ended in and end it; cancelled by the caller is not an error."""
    if error is not None:
        attributes[names.ERROR_TYPE] = error.reason.value
        if error.http_status:
            attributes[names.HTTP_STATUS_CODE] = error.http_status
        if error.provider_code:
            attributes[names.PROVIDER_CODE] = _word(error.provider_code)
        if error.provider_request_id:
            attributes[names.PROVIDER_REQUEST_ID] = _word(error.provider_request_id)
        if isinstance(error, PromptError) and error.deadline:
            attributes[names.DEADLINE] = error.deadline
    span.set_attributes(attributes)
    if outcome not in _NOT_AN_ERROR:
        span.set_status(Status(StatusCode.ERROR, error.reason.value if error is not None else outcome))
    span.end(wall_ns)


def _word(text: str) -> str:
    """A backend's own name for something: one word. Anything longer may quote a prompt, and is left out."""
    return text if _WORD.fullmatch(text) else "(no word)"


@lru_cache(maxsize=256)
def _server(url: str) -> tuple[str, int]:
    """Host and port of a backend's base URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
