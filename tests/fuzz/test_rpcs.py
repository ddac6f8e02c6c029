"""Every RPC with generated messages: each call ends, in a documented status, and leaves nothing behind.

The examples are the same at each run. A failure prints the call with its bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.caller import DOCUMENTED, METHODS, Caller
from tests.fuzz.messages import wires

if TYPE_CHECKING:
    from collections.abc import Iterator

DRAIN = "expresslane.v1.Admin/Drain"
SESSION = "expresslane.v1.Inference/StreamPrompts"
UNARY = sorted(METHODS.keys() - {SESSION, DRAIN})
NEVER_OK = {f"expresslane.v1.Jobs/{verb}Job" for verb in ("Get", "Watch", "Cancel", "Delete")}
NEVER_OK.add("expresslane.v1.Inference/CancelBatch")
"""They need a job, or a kept batch, which is made and used in `test_any_sequence`."""
COMMON: dict[str, Any] = {
    "derandomize": True,
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
}


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    """A service for this file."""
    with Caller() as one:
        yield one


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", UNARY)
def test_any_request(caller: Caller, name: str) -> None:
    """T13: whatever the one message of a call is, also none or several, the call ends with a documented status."""
    codes: set[grpc.StatusCode] = set()

    @settings(max_examples=25, **COMMON)
    @given(
        st.lists(wires(METHODS[name].input_type), min_size=1, max_size=1) | st.lists(st.binary(max_size=9), max_size=2)
    )
    def holds(sent: list[bytes]) -> None:
        codes.add(code := caller.call(name, sent))
        if "Admin/" in name:
            caller.restore()
        assert code in DOCUMENTED

    holds()
    caller.settle()
    assert name in NEVER_OK or grpc.StatusCode.OK in codes, "no generated message got past the checks"


@pytest.mark.timeout(120)
def test_any_session(caller: Caller) -> None:
    """A session's messages in any order and number: it ends with a documented status, and what it accepted is ended."""
    kind = METHODS[SESSION].input_type
    begun = st.sampled_from([[b"\x0a\x00"], [b"\x0a\x00"], []])

    @settings(max_examples=50, **COMMON)
    @given(begun, st.lists(wires(kind), max_size=6), st.none() | st.integers(0, 4))
    def holds(first: list[bytes], sent: list[bytes], cancel_after: int | None) -> None:
        code = caller.call(SESSION, first + sent, cancel_after=cancel_after)
        assert code in DOCUMENTED
        assert cancel_after is not None or code is not grpc.StatusCode.CANCELLED

    holds()
    caller.settle()


@pytest.mark.timeout(120)
def test_any_sequence(caller: Caller) -> None:
    """Calls of all kinds after one another, jobs made, watched, cancelled and deleted among them, cut short or not."""
    calls = st.sampled_from(sorted(METHODS.keys() - {DRAIN})).flatmap(
        lambda name: st.tuples(st.just(name), wires(METHODS[name].input_type), st.sampled_from([None, None, 0, 1]))
    )

    @settings(max_examples=15, **COMMON)
    @given(st.lists(calls, min_size=2, max_size=8))
    def holds(sequence: list[tuple[str, bytes, int | None]]) -> None:
        for name, wire, cancel_after in sequence:
            assert caller.call(name, [wire], cancel_after=cancel_after) in DOCUMENTED
        caller.restore()

    holds()
    caller.settle()


def test_after_drain() -> None:
    """A service that drains still answers every call with a documented status."""
    with Caller() as caller:
        assert caller.call(DRAIN, [b""]) is grpc.StatusCode.OK

        @settings(max_examples=4, **COMMON)
        @given(st.data())
        def holds(data: st.DataObject) -> None:
            for name in sorted(METHODS):
                assert caller.call(name, [data.draw(wires(METHODS[name].input_type))]) in DOCUMENTED

        holds()
        caller.settle()
