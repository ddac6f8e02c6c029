"""Sizes of prompts in characters and in UTF-8 bytes, and tokens from bytes by a ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expresslane.prompts import Chat

__all__ = ["MAX_TOKENS", "characters", "estimate", "text_bytes", "utf8_bytes"]

MAX_TOKENS = 2**31 - 1
MESSAGE_OVERHEAD_BYTES = 16


def text_bytes(text: str) -> int:
    """Size of a text in UTF-8 bytes."""
    return len(text) if text.isascii() else len(text.encode())


def characters(content: str | Chat) -> int:
    """Length of a prompt's content in Unicode characters: of a chat all messages, parts in JSON as they are written."""
    if isinstance(content, str):
        return len(content)
    return sum(len(part) for message in content.messages for _, part in message.parts)


def utf8_bytes(content: str | Chat) -> int:
    """Size of a prompt's content in UTF-8 bytes, with a little for each message's template."""
    if isinstance(content, str):
        return text_bytes(content)
    size = 0
    for message in content.messages:
        size += MESSAGE_OVERHEAD_BYTES + sum(text_bytes(text) for _, text in message.parts)
        if message.name or message.tool_call_id:
            size += text_bytes(message.name) + text_bytes(message.tool_call_id)
        for call in message.tool_calls:
            size += text_bytes(call.id) + text_bytes(call.name) + text_bytes(call.arguments)
    return size


def estimate(size_bytes: int, bytes_per_token: float) -> int:
    """Estimated input tokens of a content of `size_bytes`, at least 1."""
    return min(MAX_TOKENS, max(1, round(size_bytes / bytes_per_token)))
