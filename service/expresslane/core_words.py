"""What the core says, in the service's words: its errors; and usage as it takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expresslane import _scheduler
from expresslane.errors import FieldViolation, Reason, RefusedError
from expresslane.tokens import MAX_TOKENS

if TYPE_CHECKING:
    from expresslane.results import Result

__all__ = ["refused", "used"]

_SETTINGS = {"queue_limit": "EXPRESSLANE_QUEUE_LIMIT_PROMPTS", "queue_limit_ns": "EXPRESSLANE_QUEUE_LIMIT_S"}
"""Bounds of the core: what sets them."""


def refused(error: _scheduler.SchedulerError) -> Exception:
    """The refusal that an error of the core means to a caller; the error itself where it means a defect."""
    match error:
        case _scheduler.BatchTooLargeError():
            message, bound = error.args
            return RefusedError(
                Reason.BATCH_TOO_LARGE, f"{message} ({_SETTINGS[bound]}); send it through StreamPrompts"
            )
        case _scheduler.QueueFullError():
            message, retry_after_ns, bound = error.args
            return RefusedError(Reason.QUEUE_FULL, f"{message} ({_SETTINGS[bound]})", retry_after_ns=retry_after_ns)
        case _scheduler.AboveLimitError():
            return RefusedError(Reason.ABOVE_RATE_LIMIT, f"{error.args[0]}; shorten it, or lower its max_tokens")
        case _scheduler.InvalidConfigError():
            field, _, _ = error.args[0].partition(" = ")
            violation = FieldViolation(field, error.args[0])
            return RefusedError(Reason.INVALID_FIELD, error.args[0], violations=[violation])
    return error


def used(result: Result) -> tuple[int, int, int] | None:
    """(uncached input, cached input, output) tokens as the backend reported them, None where it did not."""
    usage = result.usage
    if usage is None or usage.input_estimated or usage.output_estimated:
        return None
    cached = max(0, min(usage.cached_input_tokens, usage.input_tokens))
    return _taken(usage.input_tokens - cached), _taken(cached), _taken(usage.output_tokens)


def _taken(tokens: int) -> int:
    """A count that the core takes."""
    return min(max(0, tokens), MAX_TOKENS)
