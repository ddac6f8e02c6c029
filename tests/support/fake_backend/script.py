"""What the fake does with one request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

__all__ = ["CUT_BEFORE_HEADERS", "Script"]

CUT_BEFORE_HEADERS = -1
"""For `cut_after`: the connection goes before the first byte of the answer."""


@dataclass(frozen=True, slots=True)
class Script:
    """How to answer. Left alone, it is an echo with usage, streamed when the request asks for a stream.

    A streamed answer in the OpenAI dialect is these pieces: 0 the role-only chunk, 1..n the text, then the finish
    reason, the usage, `[DONE]`. In Ollama's: 0..n-1 the text, then the closing object.
    """

    text: str | None = None
    """The answer's text. None: the echo of the prompt."""
    reasoning: str = ""
    """Reasoning before the text."""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    """Tool calls of the answer, as (id, name, arguments text) mappings."""
    pieces: int = 3
    """Into how many pieces the text is cut."""
    finish_reason: str | None = "stop"
    """None: the stream ends without one."""
    usage: bool = True
    """Whether token counts are reported."""
    cached_tokens: int = 0
    """How many of the prompt's tokens an OpenAI answer's usage says were cached, at most all of them."""
    done: bool = True
    """Whether an OpenAI stream ends with `[DONE]`."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    """More headers; a Content-Type here replaces the usual one."""
    body: bytes | None = None
    """This very body, whatever was asked for."""
    wire: Sequence[bytes] | None = None
    """These very pieces of a streamed body, each a chunk of its own."""

    before_headers: asyncio.Event | None = None
    """Waited for before the first byte of the answer."""
    gates: Mapping[int, asyncio.Event] = field(default_factory=dict)
    """Each waited for before that piece of a streamed body is sent; the number of pieces: before the end."""
    endless: bool = False
    """The last piece of `wire` again and again, until the client leaves."""
    cut_after: int | None = None
    """The connection is cut after that many pieces of a streamed body; 0: after the headers."""
    close_after: bool = False
    """The connection is closed after the answer without a word in the headers: it goes stale in the client's pool."""
    half_open: bool = False
    """Nothing is sent or read any more, as by a machine that has lost its power: also that the client leaves goes
    unseen. Lasts until the fake closes."""
    hold_open: bool = False
    """A streamed body never gets its end, although all its pieces were sent."""
