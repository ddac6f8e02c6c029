"""What callers can fill: places of calls, unread results, kept batches, jobs; each bounded for a tenant and in all.

Bounds of the queue: test_service_refusals.py and test_service_tenants.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from expresslane.holdings import OTHERS
from expresslane.settings import TenantDefaults, TenantSettings
from expresslane_client import Client, Outcome, Prompt, RefusedError
from expresslane_client.errors import from_rpc_error
from expresslane_client.v1 import inference_pb2 as pb
from expresslane_client.v1 import types_pb2
from grpc import aio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from tests.support.fake_backend import FakeBackend, Script
from tests.support.fake_backend.adapter import until
from tests.support.service import Service, backend, simulated_service
from tests.support.virtual_service import VirtualBackend, VirtualService
from tests.support.virtual_sockets import virtual_sockets

if TYPE_CHECKING:
    from collections.abc import Sequence

METHODS = [
    "Inference/GenerateBatch",
    "Inference/CollectBatch",
    "Inference/Generate",
    "Inference/StreamPrompts",
    "Inference/CancelBatch",
    "Jobs/CreateJob",
    "Jobs/WatchJob",
    "Admin/GetSnapshot",
]
SILENT = 300
CAP = 4
ANSWER = "y" * 100_000


def silent_call(channel: aio.Channel, method: str, tenant: str) -> Any:
    """A call that sends nothing, and does not say either that nothing will come."""
    return channel.stream_stream(f"/expresslane.v1.{method}")(metadata=(("x-expresslane-tenant", tenant),))


async def refusal(call: Any) -> RefusedError:
    """How a call is refused."""
    with pytest.raises(aio.AioRpcError) as raised:
        await call.read()
    error = from_rpc_error(raised.value)
    assert isinstance(error, RefusedError)
    return error


def caller(service: Service, tenant: str) -> Client:
    """A client of one tenant."""
    return Client(service.address, tenant=tenant)


async def ended(service: Service, calls: Sequence[Any]) -> None:
    """Leave these calls, and wait until nothing of them is left."""
    for call in calls:
        call.cancel()
    await until(lambda: service.app.door.open_calls.total == 0)
    await service.app.scheduling.idle()
    unread = service.app.intake.tenants.unread
    assert (unread.results, unread.bytes, unread.holders) == (0, 0, 0)


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_that_says_nothing(method: str) -> None:
    """Its place is kept for its first message for a time, of every method; then it is told why it has lost it."""
    async with (
        simulated_service(first_message_timeout_s=0.05) as service,
        aio.insecure_channel(service.address) as channel,
    ):
        error = await refusal(silent_call(channel, method, "default"))
        assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "FIRST_MESSAGE_TIMEOUT")
        assert "EXPRESSLANE_FIRST_MESSAGE_TIMEOUT_S" in error.message
        await until(lambda: service.app.door.open_calls.total == 0)


async def test_many_calls_that_say_nothing() -> None:
    """They fill their own tenant's places and no others', and end by themselves: then the tenant is served again."""
    defaults = TenantDefaults(max_open_calls=SILENT // 2)
    settings = {"tenant_defaults": defaults, "max_open_calls": SILENT, "first_message_timeout_s": 5.0}
    async with (
        simulated_service(**settings) as service,
        aio.insecure_channel(service.address) as channel,
        caller(service, "silent") as silent,
        caller(service, "busy") as busy,
    ):
        calls = [silent_call(channel, METHODS[number % 5], "silent") for number in range(SILENT)]
        codes = asyncio.gather(*(call.code() for call in calls))
        await until(lambda: service.app.door.open_calls.of("silent") == SILENT // 2)
        with pytest.raises(RefusedError, match="EXPRESSLANE_TENANT_DEFAULTS__MAX_OPEN_CALLS") as raised:
            await silent.collect_batch(["x"])
        assert raised.value.reason == "TOO_MANY_CALLS"
        assert (await busy.collect_batch(["x"])).results[0].ok
        assert {code.name for code in await codes} == {"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
        await until(lambda: service.app.door.open_calls.total == 0)
        assert (await silent.collect_batch(["x"])).results[0].ok


@virtual_sockets
async def test_a_session_that_has_begun_may_be_silent() -> None:
    """The time is for the first message only: a session with its configuration may wait for its first prompt."""
    settings = {"first_message_timeout_s": 0.05, "heartbeat_s": 0.02}
    async with VirtualBackend() as fake, VirtualService(fake=backend(fake.url), **settings) as service:
        call: Any = service.client.inference.StreamPrompts()
        await call.write(pb.StreamPromptsRequest(config=pb.BatchConfig()))
        heartbeats = 0
        while heartbeats < 5:
            message = await call.read()
            heartbeats += any(event.HasField("progress") for event in message.events)
        await call.write(pb.StreamPromptsRequest(prompts=[types_pb2.Prompt(custom_id="a", text="x")]))
        await call.done_writing()
        while not message.HasField("summary"):
            message = await call.read()
        assert message.summary.succeeded == 1


async def unread_batches(client: Client, count: int) -> list[Any]:
    """Calls of large answers that read nothing but their acceptance."""
    prompts = [types_pb2.Prompt(custom_id=str(number), text="large") for number in range(LARGE)]
    calls: list[Any] = []
    for _ in range(count):
        call: Any = client.inference.GenerateBatch(
            pb.GenerateBatchRequest(prompts=prompts), metadata=client._call_metadata()
        )
        await call.read()
        calls.append(call)
    return calls


async def refused_at_last(client: Client) -> RefusedError:
    """Why a call is refused, once the buffers of the network are full and results begin to wait in the service."""
    while True:
        try:
            await client.collect_batch([Prompt("a", "x", max_tokens=1)])
        except RefusedError as error:
            return error


LARGE = 200
UNREAD: dict[str, dict[str, Any]] = {
    "results of a tenant": {"tenants": {"slow": TenantSettings(unread_limit_results=10)}},
    "bytes of a tenant": {"tenants": {"slow": TenantSettings(unread_limit_bytes=10 * len(ANSWER))}},
    "results of all": {"unread_limit_results": 10},
    "bytes of all": {"unread_limit_bytes": 10 * len(ANSWER)},
}


@pytest.mark.parametrize("cell", UNREAD)
async def test_results_that_nobody_reads(cell: str) -> None:
    """At the bound the tenant's batches are held, its calls refused; others are served; Admin shows it (A16, A28)."""
    async with (
        FakeBackend(keep=False) as fake,
        Service(fake=backend(fake.url, cap=CAP), **UNREAD[cell]) as service,
        caller(service, "slow") as slow,
        caller(service, "quick") as quick,
    ):
        gate = asyncio.Event()
        fake.on(
            lambda request: Script(text=ANSWER, pieces=1, before_headers=gate) if b"large" in request.body else None
        )
        calls = await unread_batches(slow, 4)
        gate.set()
        unread = service.app.intake.tenants.find("slow").unread
        await until(lambda: unread.pressed)
        now = await service.client.get_snapshot()
        assert now.queued > 0
        (tenant,) = (one for one in now.tenants if one.tenant == "slow")
        assert (tenant.holdings.unread_results, tenant.holdings.unread_bytes) == (
            now.holdings.unread_results,
            now.holdings.unread_bytes,
        )
        assert now.holdings.unread_results <= 10 + 4 * CAP  # what each of four batches had in flight comes on top
        assert now.holdings.unread_bytes == now.holdings.unread_results * len(ANSWER)
        refused = await refused_at_last(slow)
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "UNREAD_FULL")
        assert "UNREAD_LIMIT_" in refused.message
        assert refused.retry_after_s
        results = [one async for one in quick.generate_batch([f"small {number}" for number in range(100)])]
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
        seen: list[int] = []
        while not (message := await calls[0].read()).HasField("summary"):
            seen += [one.index for one in message.results]
        assert sorted(seen) == list(range(LARGE))
        await ended(service, calls)
        assert [one.ok async for one in slow.generate_batch(["x"])] == [True]


