"""What may be held for a tenant changes while the service runs: each bound, at once, for what waits too (T11)."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from expresslane.cli.parser import TENANT_LIMITS
from expresslane.settings import TenantDefaults, TenantSettings
from expresslane_client import Client, Prompt, RefusedError
from expresslane_client.v1 import admin_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from tests.support.fake_backend import FakeBackend, Script
from tests.support.fake_backend.adapter import until
from tests.support.service import Service, backend, simulated_service

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from expresslane_client import Tenant

LIMITS = sorted(set(TenantDefaults.model_fields) - {"weight", "max_class"})
"""Every setting of a tenant that limits something, 0 for no limit."""


async def update(service: Service, **changes: Any) -> Tenant:
    """Change the tenant."""
    return await service.client.update_tenant("acme", **changes)


def caller(service: Service) -> Client:
    """A client of the tenant whose bounds change."""
    return Client(service.address, tenant="acme")


async def refused(call: Awaitable[Any]) -> str:
    """The reason for which a call is refused."""
    with pytest.raises(RefusedError) as raised:
        await call
    assert raised.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    return raised.value.reason


def test_every_limit_can_be_changed_everywhere() -> None:
    """The contract, the client and the command line have each setting of a tenant."""
    fields = {field.name for field in admin_pb2.Tenant.DESCRIPTOR.fields}
    parameters = set(inspect.signature(Client.update_tenant).parameters)
    assert set(TenantDefaults.model_fields) <= fields & parameters
    assert sorted(TENANT_LIMITS) == LIMITS


@pytest.mark.parametrize("limit", LIMITS)
async def test_each_limit_is_changed_and_shown(limit: str) -> None:
    """A new value is in force and shown, one out of range is refused by name with all that came with it."""
    low, high = TenantDefaults.range_of(limit)
    async with simulated_service(tenants={"acme": TenantSettings.model_validate({limit: 7})}) as service:

        async def change(value: int, weight: int) -> Tenant:
            return await update(service, weight=weight, **{limit: value})

        for wrong in (low - 1, *([high + 1] if high < 2**63 - 1 else [])):
            with pytest.raises(RefusedError, match=rf"tenant\.{limit}: {wrong} is out of range"):
                await change(wrong, 5)
        (before,) = (await service.client.get_snapshot()).tenants
        assert (getattr(before, limit), before.weight) == (7, 1)
        after = await change(high, 5)
        assert (getattr(after, limit), after.weight) == (high, 5)
        unset = await update(service, weight=6)
        assert (getattr(unset, limit), unset.weight) == (high, 6)
        message = admin_pb2.Tenant(tenant="acme", weight=7)
        request = admin_pb2.UpdateTenantRequest(
            tenant=message, update_mask=FieldMask(paths=["weight", limit, "open_batches"])
        )
        with pytest.raises(grpc.aio.AioRpcError, match="'open_batches' cannot be changed"):
            await service.client.admin.UpdateTenant(request)
        (last,) = (await service.client.get_snapshot()).tenants
        assert (getattr(last, limit), last.weight) == (high, 6)


async def test_open_calls() -> None:
    """One call too many is refused, and let in once the bound is raised."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service, caller(service) as client:
        fake.on(lambda _: Script(before_headers=gate))
        await update(service, max_open_calls=1)
        first = asyncio.ensure_future(client.collect_batch(["x"]))
        await fake.wait_for_generations(1)
        assert await refused(client.collect_batch(["x"])) == "TOO_MANY_CALLS"
        assert (await update(service, max_open_calls=2)).max_open_calls == 2
        second = asyncio.ensure_future(client.collect_batch(["x"]))
        await fake.wait_for_generations(2)
        gate.set()
        assert [(await one).results[0].ok for one in (first, second)] == [True, True]


async def test_open_sessions() -> None:
    """A session too many of a tenant is refused by the setting's name; its calls and others' sessions are not."""
    async with simulated_service(max_open_sessions=3) as service, caller(service) as client:
        await update(service, max_open_sessions=1)
        async with client.stream_prompts() as first:
            await first.send("x")
            assert [(await anext(first)).ok] == [True]
            with pytest.raises(RefusedError, match="EXPRESSLANE_TENANTS__ACME__MAX_OPEN_SESSIONS") as raised:
                await one_prompt(client)
            assert (raised.value.reason, raised.value.code) == ("TOO_MANY_CALLS", grpc.StatusCode.RESOURCE_EXHAUSTED)
            assert (await client.collect_batch(["x"])).results[0].ok
            assert await one_prompt(service.client)
            shown = await update(service, max_open_sessions=2)
            assert (shown.holdings.open_sessions, shown.max_open_sessions) == (1, 2)
            assert await one_prompt(client)
            assert (await service.client.get_snapshot()).holdings.open_sessions >= 1
        await until(lambda: service.app.sessions.total == 0)


