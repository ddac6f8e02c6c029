"""What providers say of their limits in headers, in every form that is known, and in forms that mean nothing (A26)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from expresslane.backends.rate_headers import RESET_MAX_S, Left, Told, exhausted_s, told
from multidict import CIMultiDict

MADE = {"Date": "Thu, 21 Aug 2025 12:41:00 GMT"}


def requests(remaining: str = "3", reset: str = "9s", limit: str = "") -> CIMultiDict[str]:
    """Headers in OpenAI's form."""
    names = {"Remaining": remaining, "Reset": reset, "Limit": limit}
    return CIMultiDict({f"X-RateLimit-{name}-Requests": text for name, text in names.items() if text})


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        *[("1s", 1), ("6m0s", 360), ("20ms", 0.02), ("1m30.5s", 90.5), ("1h0m0s", 3_600), ("7.66s", 7.66)],
        *[("12", 12), ("0.5", 0.5), ("250us", 250e-6), ("0s", 0), ("0", 0)],
        *[("2025-08-21T12:41:34Z", 34), ("2025-08-21T14:41:34.5+02:00", 34.5), ("2025-08-21T12:41:34", 34)],
        *[("1755780094", 34), ("1755780094500", 34.5), ("2025-08-21T12:40:59Z", 0)],
        *[
            ("2h", RESET_MAX_S),
            ("8760h", RESET_MAX_S),
            ("999999999", RESET_MAX_S),
            ("9999-12-31T23:59:59Z", RESET_MAX_S),
        ],
        *[("9" * 15 + "h", RESET_MAX_S), ("9999999999", RESET_MAX_S)],
    ],
)
def test_forms_of_a_reset(reset: str, seconds: float) -> None:
    """Durations, seconds, dates by the provider's own clock, times since 1970; from none to an hour."""
    left = told(CIMultiDict({**requests(reset=reset), **MADE}))
    assert left is not None
    assert left.requests is not None
    assert left.requests.reset_s == pytest.approx(seconds)


@pytest.mark.parametrize(
    "reset",
    ["", "soon", "-1s", "1e3", "s", "9" * 400, "nan", "inf", "1 s", "0x1", "1_0", "\u0663", "2025-08-32", "\udc80"],
)
def test_a_time_that_says_nothing(reset: str) -> None:
    """No time, or one in no known form: as if nothing was said of this limit."""
    assert told(CIMultiDict({**requests(reset=reset), **MADE})) is None


@pytest.mark.parametrize("remaining", ["", "-1", "many", "1.5", "9" * 16, "\u0663", "0x1"])
def test_an_amount_that_says_nothing(remaining: str) -> None:
    """No number of requests, none that can be: as if nothing was said."""
    assert told(requests(remaining=remaining)) is None


OPENAI = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-tokens": "6m0s",
}
ANTHROPIC = {
    **MADE,
    "anthropic-ratelimit-requests-limit": "1000",
    "anthropic-ratelimit-requests-remaining": "999",
    "anthropic-ratelimit-requests-reset": "2025-08-21T12:41:02Z",
    "anthropic-ratelimit-tokens-limit": "96000",
    "anthropic-ratelimit-tokens-remaining": "4000",
    "anthropic-ratelimit-tokens-reset": "2025-08-21T12:41:58Z",
    "anthropic-ratelimit-input-tokens-remaining": "80000",
    "anthropic-ratelimit-input-tokens-reset": "2025-08-21T12:41:00Z",
}
FIELD = {"RateLimit": '"default";r=50;t=30'}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (OPENAI, Told(Left(59, 60, 1), Left(149_984, 150_000, 360))),
        (ANTHROPIC, Told(Left(999, 1_000, 2), Left(4_000, 96_000, 58))),
        (
            {"x-ratelimit-limit": "10, 10;w=1", "x-ratelimit-remaining": "9", "x-ratelimit-reset": "1"},
            Told(Left(9, 10, 1)),
        ),
        ({"ratelimit-limit": "100", "ratelimit-remaining": "50", "ratelimit-reset": "7"}, Told(Left(50, 100, 7))),
        (FIELD, Told(Left(50, 0, 30))),
        ({**FIELD, "RateLimit-Policy": '"default";q=100;w=60'}, Told(Left(50, 100, 30))),
        ({**FIELD, "RateLimit-Policy": '"default";q=9000;qu="tokens"'}, Told(None, Left(50, 9_000, 30))),
        ({**FIELD, "RateLimit-Policy": '"other";q=100'}, Told(Left(50, 0, 30))),
        ({**FIELD, "RateLimit-Policy": '"default";q=9;qu="content-bytes"'}, None),
        ({"RateLimit": "api;r=3;t=99999999, day;r=1;t=5"}, Told(Left(3, 0, RESET_MAX_S))),
        ({"RateLimit": '"default";r=x;t=30'}, None),
        ({"RateLimit": "limit=100, remaining=50, reset=5"}, None),
        ({**OPENAI, "x-ratelimit-remaining-tokens": "?"}, Told(Left(59, 60, 1))),
        ({"x-ratelimit-limit-requests": "60", "x-ratelimit-reset-requests": "1s"}, None),
        ({}, None),
    ],
)
def test_dialects(headers: dict[str, str], expected: Told | None) -> None:
    """What is left of both limits, as each kind of provider says it."""
    assert told(CIMultiDict(headers)) == expected


def test_a_date_without_the_answers_own() -> None:
    """Where the answer has no Date, this machine's clock counts."""
    reset = (datetime.now(UTC) + timedelta(seconds=100)).isoformat()
    left = told(requests(reset=reset))
    assert left is not None
    assert left.requests is not None
    assert 90 < left.requests.reset_s <= 100


def test_a_limit_that_is_used_up() -> None:
    """Nothing left and a time to wait: that time; of two that are used up the longer counts."""
    assert exhausted_s({}) is None
    assert exhausted_s(requests("1", "9s")) is None
    assert exhausted_s(requests("0", "0s")) is None
    assert exhausted_s(requests("0", "2s")) == 2
    both = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "5s"}
    assert exhausted_s(CIMultiDict({**requests("0", "2s"), **both})) == 5
