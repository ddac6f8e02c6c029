"""What intake counts of a prompt: tokens for the order, bytes for the queue's bound."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from expresslane.batches.batch import BatchOptions
from expresslane.batches.held import Amount
from expresslane.errors import BackendError, Reason, RefusedError, status_code
from expresslane.fleet import Change
from expresslane.prompts import Prompt, RequestOptions
from expresslane.settings import TenantDefaults, TenantSettings

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.world import SECOND, ScriptedBackend, World, drain, prompt, second

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call


@virtual_time
async def test_what_counts_as_tokens() -> None:
    """What the model reads counts as tokens, tools and response format too; other parameters are bytes only."""
    async with World(ScriptedBackend()) as world:
        batch = world.intake.open(BatchOptions("r"), method="Test", prompts=1)
        options = RequestOptions(template_bytes=4_000, other_bytes=8_000)
        (ticket,) = world.intake.accept(batch, [(Prompt("a", "m", "x" * 400, options=options), 12_400)])
        assert (ticket.tokens, ticket.size_bytes) == (1_100, 12_400)
        await drain(world, batch)


@virtual_time
async def test_bytes_of_the_queue_are_given_back() -> None:
    """Prompts above the bytes of the queue are refused with a time to come back, until others end, however they do."""
    backend = ScriptedBackend(default=second(1_000), default_cap=1)
    async with World(backend) as world:
        for ending in ("close", "expire"):
            batch = world.submit([prompt(str(number), "x" * 300) for number in range(3)], queue_limit_bytes=1_000)
            with pytest.raises(RefusedError) as raised:
                world.submit([prompt("late", "x" * 300)], queue_limit_bytes=1_000)
            assert raised.value.reason is Reason.QUEUE_FULL
            assert raised.value.retry_after_ns is not None
            if ending == "expire":
                await drain(world, batch)
            world.intake.close(batch)
            await world.dispatcher.settled()
            assert world.intake._held.total == Amount()


@virtual_time
async def test_a_batch_above_the_bytes_of_the_queue() -> None:
    """A batch that the queue could never hold is refused for good, whatever waits."""
    async with World(ScriptedBackend()) as world:
        with pytest.raises(RefusedError) as raised:
            world.submit([prompt("a", "x" * 600), prompt("b", "x" * 600)], queue_limit_bytes=1_000)
        assert (raised.value.reason, raised.value.retry_after_ns) == (Reason.BATCH_TOO_LARGE, None)


@virtual_time
async def test_cancelled_prompts_make_room_and_are_no_work_done() -> None:
    """What is cancelled counts for the rate at which the queue gets room, not for that of finished prompts (A28)."""
    async with World(ScriptedBackend(default=second(0.5), default_cap=1)) as world:
        await world.run([prompt(str(number)) for number in range(60)])
        batch = world.submit([prompt(f"late {number}") for number in range(600)])
        world.intake.close(batch)
        await world.scheduling.idle()
        await world.run([prompt(f"more {number}") for number in range(4)])
        now = world.scheduling.snapshot()
        assert now.finish_rate_per_s == pytest.approx(2, rel=0.1)
        assert now.drain_rate_per_s > 10


@virtual_time
async def test_when_to_come_back_for_bytes() -> None:
    """The time to come back follows the measured rate at which prompts end; refused prompts are counted (A07, A26)."""
    backend = ScriptedBackend(default=second(0.5), default_cap=1)
    async with World(backend) as world:
        await world.run([prompt(str(number)) for number in range(60)])
        assert world.scheduling.snapshot().drain_rate_per_s == pytest.approx(2, rel=0.1)
        batch = world.submit([prompt(str(number), "x" * 100) for number in range(10)], queue_limit_bytes=1_000)
        with pytest.raises(RefusedError) as raised:
            world.submit([prompt(f"late {number}", "x" * 100) for number in range(4)], queue_limit_bytes=1_000)
        assert raised.value.retry_after_ns == pytest.approx(2 * SECOND, rel=0.1)
        assert world.scheduling.snapshot().refused == 4
        await drain(world, batch)
        world.intake.close(batch)


@virtual_time
async def test_when_to_come_back_for_a_batch() -> None:
    """With as many batches open as may be, the time to come back is that in which one more will have ended (A26)."""
    async with World(ScriptedBackend(default=second(4)), max_open_batches=1) as world:
        for number in range(20):
            await world.run([prompt(str(number))])
        batch = world.submit([prompt("last")])
        with pytest.raises(RefusedError) as raised:
            world.submit([prompt("late")])
        assert raised.value.reason is Reason.QUEUE_FULL
        assert raised.value.retry_after_ns == pytest.approx(4 * SECOND, rel=0.1)
        await drain(world, batch)
        world.intake.close(batch)


@virtual_time
async def test_a_full_queue_that_nothing_leaves() -> None:
    """P33: with its backend down, or its breaker open, a call that finds no room is told that."""

    async def breaks(_: Call, __: Answer) -> None:
        raise BackendError(Reason.BACKEND_ERROR, "it broke", retryable=True, http_status=500)

    backend = ScriptedBackend(default=breaks, default_cap=1)
    settings = {"breaker_min_samples": 1, "breaker_open_s": 50, "breaker_open_max_s": 50}
    async with World(backend, settings=settings, queue_limit=4, no_backend_timeout_ns=200 * SECOND) as world:
        batch = world.submit([prompt(name) for name in "abc"])
        session = world.submit([prompt("s")], is_open=True)
        await asyncio.sleep(10)

        def refusal(**options: Any) -> RefusedError:
            with pytest.raises(RefusedError) as raised:
                world.submit([prompt("late")], **options)
            return raised.value

        assert refusal(is_open=True).reason is Reason.QUEUE_FULL
        no_backend = refusal()
        assert (no_backend.reason, status_code(no_backend.reason)) == (Reason.NO_BACKEND, grpc.StatusCode.UNAVAILABLE)
        assert no_backend.message == (
            "no backend is available, and the queue is full, for the model 'm': "
            "backends/b: breaker open, 1 of 1 attempts failed, tried again in 40 s"
        )
        assert no_backend.retry_after_ns == 40 * SECOND
        world.fleet.members[0].available = False
        world.fleet.members[0].trouble = "nobody there"
        world.fleet.update(world.fleet.members[0], Change())
        down = refusal()
        assert (down.reason, down.retry_after_ns) == (Reason.NO_BACKEND, None)
        assert down.message.endswith("backends/b: nobody there")
        for one in (batch, session):
            world.intake.close(one)


@virtual_time
async def test_a_full_queue_of_a_backend_that_is_open() -> None:
    """A backend that is busy, or paused by a rate limit, is no reason for UNAVAILABLE; another model's is."""
    backend, other = ScriptedBackend(default=second(1_000), default_cap=1), ScriptedBackend("o", default_cap=1)
    async with World(backend, other, queue_limit=1) as world:
        world.fleet.members[1].available = False
        world.fleet.update(world.fleet.members[1], Change())
        batch = world.submit([prompt("a")])
        await asyncio.sleep(1)
        waiting = world.submit([prompt("b")])
        for _ in range(2):
            with pytest.raises(RefusedError) as raised:
                world.submit([prompt("late")])
            assert raised.value.reason is Reason.QUEUE_FULL
            world.scheduling.pause(0, waiting.models.copy().pop(), now_ns(), now_ns() + 100 * SECOND)
        for one in (batch, waiting):
            world.intake.close(one)


