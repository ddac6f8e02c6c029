"""What providers say of their limits in headers, in every form that is known, and in forms that mean nothing."""

from __future__ import annotations

import pytest
from expresslane.backends.rate_headers import exhausted_s
from multidict import CIMultiDict


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [("1s", 1), ("6m0s", 360), ("20ms", 0.02), ("1m30.5s", 90.5), ("1h0m0s", 3_600), ("7.66s", 7.66), ("12", 12)],
)
def test_a_limit_that_is_used_up(reset: str, seconds: float) -> None:
    """Nothing left and a time to wait: that time, whatever the case of the names."""
    headers = CIMultiDict({"X-RateLimit-Remaining-Requests": "0", "X-RateLimit-Reset-Requests": reset})
    assert exhausted_s(headers) == pytest.approx(seconds)


@pytest.mark.parametrize("reset", ["", "soon", "-1s", "0s", "2h", "1e3", "2026-01-01T00:00:00Z", "s", "9" * 400])
def test_a_time_that_says_nothing(reset: str) -> None:
    """No time, one that is no duration, none to wait, or more than is believed: as if nothing was said."""
    assert exhausted_s({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": reset}) is None


def test_a_limit_with_room_says_nothing() -> None:
    """As long as something is left there is nothing to wait for; of two that are used up the longer counts."""
    assert exhausted_s({}) is None
    assert exhausted_s({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "9s"}) is None
    both = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2s"}
    both |= {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "5s"}
    assert exhausted_s(both) == 5
