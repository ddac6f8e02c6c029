"""A result as one line of JSON."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from expresslane.cli.console import json_text

if TYPE_CHECKING:
    from expresslane_client import PromptError, Result

__all__ = ["result_line"]


def result_line(result: Result) -> str:
    """The line, without a line end. Times in milliseconds; `queue_ms` is part of `ttft_ms` and `total_ms`."""
    choice = result.choice
    fields: dict[str, object] = {
        "custom_id": result.custom_id,
        "outcome": str(result.outcome),
        "text": choice.text,
        "reasoning": choice.reasoning,
        "tool_calls": [dataclasses.asdict(call) for call in choice.tool_calls],
        "finish_reason": str(choice.finish_reason) if result.choices else None,
        "usage": dataclasses.asdict(result.usage) if result.usage else None,
        "error": _error(result.error) if result.error else None,
        "queue_ms": _rounded(result.queue_ms),
        "ttft_ms": _rounded(result.ttft_ms),
        "total_ms": _rounded(result.total_ms),
        "attempts": result.attempts,
        "turned_away": result.turned_away,
        "backend": result.backend,
        "model": result.model,
        "simulated": result.simulated,
    }
    if result.history:
        fields["history"] = [dataclasses.asdict(attempt) for attempt in result.history]
    if choice.logprobs_json:
        fields["logprobs_json"] = choice.logprobs_json
    return json_text(fields)


def _error(error: PromptError) -> dict[str, object]:
    """Code, reason, message and retryable always, the rest where there is something to say."""
    fields = dataclasses.asdict(error)
    always = ("code", "reason", "message", "retryable")
    return {name: value for name, value in fields.items() if name in always or value}


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)
