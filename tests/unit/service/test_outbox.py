"""The outbox by itself: ordering, merging, its horizon, its reader."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from expresslane.batches.outbox import Outbox
from expresslane.results import Outcome, Result, Timings
from hypothesis import given
from hypothesis import strategies as st

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.world import SECOND

if TYPE_CHECKING:
    import random


def result(index: int, answer_bytes: int = 0) -> Result:
    """A result with this place in its batch."""
    return Result(str(index), index, Outcome.SUCCEEDED, Timings(), answer_bytes=answer_bytes)


def test_results_ready_at_once_come_together() -> None:
    """Everything that is ready comes in one parcel, and nothing comes twice."""
    outbox = Outbox(window=0, limit=10)
    for index in (2, 0, 1):
        outbox.put(result(index))
    assert [one.index for one in outbox.take().results] == [2, 0, 1]
    assert outbox.empty
    assert outbox.take().results == []


def test_in_order() -> None:
    """With a window results wait for those before them."""
    outbox = Outbox(window=4, limit=10)
    outbox.put(result(1))
    outbox.put(result(2))
    assert outbox.take().results == []
    outbox.put(result(0))
    assert [one.index for one in outbox.take().results] == [0, 1, 2]


def test_deltas_merge_and_come_no_later_than_the_result() -> None:
    """Pieces of one prompt merge until they are taken, and a result's deltas are in its parcel or an earlier one."""
    outbox = Outbox(window=0, limit=10)
    outbox.put_delta("a", 0, "one ", "")
    outbox.put_delta("b", 1, "", "because")
    outbox.put_delta("a", 0, "two", "hm")
    outbox.put(result(0))
    parcel = outbox.take()
    assert [(one.custom_id, "".join(one.text), "".join(one.reasoning)) for one in parcel.deltas] == [
        ("a", "one two", "hm"),
        ("b", "", "because"),
    ]
    assert [one.index for one in parcel.results] == [0]


@pytest.mark.parametrize(
    ("window", "ready", "early", "horizon"),
    [(4, [], [], 4), (4, [], [1, 2, 3], 4), (4, [0], [], 4), (4, [0], [1, 2], 4), (0, [5, 1], [], None)],
)
def test_horizon_of_unread_results(window: int, ready: list[int], early: list[int], horizon: int | None) -> None:
    """The horizon counts from what the reader has taken: unread results do not move it."""
    outbox = Outbox(window=window, limit=10)
    for index in [*early, *ready]:
        outbox.put(result(index))
    assert outbox.horizon() == horizon
    taken = len(outbox.take().results)
    assert outbox.horizon() == (taken + window if window else None)


def test_horizon_of_a_slow_reader() -> None:
    """At the limit everything is held; it goes on once half has been taken, so that it does not flutter."""
    outbox = Outbox(window=0, limit=4)
    for index in range(3):
        outbox.put(result(index))
        assert outbox.horizon() is None
    outbox.put(result(3))
    assert outbox.horizon() == 0
    outbox.take()
    outbox.put(result(4))
    assert outbox.horizon() is None


def test_horizon_of_large_answers() -> None:
    """At the limit of bytes everything is held, by results and deltas alike, until half has been taken."""
    outbox = Outbox(window=0, limit=100, limit_bytes=1_000)
    outbox.put(result(0, 600))
    assert outbox.horizon() is None
    outbox.put_delta("b", 1, "x" * 300, "y" * 100)
    assert outbox.horizon() == 0
    outbox.take()
    outbox.put(result(1, 400))
    assert outbox.horizon() is None


def test_horizon_of_large_answers_in_order() -> None:
    """In order too, answers that wait hold their batch, but never the next due when nothing else can be read."""
    outbox = Outbox(window=50, limit=100, limit_bytes=1_000)
    outbox.put(result(2, 1_000))
    assert outbox.horizon() == 1
    outbox.put(result(0, 10))
    assert outbox.horizon() == 1
    outbox.take()
    assert outbox.horizon() == 2
    outbox.put(result(1, 10))
    outbox.take()
    assert outbox.horizon() == 53


def test_a_large_window_does_not_lift_the_limit() -> None:
    """In order no more results than the limit are ahead of the reader, however large the window asked for."""
    outbox = Outbox(window=100_000, limit=10)
    assert outbox.horizon() == 10
    for index in range(10):
        outbox.put(result(index))
    assert outbox.horizon() == 10
    outbox.take()
    assert outbox.horizon() == 20


@given(
    st.integers(0, 12),
    st.integers(1, 12),
    st.integers(1, 200),
    st.lists(st.integers(0, 100), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_never_stuck_and_never_too_far(
    window: int, limit: int, limit_bytes: int, sizes: list[int], chance: random.Random
) -> None:
    """Whatever ends in whatever order, every prompt can run in the end, and in order no more than the limit wait."""
    outbox = Outbox(window=window, limit=limit, limit_bytes=limit_bytes)
    waiting, running, seen = set(range(len(sizes))), set[int](), list[int]()
    while len(seen) < len(sizes):
        horizon = outbox.horizon()
        startable = sorted(index for index in waiting if horizon is None or index < horizon)
        steps = [name for name, can in (("start", startable), ("end", running), ("read", not outbox.empty)) if can]
        assert steps, "nothing can start, nothing runs, nothing can be read"
        match chance.choice(steps):
            case "start":
                index = chance.choice(startable)
                waiting.remove(index)
                running.add(index)
            case "end":
                index = chance.choice(sorted(running))
                running.remove(index)
                outbox.put(result(index, sizes[index]))
            case "read":
                seen += [one.index for one in outbox.take().results]
        if window:
            assert len(sizes) - len(waiting) - len(running) - len(seen) <= min(window, limit)
            assert seen == list(range(len(seen)))


@virtual_time
async def test_wait() -> None:
    """A reader waits for a result, a delta, a nudge or the end, and else until its time is up."""
    outbox = Outbox(window=0, limit=4)
    loop = asyncio.get_running_loop()
    start = now_ns()
    assert not await outbox.wait(15)
    assert now_ns() - start == 15 * SECOND
    for event in (
        lambda: outbox.put(result(0)),
        lambda: outbox.put_delta("a", 0, "x", ""),
        outbox.nudge,
    ):
        loop.call_later(1, event)
        assert await outbox.wait(15)
        assert await outbox.wait(15)
        outbox.take()
    outbox.close()
    assert await outbox.wait(15)
    assert now_ns() - start == 18 * SECOND
