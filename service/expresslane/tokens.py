"""Token estimates: from UTF-8 bytes, by the ratio that the backend's settings give."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expresslane.prompts import Chat

__all__ = ["estimate", "utf8_bytes"]

MAX_TOKENS = 2**31 - 1
MESSAGE_OVERHEAD_BYTES = 16


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def utf8_bytes(content: str | Chat) -> int:
    """Size of a prompt's content in UTF-8 bytes, with a little for each message's template."""
    if isinstance(content, str):
        return _bytes(content)
    size = 0
    for message in content.messages:
        size += MESSAGE_OVERHEAD_BYTES + sum(_bytes(text) for _, text in message.parts)
        size += sum(_bytes(call.arguments) + _bytes(call.name) for call in message.tool_calls)
    return size


def estimate(size_bytes: int, bytes_per_token: float) -> int:
    """Estimated input tokens of a content of `size_bytes`, at least 1."""
    return min(MAX_TOKENS, max(1, round(size_bytes / bytes_per_token)))
