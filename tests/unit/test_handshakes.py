"""Connections that bring no call, told of once a minute, and none that does."""

from __future__ import annotations

import pytest
from expresslane.handshakes import FIRST_CALL_S, LINE_EVERY_S, PENDING_MAX, QUIET_S, Handshakes


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """At a thousand seconds."""
    return Clock()


@pytest.fixture
def handshakes(clock: Clock) -> Handshakes:
    """Nothing begun."""
    return Handshakes(clock)


def test_connections_that_bring_calls_are_not_told_of(handshakes: Handshakes, clock: Clock) -> None:
    """One call or many, at once or a little later, with failing ones in between: only those are counted."""
    for port in range(100):
        handshakes.begun()
        if port % 10 == 0:
            handshakes.begun()  # and no call
        clock.now_s += 0.01
        for _ in range(3):
            handshakes.called(f"ipv4:127.0.0.1:{port}")
    assert handshakes.without_call() == 0
    clock.now_s += FIRST_CALL_S
    assert handshakes.without_call() == 10
    assert handshakes.without_call() == 0


def test_told_once_a_minute(handshakes: Handshakes, clock: Clock) -> None:
    """What comes in the minute after a line is in the next one."""
    told = []
    for _ in range(int(3 * LINE_EVERY_S)):
        handshakes.begun()
        clock.now_s += 1
        told.append(handshakes.without_call())
    assert [count for count in told if count] == [1, LINE_EVERY_S, LINE_EVERY_S]


def test_a_port_is_used_again(handshakes: Handshakes, clock: Clock) -> None:
    """A call from a peer that was silent for a minute may be another connection's first."""
    handshakes.begun()
    handshakes.called("a:1")
    clock.now_s += QUIET_S
    handshakes.begun()
    handshakes.called("a:1")
    clock.now_s += FIRST_CALL_S
    assert handshakes.without_call() == 0


def test_calls_of_old_connections_hide_nothing_recent(handshakes: Handshakes, clock: Clock) -> None:
    """A connection in use is known: its calls take no handshake away."""
    handshakes.begun()
    for _ in range(10):
        handshakes.called("a:1")
        clock.now_s += QUIET_S / 2
    handshakes.begun()
    handshakes.called("a:1")
    clock.now_s += FIRST_CALL_S
    assert handshakes.without_call() == 1


def test_bounded(handshakes: Handshakes, clock: Clock) -> None:
    """A flood of connections takes no memory without end."""
    for _ in range(PENDING_MAX + 1_000):
        handshakes.begun()
    clock.now_s += FIRST_CALL_S
    assert handshakes.without_call() == PENDING_MAX
