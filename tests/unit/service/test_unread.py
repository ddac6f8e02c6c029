"""Results that wait for slow readers: bounded by count and by bytes, of a tenant and of all; who reads is not held."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from expresslane.batches.held import Bounds
from expresslane.batches.outbox import Outbox
from expresslane.batches.unread import Unread
from expresslane.errors import Reason, RefusedError
from expresslane.results import Outcome
from expresslane.settings import TenantSettings

from tests.support.virtual_time import virtual_time
from tests.unit.service.test_jobs import large
from tests.unit.service.test_outbox import result
from tests.unit.service.world import ScriptedBackend, World, drain, prompt, second

if TYPE_CHECKING:
    from expresslane.batches.batch import Batch

CAP = 2
ANSWER = 10_000
SECOND_NS = 10**9


def slow_batches(world: World, **options: int) -> list[Batch]:
    """Two batches that nobody reads, of twenty prompts each, of the tenant `slow`."""
    prompts = [prompt(str(number)) for number in range(20)]
    more: dict[str, Any] = {"tenant": "slow", **options}
    return [world.submit(prompts, **more) for _ in range(2)]


async def come_to_rest(world: World) -> None:
    """Long enough for everything that may run to have run."""
    await asyncio.sleep(100)
    assert world.scheduling.snapshot().in_flight == 0


CELLS = {
    "results of a tenant": ({"unread_limit_results": 6}, Bounds(), "EXPRESSLANE_TENANTS__SLOW__UNREAD_LIMIT_RESULTS"),
    "bytes of a tenant": ({"unread_limit_bytes": 60_000}, Bounds(), "EXPRESSLANE_TENANTS__SLOW__UNREAD_LIMIT_BYTES"),
    "results of all": ({}, Bounds(6), "EXPRESSLANE_UNREAD_LIMIT_RESULTS"),
    "bytes of all": ({}, Bounds(0, 60_000), "EXPRESSLANE_UNREAD_LIMIT_BYTES"),
}


@pytest.mark.parametrize("window", [0, 4], ids=["as completed", "in order"])
@pytest.mark.parametrize("cell", CELLS)
@virtual_time
async def test_a_tenant_that_does_not_read(cell: str, window: int) -> None:
    """It is held at the bound and refused more, by the setting's name; others run; reading brings everything (A16)."""
    own, bounds, setting = CELLS[cell]
    backend = ScriptedBackend(default=large, default_cap=CAP)
    tenants = {"slow": TenantSettings.model_validate(own)}
    async with World(backend, tenants=tenants, unread_bounds=bounds) as world:
        batches = slow_batches(world, reorder_window=window)
        await come_to_rest(world)
        unread = world.tenants.find("slow").unread
        assert 6 <= unread.results <= 6 + CAP
        assert unread.bytes == unread.results * ANSWER
        with pytest.raises(RefusedError, match=setting) as raised:
            world.submit([prompt("late")], tenant="slow")
        assert raised.value.reason is Reason.UNREAD_FULL
        assert raised.value.retry_after_ns
        results, _ = await world.run([prompt(str(number)) for number in range(20)], tenant="quick")
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
        assert unread.results <= 6 + CAP
        for batch, more in zip(batches, await asyncio.gather(*(drain(world, one) for one in batches)), strict=True):
            assert sorted(one.index for one in more) == list(range(20))
            world.intake.close(batch)
        assert (unread.results, unread.bytes, world.tenants.unread.results) == (0, 0, 0)
        await world.run([prompt("again")], tenant="slow")


@virtual_time
async def test_reading_one_batch_lets_another_go_on() -> None:
    """Batches of a tenant share its bound: what one reader takes is room for the other's results."""
    tenants = {"slow": TenantSettings(unread_limit_results=6)}
    async with World(ScriptedBackend(default=second(1), default_cap=CAP), tenants=tenants) as world:
        one, other = slow_batches(world)
        await come_to_rest(world)
        before = other.tally.finished
        assert len(await drain(world, one)) == 20
        await come_to_rest(world)
        assert before < other.tally.finished < 20
        assert len(await drain(world, other)) == 20
        for batch in (one, other):
            world.intake.close(batch)


@virtual_time
async def test_a_call_that_leaves_gives_back_what_it_did_not_read() -> None:
    """What waits for a reader that has gone, and what still comes for it, is counted no longer and held by nobody."""
    tenants = {"slow": TenantSettings(unread_limit_results=6)}
    async with World(ScriptedBackend(default=second(1), default_cap=CAP), tenants=tenants) as world:
        one, other = slow_batches(world)
        await asyncio.sleep(2.5)
        for batch in (one, other):
            world.intake.close(batch)
            batch.outbox.leave()
        await world.dispatcher.settled()
        unread = world.tenants.find("slow").unread
        assert (unread.results, unread.bytes, unread.full, world.tenants.unread.holders) == (0, 0, False, 0)
        assert (one.outbox.empty, other.outbox.empty, one.unfinished) == (True, True, 0)


@virtual_time
async def test_what_was_taken_counts_until_it_is_written() -> None:
    """A reader that hangs in a write has got rid of nothing: its parcel still fills the bound."""
    unread = Unread(Bounds(4, 0))
    outbox = Outbox(window=0, limit=100, unread=unread)
    for index in range(4):
        outbox.put(result(index, 10))
    assert (unread.full, outbox.horizon()) == (True, 0)
    outbox.take()
    assert (unread.results, unread.bytes, unread.full, outbox.horizon()) == (4, 40, True, 0)
    outbox.written()
    assert (unread.results, unread.bytes, unread.full, outbox.horizon()) == (0, 0, False, None)


@pytest.mark.parametrize("bounds", [Bounds(100, 0), Bounds(0, 1_000)], ids=["results", "bytes"])
@virtual_time
async def test_when_there_is_room_again(bounds: Bounds) -> None:
    """A refusal says when half of the bound has been read, at the rate at which it was read of late (G25)."""
    now_ns = 0
    whole = Unread(Bounds(), clock=lambda: now_ns)
    unread = Unread(bounds, whole=whole, clock=lambda: now_ns)
    unread.add(1_000, 10_000)
    assert unread.retry_after_ns() == SECOND_NS, "nothing is known"
    for _ in range(90):
        now_ns += SECOND_NS
        unread.read(10, 100)
    assert (unread.full, unread.results) == (True, 100)
    assert unread.retry_after_ns() == pytest.approx(5 * SECOND_NS, rel=0.05), "50 at 10 a second"
    whole.set_bounds(bounds)
    assert whole.retry_after_ns() == pytest.approx(5 * SECOND_NS, rel=0.05)
    unread.add(-100, -1_000)
    now_ns += 60 * SECOND_NS
    unread.add(100, 1_000)
    assert unread.retry_after_ns() > 30 * SECOND_NS, "nobody reads any more, and room that a leaver makes is no reading"


@virtual_time
async def test_who_has_least_is_not_refused() -> None:
    """While all of it is full, tenants with less than the mean may come; those with as much or more must read first."""
    told: list[str] = []
    whole = Unread(Bounds(100, 0), lambda: told.append("all"))
    large_part, small_part, none = (Unread(Bounds(), whole=whole) for _ in range(3))
    large_part.add(90, 900)
    small_part.add(9, 90)
    assert (whole.full, large_part.over_share) == (False, False)
    small_part.add(1, 10)
    assert (large_part.over_share, small_part.over_share, none.over_share) == (True, False, False)
    assert large_part.pressed
    assert none.pressed
    large_part.add(-50, -500)
    assert not whole.full
    await asyncio.sleep(0)
    assert told == ["all", "all"]