@pytest.mark.parametrize("whose", ["tenant", "all"])
async def test_what_a_session_sends_is_counted(whose: str) -> None:
    """A session's prompts fill the queue, or its tenant's part, in bytes: calls are refused, its own prompts wait."""
    own: dict[str, Any] = {"tenants": {"slow": TenantSettings(queue_limit_bytes=3_000)}}
    settings = own if whose == "tenant" else {"queue_limit_bytes": 3_000}
    setting = {"tenant": "EXPRESSLANE_TENANTS__SLOW__QUEUE_LIMIT_BYTES", "all": "EXPRESSLANE_QUEUE_LIMIT_BYTES"}[whose]
    others = "x" * {"tenant": 3_000, "all": 900}[whose]
    gate = asyncio.Event()
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url), **settings) as service,
        caller(service, "slow") as slow,
        caller(service, "quick") as quick,
    ):
        fake.on(lambda request: Script(before_headers=gate) if b"held" in request.body else None)
        async with slow.stream_prompts() as session:
            await session.send(Prompt("a", "held " * 400))
            await fake.wait_for_generations(1)
            await session.send(Prompt("b", "held " * 400))
            with pytest.raises(RefusedError) as refused:
                await slow.collect_batch([Prompt("c", "x" * 2_000, max_tokens=1)])
            assert refused.value.reason == "QUEUE_FULL"
            assert setting in str(refused.value)
            assert (await quick.collect_batch([Prompt("q", others, max_tokens=1)])).results[0].ok
            assert len(fake.generations) == 2
            gate.set()
            await session.done_sending()
            assert [(one.custom_id, one.ok) async for one in session] == [("a", True), ("b", True)]


