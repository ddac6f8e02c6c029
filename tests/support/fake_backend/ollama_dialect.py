"""The fake's answers in Ollama's own dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from tests.support.fake_backend.echo import cut, echo_of, prompt_of, tokens_of

if TYPE_CHECKING:
    from tests.support.fake_backend.script import Script

__all__ = ["stream", "whole"]


def whole(body: dict[str, Any], script: Script) -> bytes:
    """A whole answer, of chat or of generate."""
    text = echo_of(prompt_of(body)) if script.text is None else script.text
    calls = [{"function": {"name": call["name"], "arguments": call["arguments"]}} for call in script.tool_calls]
    return orjson.dumps({**_piece(body, text, script.reasoning, calls), **_closing(body, text, script)})


def stream(body: dict[str, Any], script: Script) -> list[bytes]:
    """The lines of a streamed answer."""
    text = echo_of(prompt_of(body)) if script.text is None else script.text
    calls = [{"function": {"name": call["name"], "arguments": call["arguments"]}} for call in script.tool_calls]
    values = [_piece(body, "", script.reasoning, [])] if script.reasoning else []
    values += [_piece(body, piece, "", []) for piece in cut(text, script.pieces)]
    if calls:
        values.append(_piece(body, "", "", calls))
    if script.finish_reason is not None:
        values.append({**_piece(body, "", "", []), **_closing(body, text, script)})
    return [orjson.dumps(value) + b"\n" for value in values]


def _piece(body: dict[str, Any], text: str, thinking: str, calls: list[Any]) -> dict[str, Any]:
    envelope = {"model": body.get("model", ""), "created_at": "2026-01-01T00:00:00Z", "done": False}
    if "messages" not in body:
        return {**envelope, "response": text, **({"thinking": thinking} if thinking else {})}
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = calls
    return {**envelope, "message": message}


def _closing(body: dict[str, Any], text: str, script: Script) -> dict[str, Any]:
    closing: dict[str, Any] = {"done": True, "done_reason": script.finish_reason, "total_duration": 5_000_000}
    if script.usage:
        closing |= {
            "prompt_eval_count": tokens_of(prompt_of(body)),
            "prompt_eval_duration": 1_000_000,
            "eval_count": tokens_of(text),
            "eval_duration": 2_000_000,
        }
    return closing
