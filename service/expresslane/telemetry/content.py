"""Prompts and answers as span attributes, for whoever switches that on; in the form of the GenAI conventions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

    from expresslane.prompts import Prompt
    from expresslane.results import Result

__all__ = ["LIMIT_CHARS", "input_messages", "output_messages"]

LIMIT_CHARS = 4_096
"""Of all texts of a prompt together, and of all of an answer: thousands of spans may wait for a slow collector."""


def input_messages(prompt: Prompt) -> str:
    """What is asked: a JSON list of {role, parts}. Parts that are no text, such as images, are not shown."""
    room = _Room()
    if isinstance(prompt.content, str):
        return _json([{"role": "user", "parts": [room.text(prompt.content)]}])
    return _json(
        {
            "role": message.role,
            "parts": [_OTHER if is_json else room.text(part) for is_json, part in message.parts],
        }
        for message in prompt.content.messages
    )


def output_messages(result: Result) -> str:
    """What was answered: a JSON list of one {role, parts, finish_reason}."""
    room = _Room()
    parts = [room.text(result.reasoning, "reasoning")] if result.reasoning else []
    parts.append(room.text(result.text))
    parts += [
        {"type": "tool_call", "id": call.id, "name": call.name, "arguments": room.cut(call.arguments)}
        for call in result.tool_calls
    ]
    return _json([{"role": "assistant", "parts": parts, "finish_reason": result.finish_reason.value}])


_OTHER = {"type": "other"}


class _Room:
    """What is left of the limit."""

    def __init__(self) -> None:
        self._left = LIMIT_CHARS

    def cut(self, text: str) -> str:
        kept = text[: self._left]
        self._left -= len(kept)
        return kept if len(kept) == len(text) else f"{kept}... ({len(text) - len(kept):,} characters more)"

    def text(self, text: str, kind: str = "text") -> dict[str, str]:
        return {"type": kind, "content": self.cut(text)}


def _json(messages: Iterable[dict[str, object]]) -> str:
    return orjson.dumps(list(messages)).decode()
