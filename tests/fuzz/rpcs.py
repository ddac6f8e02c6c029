"""What every RPC promises whatever it is sent: the call ends, in a documented status, and leaves nothing behind.

`test_rpcs.py` holds them for the same few examples at each run. The long form draws new ones, and prints its seed:

python -m tests.fuzz.rpcs [--seconds 60] [--seed S]     rounds of examples, each from the next seed
python -m tests.fuzz.rpcs --seed S --seconds 0          the round of that seed alone: how a failure is run again
"""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import time
from typing import TYPE_CHECKING, Any

import grpc
import hypothesis
import structlog
from expresslane.auth.keys import new_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.caller import DOCUMENTED, METHODS, Caller
from tests.fuzz.messages import messages, wires

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from tests.fuzz.caller import Metadata

__all__ = [
    "DRAIN",
    "SESSION",
    "TENANTS",
    "UNARY",
    "any_metadata",
    "any_request",
    "any_sequence",
    "any_session",
    "hold",
]

DRAIN = "expresslane.v1.Admin/Drain"
SESSION = "expresslane.v1.Inference/StreamPrompts"
UNARY = sorted(METHODS.keys() - {SESSION, DRAIN})
ASKING = sorted(
    {"expresslane.v1.Admin/GetSnapshot", "expresslane.v1.Admin/ListBackends", "expresslane.v1.Jobs/ListJobs"}
    | {name for name in METHODS if name.startswith("expresslane.v1.Inference/")}
)
"""What changes nothing that the next call would have to put right."""
ACME_KEY, _ACME = new_key()
OPS_KEY, _OPS = new_key()
WRONG_KEY, _ = new_key()
TENANTS: dict[str, dict[str, Any]] = {"acme": {"keys": str(_ACME)}, "ops": {"keys": str(_OPS), "admin": True}}
COMMON: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
}
EXAMPLES = 50
"""Of each promise in one round of the long form."""


def hold(promise: Callable[..., None], *values: st.SearchStrategy[Any], examples: int, seed: int | None) -> None:
    """Hold a promise against so many drawn values: of that seed, or with None the same at each run."""
    drawn = settings(max_examples=examples, derandomize=seed is None, **COMMON)(given(*values)(promise))
    (drawn if seed is None else hypothesis.seed(seed)(drawn))()


def any_request(caller: Caller, name: str, *, examples: int, seed: int | None = None) -> set[grpc.StatusCode]:
    """T13: whatever the one message of a call is, also none or several. Returns how the calls ended."""
    codes: set[grpc.StatusCode] = set()

    def promise(sent: list[bytes]) -> None:
        codes.add(code := caller.call(name, sent))
        if "Admin/" in name:
            caller.restore()
        assert code in DOCUMENTED

    one = st.lists(wires(METHODS[name].input_type), min_size=1, max_size=1)
    hold(promise, one | one | st.lists(st.binary(max_size=9), max_size=2), examples=examples, seed=seed)
    caller.settle()
    return codes


def any_session(caller: Caller, *, examples: int, seed: int | None = None) -> None:
    """A session's messages in any order and number, cut short or not: what it accepted is ended."""

    def promise(first: list[bytes], sent: list[bytes], cancel_after: int | None) -> None:
        code = caller.call(SESSION, first + sent, cancel_after=cancel_after)
        assert code in DOCUMENTED
        assert cancel_after is not None or code is not grpc.StatusCode.CANCELLED

    begun = st.sampled_from([[b"\x0a\x00"], [b"\x0a\x00"], []])
    sent = st.lists(wires(METHODS[SESSION].input_type), max_size=6)
    hold(promise, begun, sent, st.none() | st.integers(0, 4), examples=examples, seed=seed)
    caller.settle()


def any_sequence(caller: Caller, *, examples: int, seed: int | None = None) -> None:
    """Calls of all kinds after one another, jobs made, watched, cancelled and deleted among them, cut short or not."""

    def promise(sequence: list[tuple[str, bytes, int | None]]) -> None:
        for name, wire, cancel_after in sequence:
            assert caller.call(name, [wire], cancel_after=cancel_after) in DOCUMENTED
        caller.restore()

    calls = st.sampled_from(sorted(METHODS.keys() - {DRAIN})).flatmap(
        lambda name: st.tuples(st.just(name), wires(METHODS[name].input_type), st.sampled_from([None, None, 0, 1]))
    )
    hold(promise, st.lists(calls, min_size=2, max_size=8), examples=examples, seed=seed)
    caller.settle()


