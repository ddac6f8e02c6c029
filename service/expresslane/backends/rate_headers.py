"""What a provider says of its own limits: x-ratelimit-remaining-* and x-ratelimit-reset-*, as OpenAI sends them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["exhausted_s"]

RESET_MAX_S = 3_600.0
"""A provider that asks for longer is not believed before it refuses: some count days, and answer all the same."""
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


def exhausted_s(headers: Mapping[str, str]) -> float | None:
    """For how long a request would be refused, where the provider says that it has none left; else None.

    The headers' names are matched without case. Seconds, or durations such as `6m0s`, `1.5s` or `20ms`; another form
    says nothing.
    """
    waits = [
        wait_s
        for kind in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{kind}", "").strip() == "0"
        and (wait_s := _seconds(headers.get(f"x-ratelimit-reset-{kind}", ""))) is not None
    ]
    return max(waits, default=None)


def _seconds(text: str) -> float | None:
    text = text.strip()
    if re.fullmatch(r"\d{1,6}(?:\.\d+)?", text):
        seconds = float(text)
    elif text and len(text) <= 32 and (match := _DURATION.fullmatch(text)):
        hours, minutes, whole, milli = (float(part or 0) for part in match.groups())
        seconds = hours * 3_600 + minutes * 60 + whole + milli / 1e3
    else:
        return None
    return seconds if 0 < seconds <= RESET_MAX_S else None
