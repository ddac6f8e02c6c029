"""How one prompt ended, as plain values: answer, token counts, times, error.

Nothing changes a value once it is made. They are not declared frozen, because each prompt makes three of them with 33
fields in all, and a frozen class sets each field by a call of its own, which makes that two to three times as slow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from expresslane.errors import PromptError, Reason

if TYPE_CHECKING:
    from expresslane.errors import AttemptError
    from expresslane.prompts import ToolCall

__all__ = [
    "MAX_RESULT_BYTES",
    "RESULT_ROOM_BYTES",
    "FinishReason",
    "Outcome",
    "Result",
    "Timings",
    "Usage",
    "without_answer",
]

RESULT_ROOM_BYTES = 64 * 1024
"""What a result may need beside its answer: names, times, error, earlier attempts."""
MAX_RESULT_BYTES = 4 * 1024 * 1024 - RESULT_ROOM_BYTES
"""Largest result in its message: below the 4 MiB that a gRPC client takes unless it is told otherwise."""


class Outcome(StrEnum):
    """How a prompt ended; the values are the names that the core uses."""

    SUCCEEDED = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class FinishReason(StrEnum):
    """Why a generation ended."""

    UNSPECIFIED = "unspecified"
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    OTHER = "other"


@dataclass(slots=True)
class Usage:
    """Token counts; the flags say which are our estimate because the backend reported none."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    input_estimated: bool = False
    output_estimated: bool = False


@dataclass(slots=True)
class Timings:
    """Durations in nanoseconds from acceptance; None: the event did not happen."""

    queue_wait_ns: int = 0
    ttft_ns: int | None = None
    attempt_ttft_ns: int | None = None
    total_ns: int = 0
    attempt_ns: int | None = None
    tpot_ns: int | None = None


@dataclass(slots=True)
class Result:
    """One prompt's end. `answered` is false when no part of an answer came.

    `history`: what the attempts before the last one ended in, oldest first; the last one's too where it then
    ended while it waited.
    `prompt_bytes`: size of the prompt that no longer waits or runs. `answer_bytes`: size of the answer.
    """

    custom_id: str
    index: int
    outcome: Outcome
    timings: Timings
    answered: bool = False
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs_json: str = ""
    finish_reason: FinishReason = FinishReason.UNSPECIFIED
    finish_reason_raw: str = ""
    usage: Usage | None = None
    error: PromptError | None = None
    attempts: int = 0
    turned_away: int = 0
    history: tuple[AttemptError, ...] = ()
    backend: str = ""
    model: str = ""
    simulated: bool = False
    prompt_bytes: int = 0
    answer_bytes: int = 0


def without_answer(result: Result, why: str) -> Result:
    """The same end without the answer: a success becomes ANSWER_OVER_LIMIT, anything else keeps its own error."""
    succeeded = result.outcome is Outcome.SUCCEEDED
    return replace(
        result,
        outcome=Outcome.FAILED if succeeded else result.outcome,
        error=PromptError(Reason.ANSWER_OVER_LIMIT, why) if succeeded else result.error,
        answered=False,
        text="",
        reasoning="",
        tool_calls=(),
        logprobs_json="",
        answer_bytes=0,
    )
