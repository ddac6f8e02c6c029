"""Batches whose callers may come back: kept for a time without a reader, attached to by their key, bounded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from expresslane.batches.batch import BatchOptions
from expresslane.batches.call_cursor import CallCursor
from expresslane.batches.held import Amount
from expresslane.batches.summary import BatchState
from expresslane.errors import Reason, RefusedError
from expresslane.kept_batches import KeptBatch, KeptBatches
from expresslane.results import Outcome
from expresslane.servicers.payload import payload_digest
from expresslane.settings import TenantSettings

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.world import SECOND, ScriptedBackend, World, prompt, second

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call
    from expresslane.results import Result


def store(world: World, **bounds: Any) -> KeptBatches:
    """A store with generous bounds but for `bounds`."""
    plain = {"limit": 100, "results_limit_bytes": 1_000_000}
    return KeptBatches(world.intake, world.scheduling, wall_clock=now_ns, **(plain | bounds))


def create(batches: KeptBatches, count: int, request_id: str = "r", **options: Any) -> KeptBatch:
    """A kept batch of so many short prompts."""
    prompts = [(prompt(str(number)), 10) for number in range(count)]
    plain = {"keep_s": 60.0}
    return batches.create(BatchOptions(request_id, **(plain | options)), prompts, b"digest", method="Test")


async def read(batches: KeptBatches, kept: KeptBatch, count: int = 10**9, *, in_order: bool = False) -> list[Result]:
    """What an attached call gets until it has so many results."""
    results: list[Result] = []
    with batches.attached(kept):
        cursor = CallCursor(kept.log, in_order=in_order, deltas=False)
        while len(results) < count and not (cursor.closed and cursor.empty):
            assert await cursor.wait(86_400)
            results += cursor.take().results
    return results


async def large(_call: Call, answer: Answer) -> None:
    """Answer with 10,000 characters after a second."""
    await asyncio.sleep(1)
    answer.push("x" * 10_000)


def refusal(batches: KeptBatches) -> RefusedError:
    """Why another batch is refused."""
    with pytest.raises(RefusedError) as raised:
        create(batches, 1, "one more")
    return raised.value


@virtual_time
async def test_it_outlives_its_call_for_a_time() -> None:
    """A batch goes on when its call has gone; one that comes back in time gets everything from the start."""
    async with World(ScriptedBackend(default=second(10), default_cap=1)) as world:
        batches = store(world)
        kept = create(batches, 4, keep_s=25.0)
        first = await read(batches, kept, 1)
        await asyncio.sleep(24)
        assert batches.find("default", "r") is kept
        results = await read(batches, kept)
        assert results[:1] == first
        assert [one.outcome for one in results] == [Outcome.SUCCEEDED] * 4
        assert kept.summary is not None
        assert kept.summary.wall_ns == 40 * SECOND
        assert world.intake.open_batches == 0


@virtual_time
@pytest.mark.parametrize("in_order", [False, True])
async def test_news_reaches_every_call(in_order: bool) -> None:
    """A nudge wakes a call once without a result, in order too, and is there for a call that is attached later."""
    async with World(ScriptedBackend(default=second(10))) as world:
        batches = store(world)
        kept = create(batches, 1)
        with batches.attached(kept):
            early = CallCursor(kept.log, in_order=in_order, deltas=False)
            waiting = asyncio.ensure_future(early.wait(5))
            await asyncio.sleep(1)
            assert not waiting.done()
            kept.log.nudge()
            assert await waiting
            late = CallCursor(kept.log, in_order=in_order, deltas=False)
            for cursor in (early, late):
                assert await cursor.wait(0)
                assert cursor.take().results == []
                assert not await cursor.wait(1)


@virtual_time
async def test_nobody_comes_back() -> None:
    """After `keep_s` without a call, what is unfinished is cancelled, and key and memory are free again."""
    backend = ScriptedBackend(default=second(10), default_cap=1)
    async with World(backend) as world:
        batches = store(world)
        kept = create(batches, 4, keep_s=25.0)
        await read(batches, kept, 1)
        await asyncio.sleep(24.9)
        assert (kept.log.count, kept.batch.unfinished) == (3, 1)
        await asyncio.sleep(0.2)
        assert (batches.find("default", "r"), batches.kept_bytes, kept.batch.unfinished) == (None, 0, 0)
        assert backend.cancelled == 1
        create(batches, 1)


@virtual_time
async def test_time_stands_still_while_a_call_is_attached() -> None:
    """The time runs from the last call's leaving, be the batch running or over."""
    async with World(ScriptedBackend(default=second(100))) as world:
        batches = store(world)
        kept = create(batches, 1, keep_s=5.0)
        both = [asyncio.ensure_future(read(batches, kept)) for _ in range(2)]
        await asyncio.sleep(50)
        both[0].cancel()
        await asyncio.sleep(49)
        assert len(await both[1]) == 1
        await asyncio.sleep(4.9)
        assert len(await read(batches, kept)) == 1
        await asyncio.sleep(4.9)
        assert batches.find("default", "r") is kept
        await asyncio.sleep(0.2)
        assert batches.find("default", "r") is None


