"""Handlers of interceptors: made once for each method, of the kind of the one they stand before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from expresslane.interceptors.handlers import Made, behaviour_of, with_behaviour

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Context:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[str] = []

    async def write(self, response: str) -> None:
        """As a call does."""
        if response == "gone":
            raise ConnectionError
        self.written.append(response)


async def plain(_request: object, _context: object) -> str:
    """Answers."""
    return "answer"


async def other(_request: object, _context: object) -> str:
    """Answers differently."""
    return "other"


def handler(kind: str, behaviour: Any) -> Any:
    """A handler of gRPC's own."""
    make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(behaviour, int, str)


def test_made_once() -> None:
    """However many calls a method has, its handler is made once; a new one only when what it stands before is new."""
    seen: list[tuple[str, Any]] = []

    def make(method: str, before: Any) -> Any:
        seen.append((method, before))
        return handler("unary_unary", other)

    made, first, second = Made(make), handler("unary_unary", plain), handler("unary_unary", plain)
    one = made.of("/a", first)
    assert all(made.of("/a", first) is one for _ in range(3))
    assert made.of("/b", first) is not one
    assert made.of("/a", second) is not one
    assert [method for method, _ in seen] == ["/a", "/b", "/a"]


@pytest.mark.parametrize("kind", KINDS)
async def test_of_the_same_kind(kind: str) -> None:
    """What is handed on takes and gives what the handler before it does, by the same means."""
    before = handler(kind, plain)
    after = with_behaviour(before, other)
    assert behaviour_of(before) is plain
    assert behaviour_of(after) is other
    assert [name for name in KINDS if getattr(after, name) is not None] == [kind]
    assert (after.request_streaming, after.response_streaming) == (before.request_streaming, before.response_streaming)
    assert after.request_deserializer is before.request_deserializer
    assert after.response_serializer is before.response_serializer


async def test_generators_are_written_out_and_closed() -> None:
    """What an async generator yields is written; it is closed at once when its caller is gone."""
    closed: list[str] = []

    async def responses(name: str, _: object) -> AsyncIterator[str]:
        try:
            yield "one"
            yield name
            yield "three"
        finally:
            closed.append(name)

    run, context = behaviour_of(handler("stream_stream", responses)), Context()
    await run("two", context)  # type: ignore[arg-type] # it is written to, no more
    assert (context.written, closed) == (["one", "two", "three"], ["two"])
    with pytest.raises(ConnectionError):
        await run("gone", context)  # type: ignore[arg-type]
    assert closed == ["two", "gone"]
