"""The fake's answers in the OpenAI dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from tests.support.fake_backend.echo import cut, echo_of, prompt_of, tokens_of

if TYPE_CHECKING:
    from tests.support.fake_backend.script import Script

__all__ = ["event", "stream", "whole"]


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def whole(body: dict[str, Any], script: Script) -> bytes:
    """A whole answer, of chat or of completions."""
    text = _text(body, script)
    choice: dict[str, Any] = {"index": 0, "finish_reason": script.finish_reason}
    if "messages" in body:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if script.reasoning:
            message["reasoning_content"] = script.reasoning
        if script.tool_calls:
            message["tool_calls"] = [_call(call) for call in script.tool_calls]
        choice["message"] = message
    else:
        choice["text"] = text
    answer = {**_envelope(body, "chat.completion"), "choices": [choice]}
    if script.usage:
        answer["usage"] = _usage(body, text, script)
    return orjson.dumps(answer)


def stream(body: dict[str, Any], script: Script) -> list[bytes]:
    """The pieces of a streamed answer."""
    envelope = _envelope(body, "chat.completion.chunk")
    chat = "messages" in body
    text = _text(body, script)

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        inner = {"delta": delta} if chat else {"text": delta.get("content", "")}
        return event({**envelope, "choices": [{"index": 0, **inner, "finish_reason": finish_reason}]})

    pieces = [chunk({"role": "assistant", "content": ""})]
    if script.reasoning:
        pieces.append(chunk({"reasoning_content": script.reasoning}))
    pieces += [chunk({"content": piece}) for piece in cut(text, script.pieces)]
    for index, call in enumerate(script.tool_calls):
        head, tail = _call(call), call["arguments"]
        head["function"]["arguments"] = ""
        pieces.append(chunk({"tool_calls": [{"index": index, **head}]}))
        pieces += [
            chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}) for piece in cut(tail, 2)
        ]
    if script.finish_reason is not None:
        pieces.append(chunk({}, script.finish_reason))
    if script.usage and (body.get("stream_options") or {}).get("include_usage"):
        pieces.append(event({**envelope, "choices": [], "usage": _usage(body, text, script)}))
    if script.done:
        pieces.append(b"data: [DONE]\n\n")
    return pieces


def _text(body: dict[str, Any], script: Script) -> str:
    return echo_of(prompt_of(body)) if script.text is None else script.text


def _envelope(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "fake-1", "object": kind, "created": 1, "model": body.get("model", "")}


def _usage(body: dict[str, Any], text: str, script: Script) -> dict[str, Any]:
    sent, made = tokens_of(prompt_of(body)), tokens_of(text)
    return {
        "prompt_tokens": sent,
        "completion_tokens": made,
        "total_tokens": sent + made,
        "prompt_tokens_details": {"cached_tokens": min(script.cached_tokens, sent)},
    }


def _call(call: Any) -> dict[str, Any]:
    return {
        "id": call["id"],
        "type": "function",
        "function": {"name": call["name"], "arguments": call["arguments"]},
    }
