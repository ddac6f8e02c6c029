"""Admin, health and reflection of a running service."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from expresslane_client import BatchState, Outcome, Prompt, RefusedError
from expresslane_client.v1 import admin_pb2 as pb
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.support.fake_backend import FakeBackend, Script
from tests.support.service import Service, backend


async def test_backends_in_pages() -> None:
    """Backends are listed by name, page by page, each once; the client follows the pages by itself."""
    async with FakeBackend() as fake:
        backends = {name: backend(fake.url) for name in ("delta", "alpha", "echo", "bravo", "charlie")}
        async with Service(**backends) as service:
            found: list[str] = []
            token, pages = "", 0
            while pages == 0 or token:
                request = pb.ListBackendsRequest(page_size=2, page_token=token)
                page = await service.client.admin.ListBackends(request)
                found += [one.name for one in page.backends]
                token, pages = page.next_page_token, pages + 1
            names = ["backends/alpha", "backends/bravo", "backends/charlie", "backends/delta", "backends/echo"]
            assert (found, pages) == (names, 3)
            assert [one.name for one in await service.client.list_backends()] == names
            past_the_end = await service.client.admin.ListBackends(pb.ListBackendsRequest(page_token="zulu"))
            assert (len(past_the_end.backends), past_the_end.next_page_token) == (0, "")


async def test_one_backend() -> None:
    """A backend shows its kind, models, caps and state, and never its credentials."""
    async with FakeBackend() as fake:
        url = fake.url.replace("http://", "http://user:sesame@")
        served = backend(url, "vllm", models=(("m", "org/m"),), model_caps={"m": 3}, api_key="sk-secret", cap=8)
        async with Service(fake=served) as service:
            found = await service.client.admin.GetBackend(pb.GetBackendRequest(name="backends/fake"))
            assert (found.kind, found.url.rstrip("/"), found.available) == ("vllm", fake.url, True)
            (model,) = found.models
            assert (model.model, model.backend_model, model.cap) == ("m", "org/m", 3)
            assert (found.cap, found.effective_cap, found.concurrency_enabled) == (8, 8, True)
            assert (found.lanes, found.long_threshold_tokens, found.long_slots) == (True, 16_384, 1)
            assert "secret" not in str(found)
            assert "sesame" not in str(found)


async def test_toggle_during_a_run() -> None:
    """Switched off by Admin in the middle of a batch, the rest goes one at a time and nothing is lost (T07, T12)."""
    first, second = asyncio.Event(), asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=5)) as service:
        fake.on(lambda _: Script(before_headers=first))
        call = service.client.generate_batch([Prompt(str(number), f"text {number}") for number in range(40)])
        reading = asyncio.ensure_future(anext(call))
        await fake.wait_for_generations(5)
        changed = await service.client.update_backend("fake", concurrency_enabled=False)
        assert (changed.concurrency_enabled, changed.effective_cap, changed.cap) == (False, 1, 5)
        assert (changed.in_flight, fake.in_flight) == (5, 5)
        fake.on(lambda _: Script(before_headers=second))
        first.set()
        results = [await reading] + [await anext(call) for _ in range(4)]
        await fake.wait_for_generations(6)
        assert (await service.client.get_snapshot()).in_flight == fake.in_flight == 1
        await service.client.update_backend("fake", concurrency_enabled=True, cap=3)
        await fake.wait_for_generations(8)
        assert (await service.client.get_snapshot()).in_flight == fake.in_flight == 3
        second.set()
        results += [one async for one in call]
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
        assert sorted(one.text for one in results) == sorted(f"echo text {number}" for number in range(40))
        assert fake.cancelled == 0


async def test_configured_off() -> None:
    """The same switch in the configuration starts a backend one at a time, until Admin turns it on (T08, T01)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=5, concurrency=False)) as service:
        assert (await service.client.get_backend("fake")).effective_cap == 1
        assert len([one async for one in service.client.generate_batch([str(n) for n in range(20)])]) == 20
        assert fake.peak == 1
        await service.client.update_backend("fake", concurrency_enabled=True)
        assert (await service.client.get_backend("fake")).effective_cap == 5


