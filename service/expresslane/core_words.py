"""What the core says, in the service's words: its errors; and prompts and usage as it takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from expresslane import _scheduler
from expresslane.errors import FieldViolation, Reason, RefusedError
from expresslane.tokens import MAX_TOKENS

if TYPE_CHECKING:
    from expresslane.batches.ticket import Ticket
    from expresslane.models import ResolvedModel
    from expresslane.results import Result

__all__ = ["Entry", "prompt_of", "refused", "used"]

_SETTINGS = {"queue_limit": "EXPRESSLANE_QUEUE_LIMIT_PROMPTS", "queue_limit_ns": "EXPRESSLANE_QUEUE_LIMIT_S"}
"""Bounds of the core: what sets them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A ticket to submit with the model it goes to and the expected length of its answer."""

    ticket: Ticket
    model: ResolvedModel
    output_tokens: int = 0


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


def prompt_of(entry: Entry) -> tuple[int, int, int, int, int, int, bool, int]:
    """A prompt as `_scheduler.Scheduler.submit` takes it."""
    ticket = entry.ticket
    prompt = ticket.prompt
    deadlines = prompt.options.deadlines
    return (
        entry.model.number,
        int(prompt.prompt_class),
        ticket.tokens,
        deadlines.queue_ns,
        ticket.index,
        entry.output_tokens,
        prompt.sequential,
        deadlines.ttft_target_ns,
    )


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