_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
_keys = st.sampled_from([ACME_KEY, ACME_KEY, OPS_KEY, OPS_KEY, WRONG_KEY, ACME_KEY[:-1], ACME_KEY.upper(), "xl_", ""])
_pairs: st.SearchStrategy[tuple[str, str | bytes]] = st.one_of(
    st.tuples(st.just("authorization"), st.builds("Bearer {}".format, _keys)),
    st.tuples(st.just("x-api-key"), _keys),
    st.tuples(st.sampled_from(["authorization", "x-api-key"]), _values),
    st.tuples(
        st.just("authorization"), st.builds("{} {}".format, st.sampled_from(["bearer", "Basic", "Bearer "]), _keys)
    ),
    st.tuples(st.just("x-expresslane-tenant"), st.sampled_from(["acme", "ops", "", "x" * 64, "a b"]) | _values),
    st.tuples(st.sampled_from(["traceparent", "tracestate", "baggage"]), _values),
    st.tuples(st.just("traceparent"), st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
    st.tuples(st.from_regex(r"[a-z][a-z0-9_.-]{0,20}-bin", fullmatch=True), st.binary(max_size=60)),
    st.tuples(st.just("x-long"), st.integers(0, 20_000).map("x".__mul__)),
)


def _wire(message: Message) -> bytes:
    return message.SerializeToString()


def any_metadata(caller: Caller, *, examples: int, seed: int | None = None) -> set[tuple[str, grpc.StatusCode]]:
    """T13: any keys and metadata: nobody without a key is served, nor Admin without its role.

    The service has to ask for keys. Returns which methods ended how.
    """
    codes: set[tuple[str, grpc.StatusCode]] = set()

    def promise(call: tuple[str, bytes], shown: Metadata, more: Metadata) -> None:
        name, wire = call
        metadata = [*shown, *more]
        code = caller.call(name, [wire], metadata=metadata)
        codes.add((name, code))
        assert code in DOCUMENTED
        if code is grpc.StatusCode.OK:
            good = (OPS_KEY,) if "Admin/" in name else (OPS_KEY, ACME_KEY)
            assert any(str(value).endswith(good) for _, value in metadata), "served without a key"

    calls = st.sampled_from(ASKING).flatmap(
        lambda name: st.tuples(st.just(name), messages(METHODS[name].input_type).map(_wire) | st.just(b""))
    )
    shown = st.sampled_from([[], [("x-api-key", ACME_KEY)], [("authorization", f"Bearer {OPS_KEY}")]])
    hold(promise, calls, shown, st.lists(_pairs, max_size=4), examples=examples, seed=seed)
    caller.settle()
    return codes


def one_round(seed: int) -> None:
    """Every promise, against examples of that seed, to services of their own."""
    with Caller() as caller:
        for name in UNARY:
            any_request(caller, name, examples=EXAMPLES, seed=seed)
        any_session(caller, examples=EXAMPLES, seed=seed)
        any_sequence(caller, examples=EXAMPLES, seed=seed)
    with Caller(TENANTS) as caller:
        any_metadata(caller, examples=4 * EXAMPLES, seed=seed)


def main() -> int:
    """Rounds until the time is over; the first example that breaks a promise ends it, with its traceback."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.rpcs", description="Random messages to every RPC.")
    parser.add_argument("--seconds", type=float, default=60, help="no round is begun after that; default 60")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="of the first round")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable()  # a line for each call, and for each header that is not one
    until_s = time.monotonic() + asked.seconds
    for seed in range(asked.seed, 2**33):
        print(f"rpcs: seed {seed} (again: python -m tests.fuzz.rpcs --seed {seed} --seconds 0)", flush=True)  # noqa: T201
        one_round(seed)
        if time.monotonic() >= until_s:
            break
    return 0


if __name__ == "__main__":
    sys.exit(main())