@virtual_time
async def test_a_tenants_own_bounds() -> None:
    """A tenant at its bounds is refused, by count and by bytes, while the others are not; what never fits, for good."""
    tenants = {"greedy": TenantSettings(queue_limit_prompts=3, queue_limit_bytes=1_000)}
    async with World(ScriptedBackend(default=second(1)), tenants=tenants) as world:
        batch = world.submit([prompt("a"), prompt("b", "x" * 600)], tenant="greedy")
        for late in ([prompt("c"), prompt("d")], [prompt("c", "x" * 600)]):
            with pytest.raises(RefusedError, match="of this tenant wait or run") as raised:
                world.submit(late, tenant="greedy")
            assert raised.value.reason is Reason.QUEUE_FULL
        for never in ([prompt(name) for name in "abcd"], [prompt("a", "x" * 1_001)]):
            with pytest.raises(RefusedError, match="ever wait or run of this tenant") as raised:
                world.submit(never, tenant="greedy")
            assert (raised.value.reason, raised.value.retry_after_ns) == (Reason.BATCH_TOO_LARGE, None)
        assert world.scheduling.snapshot().refused == 2 + 1 + 4 + 1
        other = world.submit([prompt("a"), prompt("b", "x" * 600)], tenant="modest")
        await asyncio.sleep(2)
        again = world.submit([prompt("c"), prompt("d", "x" * 600)], tenant="greedy")
        for one in (batch, other, again):
            await drain(world, one)
            world.intake.close(one)


@virtual_time
async def test_a_bound_of_the_defaults_is_named_as_such() -> None:
    """A tenant without settings of its own is refused by those of all tenants, and so is what it must not exceed."""
    async with World(ScriptedBackend(), tenant_defaults=TenantDefaults(queue_limit_prompts=1)) as world:
        with pytest.raises(RefusedError, match=r"\(1, EXPRESSLANE_TENANT_DEFAULTS__QUEUE_LIMIT_PROMPTS\)"):
            world.submit([prompt("a"), prompt("b")], tenant="t")


@virtual_time
async def test_a_refusal_takes_nothing() -> None:
    """What the core refuses does not count as held by its tenant."""
    async with World(ScriptedBackend(default=second(1)), queue_limit=2) as world:
        with pytest.raises(RefusedError, match=r"\(EXPRESSLANE_QUEUE_LIMIT_PROMPTS\); send it through StreamPrompts$"):
            world.submit([prompt(name) for name in "abc"], tenant="t")
        assert world.intake._held.of("t") == Amount()


@virtual_time
async def test_a_wait_above_the_bound() -> None:
    """What would wait longer than the bound is refused with a time to come back; alone too long, for good (A07)."""
    backend = ScriptedBackend(default=second(0.5), default_cap=1)
    async with World(backend, queue_limit_ns=10 * SECOND) as world:
        first = world.submit([prompt(str(number)) for number in range(40)])
        await drain(world, first, 20)
        with pytest.raises(RefusedError) as raised:
            world.submit([prompt("late")])
        assert raised.value.reason is Reason.QUEUE_FULL
        assert raised.value.message.endswith("than the 10.0 s that prompts may wait (EXPRESSLANE_QUEUE_LIMIT_S)")
        assert 0 < (raised.value.retry_after_ns or 0) < 5 * SECOND
        with pytest.raises(RefusedError) as raised:
            world.submit([prompt(f"late {number}") for number in range(40)])
        assert (raised.value.reason, raised.value.retry_after_ns) == (Reason.BATCH_TOO_LARGE, None)
        assert raised.value.message.endswith("(EXPRESSLANE_QUEUE_LIMIT_S); send it through StreamPrompts")
        session = world.submit([prompt(f"session {number}") for number in range(40)], is_open=True)
        assert session.unfinished == 40
        world.intake.close(session)
        await drain(world, first)
        world.intake.close(first)
        again = world.submit([prompt("late")])
        await drain(world, again)
        world.intake.close(again)