@virtual_time
async def test_keys() -> None:
    """Tenant and request_id name a batch; the same key with another payload is refused, another tenant's is another."""
    async with World(ScriptedBackend()) as world:
        batches = store(world)
        mine = create(batches, 1, tenant="a")
        other = create(batches, 1, tenant="b")
        assert (batches.find("a", "r"), batches.find("b", "r"), batches.find("default", "r")) == (mine, other, None)
        batches.attach(mine, b"digest")
        with pytest.raises(RefusedError) as raised:
            batches.attach(mine, b"another")
        assert raised.value.reason is Reason.REQUEST_EXISTS


@virtual_time
async def test_most_batches() -> None:
    """At the limit another is refused, saying when one expires, unless one was read to its end: that one goes."""
    async with World(ScriptedBackend(default=second(1))) as world:
        batches = store(world, limit=2)
        one, two = create(batches, 1, "one"), create(batches, 1, "two", keep_s=30.0)
        assert (refusal(batches).reason, refusal(batches).retry_after_ns) == (Reason.KEPT_FULL, 10 * SECOND)
        await read(batches, one)
        await read(batches, two)
        await asyncio.sleep(10)
        assert refusal(batches).retry_after_ns == 20 * SECOND
        one.spent = two.spent = True
        create(batches, 1, "three")
        assert batches.find("default", "one") is None
        assert batches.find("default", "two") is two


@virtual_time
async def test_full_of_results() -> None:
    """Full of results, what was read to its end goes first; then running batches are held, until there is room."""
    async with World(ScriptedBackend(default=large, default_cap=2)) as world:
        batches = store(world, results_limit_bytes=120_000)
        spent = create(batches, 5, "spent")
        await read(batches, spent)
        spent.spent = True
        wanted = create(batches, 4, "wanted", keep_s=200.0)
        await read(batches, wanted)
        assert batches.find("default", "spent") is spent
        running = create(batches, 12, "running")
        reading = asyncio.ensure_future(read(batches, running))
        await asyncio.sleep(30)
        assert (batches.find("default", "spent"), batches.find("default", "wanted")) == (None, wanted)
        assert 120_000 <= batches.kept_bytes < 150_000
        assert (running.batch.in_flight, running.summary) == (0, None)
        assert refusal(batches).reason is Reason.KEPT_FULL
        await asyncio.sleep(175)
        results = await reading
        assert sorted(one.index for one in results) == list(range(12))
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}


