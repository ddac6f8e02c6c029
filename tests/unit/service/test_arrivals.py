"""Messages that arrive: how many at once, whose turn it is, and who gives way while others wait."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest
from expresslane.arrivals import Arrivals, NoMessageError
from expresslane.errors import Reason, RefusedError

from tests.support.virtual_time import now_ns, virtual_time

TIMEOUT_S = 30.0


class Call:
    """A call whose message comes after so long, or never. `read` is when it was asked for, in seconds."""

    started: list[str]

    def __init__(self, name: str, after_s: float | None = None, *, message: Any = "message") -> None:
        self.name = name
        self.after_s = after_s
        self.message = message
        self.reading = False

    async def read(self) -> Any:
        self.reading = True
        if self.after_s is None:
            await asyncio.Event().wait()
        await asyncio.sleep(self.after_s or 0)
        return self.message


async def used(message: Any, _: object) -> Any:
    """A message that is prompts at once."""
    return message


def arrivals(places: int) -> Arrivals:
    """On virtual time."""
    return Arrivals(places, TIMEOUT_S, setting="THE_SETTING", clock=now_ns)


def taken_in(bound: Arrivals, call: Call) -> asyncio.Task[Any]:
    """A call of the tenant that its name begins with."""
    return asyncio.ensure_future(bound.take_in(call, call.name[0], used))


async def settled() -> None:
    """Everything that can go on without time has."""
    for _ in range(10):
        await asyncio.sleep(0)


def reason_of(task: asyncio.Task[Any]) -> Reason:
    """Why a call was refused."""
    error = task.exception()
    assert isinstance(error, RefusedError)
    return error.reason


@virtual_time
async def test_no_more_are_read_than_there_are_places() -> None:
    """What has no place is not read; a place is kept until the message has become prompts."""
    bound = arrivals(2)
    decoding, decoded = asyncio.Event(), asyncio.Event()

    async def decode(message: Any, _: object) -> Any:
        decoding.set()
        await decoded.wait()
        return message

    first = asyncio.ensure_future(bound.take_in(Call("a", 0), "a", decode))
    await decoding.wait()
    calls = [Call("b"), Call("c")]
    tasks = [taken_in(bound, call) for call in calls]
    await settled()
    assert ([call.reading for call in calls], bound.taken, bound.waiting) == ([True, False], 2, 1)
    decoded.set()
    assert await first == "message"
    await settled()
    assert ([call.reading for call in calls], bound.taken, bound.waiting) == ([True, True], 2, 0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert (bound.taken, bound.waiting) == (0, 0)


@virtual_time
async def test_turns_of_tenants() -> None:
    """A tenant with one call does not wait behind one with ten."""
    bound = arrivals(1)
    order: list[str] = []

    async def note(_: object, call: Any) -> None:
        order.append(call.name)

    calls = [Call("a0", 0.1), *(Call(f"a{number}", 0) for number in range(1, 5)), Call("b", 0), Call("c", 0)]
    await asyncio.gather(*(bound.take_in(call, call.name[0], note) for call in calls))
    assert order == ["a0", "a1", "b", "c", "a2", "a3", "a4"]
    assert (bound.taken, bound.waiting) == (0, 0)


@virtual_time
async def test_silent_calls_keep_nobody_out() -> None:
    """Places full of calls that say nothing: whoever waits is served within a second, half of them keep theirs."""
    bound = arrivals(4)
    silent = [taken_in(bound, Call(f"s{number}")) for number in range(4)]
    await settled()
    start_s = asyncio.get_running_loop().time()
    assert await taken_in(bound, Call("b", 0)) == "message"
    assert asyncio.get_running_loop().time() - start_s == pytest.approx(1)
    assert [task.done() for task in silent] == [False, False, False, True]
    assert reason_of(silent[3]) is Reason.ARRIVING_FULL
    assert await taken_in(bound, Call("b", 5)) == "message", "nobody waits: all may take their time"
    assert [task.done() for task in silent] == [False, False, False, True]
    await asyncio.wait(silent)
    assert asyncio.get_running_loop().time() - start_s == pytest.approx(TIMEOUT_S)
    assert [reason_of(task) for task in silent[:3]] == [Reason.FIRST_MESSAGE_TIMEOUT] * 3
    assert (bound.taken, bound.waiting) == (0, 0)


@virtual_time
async def test_large_messages_get_through() -> None:
    """Twenty of them, of ten seconds each, and short ones all the time: those that have the slow half keep it."""
    bound = arrivals(4)
    large = [taken_in(bound, Call(f"l{number}", 10)) for number in range(20)]
    for _ in range(40):
        assert await taken_in(bound, Call("s", 0.01)) == "message"
    await asyncio.wait(large)
    assert [task.exception() for task in large[:2]] == [None, None]
    assert {reason_of(task) for task in large if task.exception()} == {Reason.ARRIVING_FULL}


@virtual_time
async def test_who_has_most_gives_way() -> None:
    """A tenant with one slow message keeps its place beside one with three."""
    bound = arrivals(4)
    tasks = [taken_in(bound, Call(name, 20)) for name in ("a1", "a2", "a3", "b")]
    await settled()
    others = [taken_in(bound, Call(name, 3)) for name in ("c", "d")]
    await asyncio.wait(others)
    assert [task.done() for task in tasks] == [False, True, True, False]
    assert [await tasks[0], await tasks[3]] == ["message", "message"]


@virtual_time
async def test_all_who_wait_have_a_turn() -> None:
    """Four hundred silent calls come before one of the same tenant: turns are so short that it has one too."""
    bound = arrivals(4)
    silent = [taken_in(bound, Call(f"a{number}")) for number in range(400)]
    last = taken_in(bound, Call("a", 0))
    start_s = asyncio.get_running_loop().time()
    assert await last == "message"
    assert asyncio.get_running_loop().time() - start_s < TIMEOUT_S
    await asyncio.gather(*silent, return_exceptions=True)
    assert (bound.taken, bound.waiting) == (0, 0)


@virtual_time
async def test_a_turn_that_does_not_come() -> None:
    """Refused with when to come back and the setting's name, and nothing of it was read."""
    bound = arrivals(1)
    held = asyncio.Event()

    async def decode(_: object, __: object) -> None:
        await held.wait()

    first = asyncio.ensure_future(bound.take_in(Call("a", 0), "a", decode))
    call = Call("b")
    waiting = taken_in(bound, call)
    await asyncio.wait([waiting])
    error = waiting.exception()
    assert isinstance(error, RefusedError)
    assert (error.reason, call.reading, error.retry_after_ns) == (Reason.ARRIVING_FULL, False, 10**9)
    assert "THE_SETTING" in error.message
    held.set()
    await first
    assert (bound.taken, bound.waiting) == (0, 0)


@virtual_time
async def test_whoever_leaves_takes_no_place() -> None:
    """A call that is cancelled while it waits, or just when its turn comes, leaves nothing behind."""
    bound = arrivals(1)
    first, second, third = (taken_in(bound, Call(name, 0.5 if name == "a" else 0)) for name in "abc")
    await settled()
    second.cancel()
    await first
    third.cancel()  # its place was handed over in this turn of the loop
    with pytest.raises(NoMessageError):
        await third
    assert (bound.taken, bound.waiting) == (0, 0)
    assert await taken_in(bound, Call("d", 0)) == "message"


@virtual_time
async def test_no_message() -> None:
    """A call that ends without a request is told so; a stream that ends is no error."""
    bound = arrivals(1)
    with pytest.raises(RefusedError) as raised:
        await bound.take_in(Call("a", 0, message=grpc.aio.EOF), "a", used)
    assert raised.value.reason is Reason.PROTOCOL_VIOLATION
    assert await bound.read(Call("a", 0, message=grpc.aio.EOF), "a") is grpc.aio.EOF
    assert (bound.taken, bound.waiting) == (0, 0)
