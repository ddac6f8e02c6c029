"""The default answer: derived from the prompt, so that a test sees whose answer it got."""

from __future__ import annotations

from typing import Any

__all__ = ["cut", "echo_of", "prompt_of", "tokens_of"]

_LONGEST = 200


def echo_of(prompt: str) -> str:
    """The answer to a prompt; a long one is shown by its beginning and its end."""
    if len(prompt) <= _LONGEST:
        return f"echo {prompt}"
    return f"echo {prompt[:100]}...{prompt[-100:]}"


def prompt_of(body: dict[str, Any]) -> str:
    """The prompt of a request's body: the last message's text, or the prompt itself."""
    if "messages" not in body:
        return str(body.get("prompt", ""))
    content = body["messages"][-1].get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def tokens_of(text: str) -> int:
    """Tokens as the fake counts them: four bytes each, rounded up."""
    return -(-len(text.encode()) // 4)


def cut(text: str, pieces: int) -> list[str]:
    """The text in that many pieces, fewer when it is shorter than that."""
    size = max(1, -(-len(text) // max(1, pieces)))
    return [text[at : at + size] for at in range(0, len(text), size)]
