"""What a provider says in an answer's headers of its own limits: how much is left, of how much, and until when.

Known are `x-ratelimit-*` (OpenAI, Groq, OpenRouter and most gateways), `anthropic-ratelimit-*`, and the IETF's
`RateLimit` (draft-ietf-httpapi-ratelimit-headers), the one field of its later and the three of its earlier drafts.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from expresslane.backends.http_dates import in_zone, seconds_until

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RESET_MAX_S", "Left", "Told", "exhausted_s", "told"]

RESET_MAX_S = 3_600.0
"""A longer time is cut to this one: some count days, and let requests in one by one long before."""

_REQUESTS = (
    ("x-ratelimit-", "-requests"),
    ("anthropic-ratelimit-requests-", ""),
    ("x-ratelimit-", ""),
    ("ratelimit-", ""),
)
_TOKENS = (
    ("x-ratelimit-", "-tokens"),
    ("anthropic-ratelimit-tokens-", ""),
    ("anthropic-ratelimit-input-tokens-", ""),
)
"""What comes before and after `remaining`, `limit` and `reset`; the first that says something counts."""

_LONGEST = 64
_AMOUNT = re.compile(r"[0-9]{1,15}")
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_EPOCH = re.compile(r"([0-9]{10})([0-9]{3})?")
_PART = r"([0-9]{1,15}(?:\.[0-9]{1,15})?)"
_DURATION = re.compile(rf"(?:{_PART}h)?(?:{_PART}m(?!s))?(?:{_PART}s)?(?:{_PART}ms)?(?:{_PART}[uµμ]s)?")
_UNITS_S = (3_600.0, 60.0, 1.0, 1e-3, 1e-6)
_FIELD = re.compile(r'^\s*"?([^";,]*)"?((?:\s*;\s*[a-z]+=(?:[0-9]{1,15}|"[^"]*"))*)\s*(?:,|$)')
_PARAMETER = re.compile(r'([a-z]+)=(?:([0-9]{1,15})|"([^"]*)")')


class Left(NamedTuple):
    """What is left of one limit: so much of `limit` (0: it does not say), and all of it again in `reset_s` seconds.

    As of the moment at which the provider counted the request that was answered.
    """

    amount: int
    limit: int
    reset_s: float


class Told(NamedTuple):
    """What an answer says is left: of requests, of tokens, or of both."""

    requests: Left | None = None
    tokens: Left | None = None


def told(headers: Mapping[str, str]) -> Told | None:
    """What these headers say, None for nothing. Their names are matched without case.

    A reset is in seconds, a duration such as `6m0s`, `1.5s` or `20ms`, a date of RFC 3339 or seconds or milliseconds
    since 1970; a date counts from the answer's own Date, so that clocks may differ. What is in no known form, or has no
    reset, says nothing.
    """
    # Most servers say nothing, and every answer is looked at: to ask for each name in turn takes five times as long.
    if "ratelimit" not in " ".join(headers).lower():
        return None
    requests = _first(headers, _REQUESTS) or _field(headers, "requests")
    tokens = _first(headers, _TOKENS) or _field(headers, "tokens")
    return Told(requests, tokens) if requests or tokens else None


def exhausted_s(headers: Mapping[str, str]) -> float | None:
    """For how long a request would be refused, where the provider says that nothing is left; else None."""
    waits = [left.reset_s for left in told(headers) or () if left and left.amount == 0 and left.reset_s > 0]
    return max(waits, default=None)


def _first(headers: Mapping[str, str], names: tuple[tuple[str, str], ...]) -> Left | None:
    for before, after in names:
        amount = _AMOUNT.fullmatch(headers.get(f"{before}remaining{after}", "").strip())
        if amount is None:
            continue
        reset_s = _reset_s(headers.get(f"{before}reset{after}", ""), headers)
        if reset_s is not None:
            # Envoy's `10, 10;w=1` begins with the limit, too.
            limit = _AMOUNT.match(headers.get(f"{before}limit{after}", "").strip())
            return Left(int(amount[0]), int(limit[0]) if limit else 0, reset_s)
    return None


def _field(headers: Mapping[str, str], unit: str) -> Left | None:
    """The first limit of the field `RateLimit`: `"name";r=50;t=30`, whose whole `RateLimit-Policy` has as `q`."""
    name, found = _parameters(headers.get("ratelimit", ""))
    if not _AMOUNT.fullmatch(found.get("r", "")) or not _AMOUNT.fullmatch(found.get("t", "")):
        return None
    policy_name, policy = _parameters(headers.get("ratelimit-policy", ""))
    if policy_name != name:
        policy = {}
    if policy.get("qu", "requests") != unit:
        return None
    limit = policy.get("q", "")
    return Left(int(found["r"]), int(limit) if _AMOUNT.fullmatch(limit) else 0, min(float(found["t"]), RESET_MAX_S))


def _parameters(text: str) -> tuple[str, dict[str, str]]:
    match = _FIELD.match(text[:1_024])
    if match is None:
        return "", {}
    return match[1].strip(), {key: number or word for key, number, word in _PARAMETER.findall(match[2])}


def _reset_s(text: str, headers: Mapping[str, str]) -> float | None:
    text = text.strip()
    if not text or len(text) > _LONGEST:
        return None
    if (epoch := _EPOCH.fullmatch(text)) is not None:
        at_s = int(epoch[1]) + int(epoch[2] or 0) / 1e3
        seconds = seconds_until(datetime.fromtimestamp(at_s, UTC), headers)
    elif _SECONDS.fullmatch(text):
        seconds = float(text)
    elif (match := _DURATION.fullmatch(text)) is not None:
        seconds = sum(float(part or 0) * unit_s for part, unit_s in zip(match.groups(), _UNITS_S, strict=True))
    else:
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            return None
        seconds = seconds_until(in_zone(when), headers)
    return min(max(0.0, seconds), RESET_MAX_S)
