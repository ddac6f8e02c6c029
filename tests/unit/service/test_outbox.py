"""The outbox by itself: ordering, merging, its horizon, its reader."""

from __future__ import annotations

import asyncio

import pytest
from expresslane.batches.outbox import Outbox
from expresslane.results import Outcome, Result, Timings

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.world import SECOND


def result(index: int) -> Result:
    """A result with this place in its batch."""
    return Result(str(index), index, Outcome.SUCCEEDED, Timings())


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