REFUSED = [
    (pb.Backend(name="backends/one", concurrency_enabled=True), ["concurrency_enabled"], "FAILED_PRECONDITION"),
    (
        pb.Backend(name="backends/one", concurrency_enabled=True, cap=0),
        ["cap", "concurrency_enabled"],
        "INVALID_ARGUMENT",
    ),
    (pb.Backend(name="backends/two"), ["concurrency_enabled"], "NOT_FOUND"),
    (pb.Backend(name="one", cap=2), ["cap"], "INVALID_ARGUMENT"),
    (pb.Backend(name="", cap=2), ["cap"], "INVALID_ARGUMENT"),
    (pb.Backend(name="backends/one", cap=2), [], "INVALID_ARGUMENT"),
    (pb.Backend(name="backends/one", cap=2), ["cap", "url"], "INVALID_ARGUMENT"),
    (pb.Backend(name="backends/one", cap=2), ["nonsense"], "INVALID_ARGUMENT"),
    (pb.Backend(name="backends/one", cap=0), ["cap"], "INVALID_ARGUMENT"),
    (pb.Backend(name="backends/one", cap=-1), ["cap"], "INVALID_ARGUMENT"),
    (pb.Backend(name="backends/one", cap=100_001), ["cap"], "INVALID_ARGUMENT"),
]


@pytest.mark.parametrize(("asked", "paths", "code"), REFUSED)
async def test_refused_update(asked: pb.Backend, paths: list[str], code: str) -> None:
    """A change that cannot be made is refused whole, with the reason, and changes nothing (T09)."""
    one_slot = FakeBackend(slots=1, models=("m",))
    async with one_slot as fake, Service(one=backend(fake.url, "llamacpp", concurrency=False)) as service:
        before = await service.client.admin.GetBackend(pb.GetBackendRequest(name="backends/one"))
        assert not before.can_run_concurrently
        request = pb.UpdateBackendRequest(backend=asked, update_mask=FieldMask(paths=paths))
        call = service.client.admin.UpdateBackend(request)
        assert (await call.code()).name == code
        assert await service.client.admin.GetBackend(pb.GetBackendRequest(name="backends/one")) == before


async def test_cap_and_switch_together() -> None:
    """A cap set in the same update lets the switch of a one-slot backend be turned on (T07, T09)."""
    async with (
        FakeBackend(slots=1, models=("m",)) as fake,
        Service(one=backend(fake.url, "llamacpp", concurrency=False)) as service,
    ):
        asked = pb.Backend(name="backends/one", cap=2, concurrency_enabled=True)
        mask = FieldMask(paths=["concurrency_enabled", "cap"])
        updated = await service.client.admin.UpdateBackend(pb.UpdateBackendRequest(backend=asked, update_mask=mask))
        assert (updated.cap, updated.effective_cap, updated.concurrency_enabled) == (2, 2, True)


@pytest.mark.parametrize("page_size", [-1, 1_001])
async def test_page_size_out_of_range(page_size: int) -> None:
    """A page size out of range is refused by name."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        call = service.client.admin.ListBackends(pb.ListBackendsRequest(page_size=page_size))
        assert (await call.code()).name == "INVALID_ARGUMENT"
        assert "page_size" in (await call.details() or "")


async def test_snapshot() -> None:
    """The snapshot's counters agree with each other at any moment, and show depth by class and model (A07, O07)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=2), policy="sjf-aged") as service:
        fake.on(lambda _: Script(before_headers=gate))
        call = service.client.generate_batch([str(number) for number in range(10)])
        reading = asyncio.ensure_future(anext(call))
        await fake.wait_for_generations(2)
        now = await service.client.admin.GetSnapshot(pb.GetSnapshotRequest())
        assert (now.policy, now.draining, now.open_batches) == ("sjf-aged", False, 1)
        assert (now.submitted, now.queued, now.in_flight, now.succeeded) == (10, 8, 2, 0)
        assert [one.queued for one in now.queued_by_class] == [0, 8, 0]
        assert dict(now.queued_by_model) == {"m": 8}
        assert now.queued_tokens == 8
        gate.set()
        await reading
        assert len([one async for one in call]) == 9
        now = await service.client.admin.GetSnapshot(pb.GetSnapshotRequest())
        assert (now.submitted, now.queued, now.in_flight, now.succeeded) == (10, 0, 0, 10)
        assert dict(now.backends[0].outcomes)["success"] == 10


