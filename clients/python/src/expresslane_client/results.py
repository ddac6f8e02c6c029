"""How one prompt ended, as frozen values: answer, token counts, times, error."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from expresslane_client.units import milliseconds
from expresslane_client.v1 import types_pb2

__all__ = ["AttemptError", "Choice", "FinishReason", "Outcome", "PromptError", "Result", "ToolCall", "Usage"]


class Outcome(StrEnum):
    """How a prompt ended. UNSPECIFIED: a newer service's word that this package does not know."""

    UNSPECIFIED = "unspecified"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @classmethod
    def from_proto(cls, value: types_pb2.Outcome.ValueType) -> Outcome:
        """From the contract's value."""
        return _OUTCOMES.get(value, cls.UNSPECIFIED)


class FinishReason(StrEnum):
    """Why a generation ended; the backend's own word is in `Choice.finish_reason_raw`."""

    UNSPECIFIED = "unspecified"
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    OTHER = "other"


STOPPING = "DRAINING"
"""The reason of a stopping service, for a call and for a prompt."""
_OUTCOMES = {types_pb2.Outcome.Value(f"OUTCOME_{one.name}"): one for one in Outcome}
_FINISH_REASONS = {types_pb2.FinishReason.Value(f"FINISH_REASON_{one.name}"): one for one in FinishReason}
_DEADLINES = {
    value: "" if value == 0 else name.removeprefix("DEADLINE_KIND_").lower()
    for name, value in types_pb2.DeadlineKind.items()
}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of the model. `arguments` is the text it wrote: usually, not certainly, a JSON object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts; the flags say which are the service's estimate because the backend reported none."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    input_estimated: bool = False
    output_estimated: bool = False

    @classmethod
    def from_proto(cls, message: types_pb2.Usage) -> Usage:
        """From the contract's message."""
        return cls(
            message.input_tokens,
            message.cached_input_tokens,
            message.output_tokens,
            message.input_estimated,
            message.output_estimated,
        )


@dataclass(frozen=True, slots=True)
class AttemptError:
    """What one earlier attempt ended in."""

    backend: str
    reason: str
    message: str
    http_status: int
    duration_ms: float

    @classmethod
    def from_proto(cls, message: types_pb2.AttemptError) -> AttemptError:
        """From the contract's message."""
        return cls(
            message.backend, message.reason, message.message, message.http_status, milliseconds(message.duration)
        )


@dataclass(frozen=True, slots=True)
class PromptError:
    """Why one prompt did not succeed. `deadline`: queue, first_token, idle, attempt, caller, no_backend, or empty.

    `retry_after_s`: how long to wait before sending it again (None: nobody knows, or that does not help).
    """

    code: int
    reason: str
    message: str
    retryable: bool = False
    deadline: str = ""
    http_status: int = 0
    provider_code: str = ""
    provider_body: str = ""
    provider_request_id: str = ""
    field: str = ""
    retry_after_s: float | None = None

    @classmethod
    def from_proto(cls, message: types_pb2.PromptError) -> PromptError:
        """From the contract's message."""
        return cls(
            code=message.code,
            reason=message.reason,
            message=message.message,
            retryable=message.retryable,
            deadline=_DEADLINES.get(message.deadline, "unknown"),
            http_status=message.http_status,
            provider_code=message.provider_code,
            provider_body=message.provider_body,
            provider_request_id=message.provider_request_id,
            field=message.field,
            retry_after_s=milliseconds(message.retry_delay) / 1e3 if message.HasField("retry_delay") else None,
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason = FinishReason.UNSPECIFIED
    finish_reason_raw: str = ""
    logprobs_json: str = ""
    index: int = 0

    @classmethod
    def from_proto(cls, message: types_pb2.Choice) -> Choice:
        """From the contract's message."""
        return cls(
            text=message.text,
            reasoning=message.reasoning,
            tool_calls=tuple(ToolCall(one.id, one.name, one.arguments) for one in message.tool_calls),
            finish_reason=_FINISH_REASONS.get(message.finish_reason, FinishReason.OTHER),
            finish_reason_raw=message.finish_reason_raw,
            logprobs_json=message.logprobs_json,
            index=message.index,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """One prompt's end. Times are milliseconds from acceptance; None: it did not happen.

    `queue_ms` is the wait for a release, `ttft_ms` and `total_ms` include it; `attempt_ttft_ms` and `attempt_ms` are
    the last attempt alone. `turned_away` counts the releases that a backend's rate limit sent back, which are no
    attempts. `history` is what the attempts before the last one ended in, oldest first, of a success too; and the last
    one where the prompt then ended in the queue.
    `simulated`: a simulated backend made this up, so never take it for a model's answer.
    """

    custom_id: str
    index: int
    outcome: Outcome
    choices: tuple[Choice, ...] = ()
    usage: Usage | None = None
    error: PromptError | None = None
    queue_ms: float = 0.0
    ttft_ms: float | None = None
    attempt_ttft_ms: float | None = None
    total_ms: float = 0.0
    attempt_ms: float | None = None
    attempts: int = 0
    backend: str = ""
    model: str = ""
    simulated: bool = False
    turned_away: int = 0
    history: tuple[AttemptError, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the backend answered in full."""
        return self.outcome is Outcome.SUCCEEDED

    @property
    def choice(self) -> Choice:
        """The answer; an empty one when there is none."""
        return self.choices[0] if self.choices else _NO_CHOICE

    @property
    def text(self) -> str:
        """The answer's text; after a failure, whatever had come."""
        return self.choice.text

    @property
    def cut_off(self) -> bool:
        """Whether a stopping service has ended it: the prompt may well be run by another one, or by the next."""
        return self.error is not None and self.error.reason == STOPPING

    @classmethod
    def from_proto(cls, message: types_pb2.Result) -> Result:
        """From the contract's message."""
        times = message.timings
        return cls(
            custom_id=message.custom_id,
            index=message.index,
            outcome=Outcome.from_proto(message.outcome),
            choices=tuple(Choice.from_proto(one) for one in message.choices),
            usage=Usage.from_proto(message.usage) if message.HasField("usage") else None,
            error=PromptError.from_proto(message.error) if message.HasField("error") else None,
            queue_ms=milliseconds(times.queue_wait),
            ttft_ms=milliseconds(times.ttft) if times.HasField("ttft") else None,
            attempt_ttft_ms=milliseconds(times.attempt_ttft) if times.HasField("attempt_ttft") else None,
            total_ms=milliseconds(times.total),
            attempt_ms=milliseconds(times.attempt) if times.HasField("attempt") else None,
            attempts=message.attempts,
            turned_away=message.turned_away,
            backend=message.backend,
            model=message.model,
            simulated=message.simulated,
            history=tuple(map(AttemptError.from_proto, message.history)),
        )


_NO_CHOICE = Choice()