@virtual_time
async def test_a_tenant_at_its_own_bound_keeps_out_nobody_else() -> None:
    """By count: its own read batch goes first, another of its own is refused by setting and time, others are not."""
    tenants = {"greedy": TenantSettings(kept_limit=2)}
    async with World(ScriptedBackend(default=second(1)), tenants=tenants) as world:
        batches = store(world, limit=5)
        modest = create(batches, 1, "mine", tenant="modest")
        await read(batches, modest)
        modest.spent = True
        one = create(batches, 1, "one", tenant="greedy")
        two = create(batches, 1, "two", tenant="greedy", keep_s=30.0)
        with pytest.raises(RefusedError, match="2 batches are kept, the most this tenant may have") as raised:
            create(batches, 1, "three", tenant="greedy")
        assert raised.value.reason is Reason.KEPT_FULL
        assert "EXPRESSLANE_TENANTS__GREEDY__KEPT_LIMIT" in raised.value.message
        await read(batches, one)
        assert batches.kept("greedy") == Amount(2, one.log._bytes + two.log._bytes)
        one.spent = True
        create(batches, 1, "three", tenant="greedy")
        assert (batches.find("greedy", "one"), batches.find("modest", "mine")) == (None, modest)
        create(batches, 1, "other", tenant="modest")
        assert (batches.kept("greedy").count, batches.kept("modest").count, batches.kept().count) == (2, 2, 4)


@virtual_time
async def test_room_is_made_of_the_tenants_own_first() -> None:
    """At the bound of all, who wants room gives up its own read batch before another tenant's older one does."""
    async with World(ScriptedBackend(default=second(1))) as world:
        batches = store(world, limit=2)
        older, own = create(batches, 1, "a", tenant="modest"), create(batches, 1, "b", tenant="greedy")
        for kept in (older, own):
            await read(batches, kept)
            kept.spent = True
        create(batches, 1, "c", tenant="greedy")
        assert (batches.find("modest", "a"), batches.find("greedy", "b")) == (older, None)
        create(batches, 1, "d", tenant="greedy")
        assert batches.find("modest", "a") is None


@virtual_time
async def test_a_tenant_full_of_results_is_held_alone() -> None:
    """By bytes: only batches of the tenant whose results fill its bound are held and refused; expiry lets it go on."""
    tenants = {"greedy": TenantSettings(kept_results_limit_bytes=60_000)}
    async with World(ScriptedBackend(default=large, default_cap=2), tenants=tenants) as world:
        batches = store(world)
        old = create(batches, 4, "old", tenant="greedy", keep_s=100.0)
        await read(batches, old)
        running = create(batches, 12, "running", tenant="greedy")
        reading = asyncio.ensure_future(read(batches, running))
        await asyncio.sleep(30)
        assert (running.batch.in_flight, running.summary) == (0, None)
        assert 60_000 <= batches.kept("greedy").bytes < 90_000
        with pytest.raises(RefusedError, match="EXPRESSLANE_TENANTS__GREEDY__KEPT_RESULTS_LIMIT_BYTES") as raised:
            create(batches, 1, "late", tenant="greedy")
        assert raised.value.retry_after_ns == pytest.approx(70 * SECOND, abs=SECOND)
        modest = create(batches, 12, "modest", tenant="modest")
        assert len(await read(batches, modest)) == 12
        await asyncio.sleep(80)
        assert batches.find("greedy", "old") is None
        assert running.batch.tally.finished > 4
        world.intake.cancel(running.batch)
        await reading


@virtual_time
async def test_a_cancelled_batch_is_the_first_to_go() -> None:
    """Cancelled by name, what is unfinished ends in-band, once; results stay until room is needed."""
    backend = ScriptedBackend(default=second(10), default_cap=1)
    async with World(backend) as world:
        batches = store(world, limit=1)
        kept = create(batches, 4)
        results = await read(batches, kept, 1)
        for _ in range(2):
            assert batches.cancel_named("default", "r") is kept
        assert (kept.batch.unfinished, kept.batch.in_flight) == (1, 1)
        results = await read(batches, kept)
        assert [one.outcome for one in results] == [Outcome.SUCCEEDED] + [Outcome.CANCELLED] * 3
        assert {one.error.reason for one in results if one.error} == {Reason.CANCELLED}
        assert kept.summary is not None
        assert kept.summary.state is BatchState.CANCELLED
        assert batches.cancel_named("default", "r").summary is kept.summary
        create(batches, 1, "another")
        for tenant, request_id in (("default", "r"), ("other", "another"), ("default", "never")):
            with pytest.raises(RefusedError) as raised:
                batches.cancel_named(tenant, request_id)
            assert raised.value.reason is Reason.UNKNOWN_REQUEST