async def health(service: Service, name: str = "") -> Any:
    """The health that the service tells."""
    stub: Any = health_pb2_grpc.HealthStub(service.client.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status


async def test_drain() -> None:
    """Drain refuses new work and turns health over at once; what was accepted is finished (T12)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.on(lambda _: Script(before_headers=gate))
        call = service.client.generate_batch(["a", "b", "c"])
        reading = asyncio.ensure_future(anext(call))
        await fake.wait_for_generations(1)
        async with service.client.stream_prompts(resume=False) as session, service.client.stream_prompts() as idle:
            await session.send(Prompt("early", "x"))
            while (await service.client.get_snapshot()).open_batches < 3 or not session.accepted:
                pass
            left = await service.client.drain()
            assert (left.queued, left.in_flight) == (3, 1)
            assert [one async for one in idle] == []
            assert idle.summary.state is BatchState.CANCELLED
            assert await health(service) == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(RefusedError) as raised:
                await service.client.collect_batch(["x"])
            assert (raised.value.code.name, raised.value.reason) == ("UNAVAILABLE", "DRAINING")
            assert raised.value.retry_after_s is not None
            await session.send(Prompt("late", "x"))
            refused = await anext(session)
            assert refused.error is not None
            assert (refused.error.reason, refused.error.retryable) == ("DRAINING", True)
            assert refused.error.retry_after_s == raised.value.retry_after_s
            await service.client.drain()
            gate.set()
            assert [one.custom_id async for one in session if one.ok] == ["early"]
            assert session.summary.state is BatchState.CANCELLED
        assert (await reading).ok
        assert [one.ok async for one in call] == [True, True]
        assert (await service.client.get_snapshot()).draining


async def test_health_turns_before_calls_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stops is NOT_SERVING first: until that is told a call is still let in, after it no more (T12)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        told: list[int] = []
        turn_over = service.app.server.not_serving

        async def turned_over() -> None:
            await turn_over()
            told.append(await health(service))
            (result,) = await service.client.generate_batch(["in time"]).collect()
            assert result.ok

        with monkeypatch.context() as patched:
            patched.setattr(service.app.server, "not_serving", turned_over)
            await service.app.drain()
        assert told == [health_pb2.HealthCheckResponse.NOT_SERVING]
        with pytest.raises(RefusedError, match="draining"):
            await service.client.collect_batch(["late"])


async def test_health() -> None:
    """Health is SERVING for the server and for each service, also while every backend is down."""
    async with FakeBackend() as fake:
        gone = fake.url
    async with Service(fake=backend(gone)) as service:
        for name in ("", "expresslane.v1.Inference", "expresslane.v1.Admin", "expresslane.v1.Jobs"):
            assert await health(service, name) == health_pb2.HealthCheckResponse.SERVING


def reflection(service: Service) -> Any:
    """A call to the reflection service."""
    channel: Any = service.client.channel
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    return stub.ServerReflectionInfo()


async def test_reflection() -> None:
    """Reflection lists our services and gives their descriptors."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        call = reflection(service)
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        names = {one.name for one in (await call.read()).list_services_response.service}
        ours = {"expresslane.v1.Inference", "expresslane.v1.Admin", "expresslane.v1.Jobs"}
        assert ours | {"grpc.health.v1.Health"} <= names
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol="expresslane.v1.Inference"))
        assert (await call.read()).file_descriptor_response.file_descriptor_proto
        await call.done_writing()
        assert (await call.code()).name == "OK"


async def test_reflection_switched_off() -> None:
    """Without reflection there is no such service."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url), reflection=False) as service:
        assert (await reflection(service).code()).name == "UNIMPLEMENTED"


async def test_simulated_answers_are_stamped() -> None:
    """Everything that a simulated backend makes up is stamped, and it serves no other model (G22)."""
    simulated = backend("", "simulated", models=(), simulated={"step_s": 0, "prefill_tokens_per_s": 1e9})
    async with Service(simulated=simulated) as service:
        call = service.client.generate_batch([Prompt("a", "hello"), Prompt("b", "hello", model="llama-8b")])
        results = {one.custom_id: one async for one in call}
        assert results["a"].simulated
        assert results["a"].ok
        assert results["b"].error is not None
        assert results["b"].error.reason == "UNKNOWN_MODEL"
        assert call.summary.simulated
        assert any("SIMULATED" in notice for notice in (await service.client.get_backend("simulated")).notices)