async def one_prompt(client: Client) -> bool:
    """Whether a session of its own answers one prompt."""
    async with client.stream_prompts() as session:
        await session.send("x")
        await session.done_sending()
        return [result.ok async for result in session] == [True]


async def test_jobs_and_kept_batches() -> None:
    """A tenant that has some already goes by the new bounds: by number and by bytes, lowered and raised."""
    async with simulated_service() as service, caller(service) as client:
        job = await client.create_job(["x"])
        await client.generate_batch(["x"], keep_s=60, request_id="one").collect()
        await until(lambda: not service.app.intake.open_batches)
        for limits in ({"job_limit": 1}, {"job_limit": 0, "job_results_limit_bytes": 1}):
            await update(service, **limits)
            assert await refused(client.create_job(["x"])) == "JOBS_FULL"
        await update(service, job_results_limit_bytes=0)
        await client.delete_job((await client.create_job(["x"])).name)
        service.app.kept.find("acme", "one").spent = False  # type: ignore[union-attr]
        await update(service, kept_limit=1)
        second = client.generate_batch(["x"], keep_s=60, request_id="two")
        assert await refused(anext(second)) == "KEPT_FULL"
        await update(service, kept_limit=2)
        assert [one.ok async for one in client.generate_batch(["x"], keep_s=60, request_id="two")] == [True]
        await client.delete_job(job.name)


async def test_a_job_that_is_held_goes_on() -> None:
    """A job is held while its tenant's results fill their bound, and goes on once that is raised."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service, caller(service) as client:
        await update(service, job_results_limit_bytes=1_000)
        job = await client.create_job([Prompt(str(number), "x") for number in range(5)])
        await until(lambda: service.app.jobs.kept("acme").bytes > 0)
        await until(lambda: service.app.scheduling.snapshot().in_flight == 0)
        assert service.app.jobs.kept("acme").bytes > 1_000
        before = len(fake.generations)
        assert before < 5
        await update(service, job_results_limit_bytes=10**9)
        assert [one.ok async for one in client.watch_job(job.name)] == [True] * 5


async def test_results_that_wait_for_slow_readers() -> None:
    """What is held for its slow reader is released once the tenant's bound is raised."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service, caller(service) as client:
        unread = service.app.intake.tenants.find("acme").unread
        unread.add(10, 1_000)
        for limits in ({"unread_limit_results": 10}, {"unread_limit_results": 0, "unread_limit_bytes": 1_000}):
            await update(service, **limits)
            assert await refused(client.collect_batch(["x"])) == "UNREAD_FULL"
        await update(service, unread_limit_bytes=10_000)
        assert (await client.collect_batch(["x"])).results[0].ok
        unread.add(-10, -1_000)


@pytest.mark.parametrize("bound", [{"queue_limit_prompts": 2}, {"queue_limit_bytes": 250}])
async def test_a_session_that_waits_for_room(bound: dict[str, int]) -> None:
    """Its prompts come in as soon as the tenant's bound is raised, before any other has ended."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service, caller(service) as client:
        fake.on(lambda _: Script(before_headers=gate))
        async with client.stream_prompts() as session:
            for number in range(2):
                await session.send(Prompt(f"before {number}", "x" * 100))
            await fake.wait_for_generations(2)
            await update(service, **bound)
            for number in range(2):
                await session.send(Prompt(f"after {number}", "x" * 100))
            await session.done_sending()
            await until(lambda: bool(service.app.intake.room._waiting))
            assert len(fake.generations) == 2
            await update(service, **dict.fromkeys(bound, 10**6))
            await fake.wait_for_generations(4)
            gate.set()
            assert [one.ok async for one in session] == [True] * 4


async def test_the_longest_wait_is_shown() -> None:
    """The bound in time is in the snapshot where there is one."""
    async with simulated_service() as service:
        assert (await service.client.get_snapshot()).queue_time_limit_ms is None
    async with simulated_service(queue_limit_s=2.5) as service:
        assert (await service.client.get_snapshot()).queue_time_limit_ms == 2_500.0
