"""Every RPC with generated messages, keys and metadata: each call ends, in a documented status, and leaves nothing.

The examples are the same at each run. A failure prints the call with its bytes. `make fuzz` draws others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from hypothesis import strategies as st

from tests.fuzz.caller import DOCUMENTED, METHODS, Caller
from tests.fuzz.messages import wires
from tests.fuzz.rpcs import DRAIN, TENANTS, UNARY, any_metadata, any_request, any_sequence, any_session, hold

if TYPE_CHECKING:
    from collections.abc import Iterator

NEVER_OK = {f"expresslane.v1.Jobs/{verb}Job" for verb in ("Get", "Watch", "Cancel", "Delete")}
NEVER_OK.add("expresslane.v1.Inference/CancelBatch")
"""They need a job, or a kept batch, which is made and used in `test_any_sequence`."""


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    """A service for this file."""
    with Caller() as one:
        yield one


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", UNARY)
def test_any_request(caller: Caller, name: str) -> None:
    """T13: whatever the one message of a call is, also none or several, the call ends with a documented status."""
    codes = any_request(caller, name, examples=25)
    assert name in NEVER_OK or grpc.StatusCode.OK in codes, "no generated message got past the checks"


@pytest.mark.timeout(120)
def test_any_session(caller: Caller) -> None:
    """A session's messages in any order and number: it ends with a documented status, and what it accepted is ended."""
    any_session(caller, examples=50)


@pytest.mark.timeout(120)
def test_any_sequence(caller: Caller) -> None:
    """Calls of all kinds after one another, jobs made, watched, cancelled and deleted among them, cut short or not."""
    any_sequence(caller, examples=15)


@pytest.mark.timeout(120)
def test_any_metadata() -> None:
    """Any keys and metadata: a documented status, nobody served without a key, both roles let in with theirs."""
    with Caller(TENANTS) as caller:
        codes = any_metadata(caller, examples=250)
    served = {name.split("/")[0] for name, code in codes if code is grpc.StatusCode.OK}
    assert served >= {"expresslane.v1.Admin", "expresslane.v1.Inference"}
    assert {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED} <= {code for _, code in codes}


def test_after_drain() -> None:
    """A service that drains still answers every call with a documented status."""
    with Caller() as caller:
        assert caller.call(DRAIN, [b""]) is grpc.StatusCode.OK

        def promise(data: st.DataObject) -> None:
            for name in sorted(METHODS):
                assert caller.call(name, [data.draw(wires(METHODS[name].input_type))]) in DOCUMENTED

        hold(promise, st.data(), examples=4, seed=None)
        caller.settle()
