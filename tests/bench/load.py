"""The work that both sides do: the same prompts, in the same order, from one seed."""

from __future__ import annotations

import random
from typing import Any

__all__ = ["MAX_TOKENS", "MODEL", "TEMPERATURE", "body", "texts"]

MODEL = "m"
MAX_TOKENS = 64
TEMPERATURE = 0.0
_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "wizards", "brew")


def texts(count: int, seed: int, *, median_bytes: int = 400, sigma: float = 0.8, limit_bytes: int = 8_000) -> list[str]:
    """Prompts of lognormal length."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        size = min(limit_bytes, max(24, int(median_bytes * draw.lognormvariate(0.0, sigma))))
        line = f"{number}: " + " ".join(draw.choices(_WORDS, k=40))
        made.append((line * (size // len(line) + 1))[:size])
    return made


def body(text: str, *, stream: bool) -> dict[str, Any]:
    """What the service sends for such a prompt."""
    built: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": MAX_TOKENS,
        "temperature": TEMPERATURE,
    }
    if stream:
        built["stream"] = True
        built["stream_options"] = {"include_usage": True}
    return built