async def test_jobs_and_kept_batches_of_a_tenant() -> None:
    """One tenant at its bounds is refused by the settings' names, others are not; Admin shows what each has (A28)."""
    defaults = TenantDefaults(job_limit=1, kept_limit=1)
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url), tenant_defaults=defaults) as service,
        caller(service, "greedy") as greedy,
        caller(service, "modest") as modest,
    ):
        gate = asyncio.Event()
        fake.on(lambda _: Script(before_headers=gate))
        await greedy.create_job(["x"])
        kept = greedy.generate_batch(["x"], keep_s=60, request_id="one")
        reading = asyncio.ensure_future(anext(kept))
        await fake.wait_for_generations(2)
        with pytest.raises(RefusedError, match="EXPRESSLANE_TENANT_DEFAULTS__JOB_LIMIT") as raised:
            await greedy.create_job(["x"])
        assert raised.value.reason == "JOBS_FULL"
        with pytest.raises(RefusedError, match="EXPRESSLANE_TENANT_DEFAULTS__KEPT_LIMIT") as raised:
            await anext(greedy.generate_batch(["x"], keep_s=60, request_id="two"))
        assert raised.value.reason == "KEPT_FULL"
        await modest.create_job(["x"])
        gate.set()
        assert (await reading).ok
        assert [one.ok async for one in modest.generate_batch(["x"], keep_s=60, request_id="one")] == [True]
        now = await service.client.get_snapshot()
        assert (now.holdings.jobs, now.holdings.kept_batches) == (2, 2)
        parts = {one.tenant: (one.holdings.jobs, one.holdings.kept_batches) for one in now.tenants}
        assert (parts["greedy"], parts["modest"]) == ((1, 1), (1, 1))
        assert now.holdings.kept_result_bytes > 1_024


async def test_metrics_of_what_is_held() -> None:
    """A tenant with settings has a label of its own, names that only callers say have one together (A28)."""
    reader = InMemoryMetricReader()
    service = simulated_service(tenants={"acme": TenantSettings()})
    provider = MeterProvider([reader], shutdown_on_exit=False)
    service._telemetry = dataclasses.replace(service._telemetry, meter_provider=provider)
    async with service, caller(service, "acme") as acme, caller(service, "x") as one, caller(service, "y") as two:
        for client in (acme, one, two):
            await client.create_job(["x"])
            await client.generate_batch(["x"], keep_s=60, request_id="one").collect()
        service.app.intake.tenants.find("x").unread.add(5, 500)
        service.app.intake.tenants.find("acme").unread.add(2, 200)
        async with two.stream_prompts() as session:
            await until(lambda: service.app.door.open_calls.total == 1)
            data = reader.get_metrics_data()
            await session.done_sending()
    assert data is not None
    seen = {
        (metric.name.removeprefix("expresslane.held."), (point.attributes or {})["expresslane.tenant"]): point.value
        for metric in (m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics)
        if metric.name.startswith("expresslane.held.")
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint)
    }
    assert {tenant for _, tenant in seen} == {"acme", OTHERS}
    numbers = ("open_calls", "unread_results", "unread_bytes", "jobs", "kept_batches")
    assert [seen[name, "acme"] for name in numbers] == [0, 2, 200, 1, 1]
    assert [seen[name, OTHERS] for name in numbers] == [1, 5, 500, 2, 2]
    for size in ("job_result_bytes", "kept_result_bytes"):
        assert seen[size, OTHERS] == 2 * seen[size, "acme"] > 2_000