@virtual_time
async def test_in_order_from_wherever_it_stands() -> None:
    """A call that asks for the order of the request gets it, whenever it attaches and however prompts end."""
    async with World(ScriptedBackend(default_cap=1)) as world:
        batches = store(world)
        world.backends[0].plays = [second(5), *[second(1)] * 3]
        kept = create(batches, 4)
        waiting = asyncio.ensure_future(read(batches, kept, in_order=True))
        results = await read(batches, kept)
        assert [one.index for one in await waiting] == [0, 1, 2, 3]
        assert [one.index for one in await read(batches, kept, in_order=True)] == [0, 1, 2, 3]
        assert len(results) == 4


@virtual_time
async def test_output_from_its_beginning() -> None:
    """A call that attaches in mid-answer gets what it missed as one piece, then the rest; one that comes late, all."""

    async def pieces(_call: Call, answer: Answer) -> None:
        for piece in ("a", "b", "c"):
            await asyncio.sleep(1)
            answer.push(piece, piece.upper())

    async with World(ScriptedBackend(default=pieces)) as world:
        batches = store(world)
        kept = create(batches, 1, stream_deltas=True)

        async def texts(*, ends: int = 1) -> list[tuple[str, str]]:
            seen = []
            cursor = CallCursor(kept.log, in_order=False, deltas=True)
            with batches.attached(kept):
                while not (cursor.closed and cursor.empty):
                    assert await cursor.wait(100)
                    parcel = cursor.take()
                    seen += [("".join(one.text), "".join(one.reasoning)) for one in parcel.deltas]
                    ends -= len(parcel.results)
            assert ends == 0
            return seen

        first = asyncio.ensure_future(texts())
        await asyncio.sleep(2.5)
        second_call = asyncio.ensure_future(texts())
        assert await first == [("a", "A"), ("b", "B"), ("c", "C")]
        assert await second_call == [("ab", "AB"), ("c", "C")]
        assert await texts() == [("abc", "ABC")]
        assert kept.log.live == {}


@virtual_time
async def test_a_stopping_service_ends_it() -> None:
    """What is kept finishes while the service drains; what is left in the end is cancelled, in-band."""
    async with World(ScriptedBackend(default=second(10), default_cap=1)) as world:
        batches = store(world)
        kept = create(batches, 3)
        await read(batches, kept, 1)
        world.intake.drain()
        await asyncio.sleep(5)
        assert (kept.log.count, world.intake.open_batches) == (1, 1)
        world.intake.stop_all("the service is stopping")
        results = await read(batches, kept)
        assert [one.outcome for one in results] == [Outcome.SUCCEEDED] + [Outcome.CANCELLED] * 2
        assert {one.error.reason for one in results if one.error} == {Reason.DRAINING}
        await world.intake.idle()


async def test_digest() -> None:
    """The digest tells apart whatever changes the prompts or the failure rules, and nothing else."""
    plain = BatchOptions("r")
    asked = [(prompt("a", "one"), 3), (prompt("b", "two"), 3)]
    digest = await payload_digest(asked, plain)
    delivered_otherwise = BatchOptions("q", keep_s=9.0, stream_deltas=True, reorder_window=7, heartbeat_s=1.0)
    assert await payload_digest(list(asked), delivered_otherwise) == digest
    others = [
        await payload_digest(asked[::-1], plain),
        await payload_digest(asked[:1], plain),
        await payload_digest([(prompt("a", "on"), 3), (prompt("b", "etwo"), 3)], plain),
        await payload_digest([(prompt("a", "one", model="n"), 3), asked[1]], plain),
        await payload_digest(asked, BatchOptions("r", fail_fast=True)),
        await payload_digest(asked, BatchOptions("r", max_failure_rate=0.5)),
    ]
    assert len({digest, *others}) == 7
