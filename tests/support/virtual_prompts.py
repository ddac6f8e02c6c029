"""Prompts of an exact size, and answers that take an exact virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from expresslane_client import Deadlines, Prompt

from tests.support.fake_backend import Script
from tests.support.fake_backend.echo import prompt_of

if TYPE_CHECKING:
    from tests.support.fake_backend import SeenRequest

__all__ = ["name_of", "now_s", "sized", "timed"]


def now_s() -> float:
    """The running loop's virtual time."""
    return asyncio.get_running_loop().time()


def sized(name: str, tokens: int, *, target_s: float | None = None, **options: Any) -> Prompt:
    """A prompt of exactly so many tokens, by the service's count and the fake's, whose first word is its name."""
    deadlines = None if target_s is None else Deadlines(ttft_target_s=target_s)
    return Prompt(name, f"{name} ".ljust(4 * tokens, "x"), deadlines=deadlines, **options)


def name_of(request: SeenRequest) -> str:
    """The first word of a prompt: which one it is."""
    return prompt_of(request.json).split(" ")[0]


def timed(first_s: float, rest_s: float = 0.0, *, output_tokens: int = 1, **script: Any) -> Script:
    """An answer whose first token comes after `first_s`, and the rest after another `rest_s`; begun when asked for."""
    loop, first, last = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    loop.call_later(first_s, first.set)
    loop.call_later(first_s + rest_s, last.set)
    if script.get("status", 200) != 200:
        return Script(before_headers=first, **script)
    return Script(text="y" * 4 * output_tokens, pieces=2, gates={1: first, 2: last}, **script)
