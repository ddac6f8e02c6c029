"""How many calls may be open, and when those that are kept out may come back."""

from __future__ import annotations

import pytest
from expresslane.errors import Reason, RefusedError
from expresslane.interceptors.open_calls import OpenCalls

SECOND = 10**9


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def refused(calls: OpenCalls, tenant: str) -> int:
    """When a call that is not let in may come back, in nanoseconds."""
    with pytest.raises(RefusedError) as raised:
        calls.enter(tenant)
    assert raised.value.reason is Reason.TOO_MANY_CALLS
    assert raised.value.retry_after_ns is not None
    return raised.value.retry_after_ns


def test_when_to_come_back() -> None:
    """The delay is that in which a call ends, of any tenant or of the one at its bound; 1 s before any has (A26)."""
    clock = Clock()
    calls = OpenCalls(5, lambda tenant: int(tenant == "small"), clock=clock)
    for tenant in ("a", "a", "a", "a", "small"):
        calls.enter(tenant)
    assert (refused(calls, "b"), refused(calls, "small")) == (SECOND, SECOND)
    for _ in range(30):  # one call ends every two seconds, and another takes its place
        clock.now_ns += 2 * SECOND
        calls.leave("a")
        calls.enter("a")
    assert refused(calls, "b") == pytest.approx(2 * SECOND, rel=0.1)
    assert refused(calls, "small") == pytest.approx(10 * SECOND, rel=0.1)
