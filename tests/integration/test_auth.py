"""Keys, roles, listeners, models and bounds of tenants, over gRPC."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from expresslane.auth.keys import new_key
from expresslane_client import Client, Outcome, Prompt, RefusedError
from expresslane_client.v1 import inference_pb2 as pb
from grpc.aio import AioRpcError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from tests.support.fake_backend import FakeBackend
from tests.support.fake_backend.adapter import until
from tests.support.service import Service, backend, simulated_service

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

ACME_KEY, ACME = new_key()
GLOBEX_KEY, GLOBEX = new_key()
OPS_KEY, OPS = new_key()
TENANTS: dict[str, dict[str, Any]] = {
    "acme": {"keys": str(ACME)},
    "globex": {"keys": str(GLOBEX)},
    "ops": {"keys": str(OPS), "admin": True},
}


async def refused(call: Awaitable[object]) -> tuple[str, str]:
    """Code and reason of a refusal."""
    with pytest.raises(RefusedError) as raised:
        await call
    return raised.value.code.name, raised.value.reason


def raw(address: str) -> Any:
    """A channel without the client library."""
    return grpc.aio.insecure_channel(address)


async def session(client: Client) -> None:
    """A whole session of one prompt."""
    async with client.stream_prompts(["x"]) as prompts:
        [one async for one in prompts]


async def test_every_method_asks_who_is_calling() -> None:
    """Without a key no method of ours is served, streaming or not; with one it is."""
    async with simulated_service(tenants=TENANTS) as service:
        nobody = service.client
        for call in (
            nobody.collect_batch(["x"]),
            anext(nobody.generate_batch(["x"])),
            anext(nobody.generate("x")),
            session(nobody),
            nobody.create_job(["x"]),
            nobody.list_jobs(),
            anext(nobody.watch_job("x")),
            nobody.list_backends(),
            nobody.get_snapshot(),
        ):
            assert await refused(call) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
        async with Client(service.address, api_key=ACME_KEY) as acme:
            assert (await acme.collect_batch(["x"])).results[0].ok


async def test_a_wrong_key_is_logged_a_few_times_and_never_shown() -> None:
    """The log has the kind of refusal and the key's public id, not the key."""
    wrong, record = new_key()
    async with simulated_service(tenants=TENANTS) as service, Client(service.address, api_key=wrong) as client:
        with capture_logs() as lines:
            assert await refused(client.collect_batch(["x"])) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    (line,) = lines
    assert (line["event"], line["key"], line["code"]) == ("call refused: unknown key", record.id, "UNAUTHENTICATED")
    assert wrong not in repr(lines)


async def test_that_nobody_can_call_is_told(tmp_path: Path) -> None:
    """At the start without a valid key, and when a changed keys file takes the last one; once each time."""
    _, expired = new_key(expires=datetime(2020, 1, 1, tzinfo=UTC))
    file = tmp_path / "keys"
    file.write_text(f"acme {expired}\n")
    with capture_logs() as lines:
        async with simulated_service(keys_file=str(file)) as service:
            told: list[int] = []
            for text in (f"acme {expired}\n", f"acme {expired}\nacme {ACME}\n", "", "# nobody\n"):
                file.write_text(text)
                service.app.files.check()
                told.append(sum(line["event"].startswith("Nobody can call") for line in lines))
    assert told == [1, 1, 2, 2]
    with capture_logs() as lines:
        async with simulated_service(tenants={"acme": {"keys": str(expired)}}):
            assert [line["event"][:15] for line in lines if line["log_level"] == "warning"] == ["Nobody can call"]


async def test_a_call_that_is_not_let_in_is_not_read() -> None:
    """A stranger is refused before its message is decoded: bytes that are no message do not matter."""
    async with simulated_service(tenants=TENANTS) as service, raw(service.address) as channel:
        for method in ("Inference/CollectBatch", "Inference/GenerateBatch", "Jobs/CreateJob"):
            with pytest.raises(AioRpcError) as raised:
                await channel.unary_unary(f"/expresslane.v1.{method}")(b"\xff" * 1_000)
            assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_admin_is_for_administrators() -> None:
    """A tenant without the role gets PERMISSION_DENIED for every method of Admin; one with it is served."""
    async with simulated_service(tenants=TENANTS) as service:
        async with Client(service.address, api_key=ACME_KEY) as acme:
            for call in (acme.list_backends(), acme.get_snapshot(), acme.drain(), acme.update_backend("x", cap=1)):
                assert await refused(call) == ("PERMISSION_DENIED", "NOT_PERMITTED")
        async with Client(service.address, api_key=OPS_KEY) as ops:
            assert [one.id for one in await ops.list_backends()] == ["simulated"]


async def test_admin_on_a_listener_of_its_own() -> None:
    """Admin is there and nowhere else, work is not there, and health is on both."""
    async with simulated_service(admin_listen="127.0.0.1:0") as service:
        apart = service.app.server.admin_address
        assert apart != service.address
        async with Client(apart) as admin:
            assert await admin.list_backends()
            with pytest.raises(Exception, match="UNIMPLEMENTED"):
                await admin.collect_batch(["x"])
            await admin.wait_ready(5)
        with pytest.raises(Exception, match="UNIMPLEMENTED"):
            await service.client.list_backends()
        assert (await service.client.collect_batch(["x"])).results[0].ok
        await service.client.wait_ready(5)


async def test_the_role_holds_on_its_own_listener_too() -> None:
    """A listener of its own does not replace the key."""
    async with simulated_service(admin_listen="127.0.0.1:0", tenants=TENANTS) as service:
        for key, code in (("", "UNAUTHENTICATED"), (ACME_KEY, "PERMISSION_DENIED")):
            async with Client(service.app.server.admin_address, api_key=key) as client:
                assert (await refused(client.list_backends()))[0] == code


@pytest.mark.parametrize("on", [True, False])
async def test_health_is_open_and_reflection_can_be_switched_off(on: bool) -> None:
    """Health answers without a key; reflection does where it is on, and is UNIMPLEMENTED where it is not."""
    async with (
        simulated_service(tenants=TENANTS, reflection=on) as service,
        raw(service.address) as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        checked = await health.Check(health_pb2.HealthCheckRequest())
        assert checked.status == health_pb2.HealthCheckResponse.SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="*")]))
        if on:
            names = {one.name for one in (await asked.read()).list_services_response.service}
            assert "expresslane.v1.Inference" in names
        else:
            with pytest.raises(AioRpcError) as raised:
                await asked.read()
            assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_jobs_belong_to_their_tenant() -> None:
    """To another tenant a job is not there: not by name, not in the list, not as a name that is taken."""
    async with (
        simulated_service(tenants=TENANTS) as service,
        Client(service.address, api_key=ACME_KEY) as acme,
        Client(service.address, api_key=GLOBEX_KEY) as globex,
    ):
        await acme.create_job([Prompt("a", "x", max_tokens=1)], job_id="mine")
        missing = ("NOT_FOUND", "UNKNOWN_JOB")
        assert await refused(globex.get_job("mine")) == missing
        assert await refused(anext(globex.watch_job("mine"))) == missing
        assert await refused(globex.cancel_job("mine")) == missing
        assert await refused(globex.delete_job("mine")) == missing
        assert await globex.list_jobs() == []
        await globex.create_job([Prompt("b", "y", max_tokens=1)], job_id="mine")
        assert [one.custom_id async for one in globex.watch_job("mine")] == ["b"]
        assert [one.custom_id async for one in acme.watch_job("mine")] == ["a"]
        await globex.delete_job("mine")
        assert [job.id for job in await acme.list_jobs()] == ["mine"]


async def test_jobs_belong_to_who_callers_say_they_are_while_nobody_shows_a_key() -> None:
    """Without keys the metadata x-expresslane-tenant keeps tenants apart, by courtesy."""
    async with simulated_service() as service:
        async with Client(service.address, metadata={"x-expresslane-tenant": "acme"}) as acme:
            await acme.create_job(["x"], job_id="mine")
        assert await service.client.list_jobs() == []


async def test_models_that_a_tenant_may_not_use() -> None:
    """Each such prompt fails with PERMISSION_DENIED, served or not, the others run; no hint names the model."""
    async with FakeBackend() as fake:
        tenants = {"acme": TENANTS["acme"] | {"models": "small"}, "globex": TENANTS["globex"]}
        served = backend(fake.url, models=(("small", "small"), ("secret-large", "secret-large")))
        async with Service(fake=served, tenants=tenants, aliases={"big": "secret-large"}) as service:
            async with Client(service.address, api_key=ACME_KEY) as acme:
                names = ("small", "secret-large", "big", "no-such", "")
                prompts = [Prompt(name or "none", "x", model=name) for name in names]
                results = {one.custom_id: one for one in (await acme.collect_batch(prompts)).results}
            assert results["small"].ok
            for name in ("secret-large", "big", "no-such"):
                error = results[name].error
                assert error is not None
                assert (error.reason, results[name].outcome) == ("MODEL_NOT_PERMITTED", Outcome.FAILED)
                assert error.message == f"this tenant may not use the model {name!r}"
            nameless = results["none"].error
            assert nameless is not None
            assert nameless.reason == "UNKNOWN_MODEL"
            assert "models served: small" in nameless.message
            assert "secret-large" not in nameless.message
            async with Client(service.address, api_key=GLOBEX_KEY) as globex:
                (result,) = (await globex.collect_batch([Prompt("a", "x", model="big")])).results
                assert result.ok
        assert len(fake.generations) == 2


async def test_open_calls_are_bounded_by_tenant_and_in_all() -> None:
    """A stream that sends nothing counts; Admin and health do not; room is made when a call ends."""
    tenants = TENANTS | {"acme": TENANTS["acme"] | {"max_open_calls": 2}}
    async with simulated_service(tenants=tenants, max_open_calls=3) as service, AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(Client(service.address, api_key=key))
            for key in (ACME_KEY, GLOBEX_KEY, OPS_KEY)
        ]
        acme, globex, ops = clients
        calls = [acme.inference.StreamPrompts(metadata=acme._call_metadata()) for _ in range(2)]
        door = service.app.door.open_calls
        await until(lambda: door.total == 2)
        full = ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS")
        assert await refused(acme.collect_batch(["x"])) == full
        calls.append(globex.inference.StreamPrompts(metadata=globex._call_metadata()))
        await until(lambda: door.total == 3)
        assert await refused(globex.collect_batch(["x"])) == full
        assert await ops.list_backends()
        await ops.wait_ready(5)
        for call in calls:
            call.cancel()
        await until(lambda: door.total == 0)
        assert (await acme.collect_batch(["x"])).results[0].ok


@pytest.mark.parametrize(
    "method",
    [
        *(f"Inference/{name}" for name in ("GenerateBatch", "CollectBatch", "Generate", "StreamPrompts")),
        *(f"Jobs/{name}" for name in ("CreateJob", "GetJob", "WatchJob", "ListJobs")),
        *(f"Admin/{name}" for name in ("UpdateBackend", "GetBackend", "ListBackends")),
    ],
)
async def test_bytes_that_are_no_message(method: str) -> None:
    """What does not parse is INVALID_ARGUMENT, with the type that was expected, for every method."""
    async with simulated_service() as service, raw(service.address) as channel:
        with pytest.raises(AioRpcError) as raised:
            await channel.unary_unary(f"/expresslane.v1.{method}")(b"\x0a\xff\xff\xff")
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "its bytes do not parse" in (raised.value.details() or "")
        assert (await service.client.collect_batch(["x"])).results[0].ok


async def test_bytes_that_are_no_message_in_the_middle_of_a_session() -> None:
    """The session ends with INVALID_ARGUMENT, and nothing of it is left behind."""
    async with simulated_service() as service, raw(service.address) as channel:
        call = channel.stream_stream("/expresslane.v1.Inference/StreamPrompts")()
        await call.write(pb.StreamPromptsRequest(config=pb.BatchConfig()).SerializeToString())
        await call.read()
        await call.write(b"\x0a\xff\xff\xff")
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        await until(lambda: service.app.intake.open_batches == 0)


async def test_a_call_without_a_message() -> None:
    """A unary method that is sent nothing is refused, and does not wait."""
    async with simulated_service() as service, raw(service.address) as channel:
        call = channel.stream_unary("/expresslane.v1.Jobs/ListJobs")()
        await call.done_writing()
        with pytest.raises(AioRpcError) as raised:
            await call
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("bound", ["CALLS_MAX", "CALLS_OF_ONE"])
async def test_streams_that_need_no_key_are_bounded(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """Of health's watches, and of one address's, only so many may be open; checks always answer, as does reflection."""
    monkeypatch.setattr(f"expresslane.interceptors.open_methods.{bound}", 1)
    async with simulated_service() as service, raw(service.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        first = health.Watch(health_pb2.HealthCheckRequest())
        await first.read()
        with capture_logs() as lines:
            second = health.Watch(health_pb2.HealthCheckRequest())
            assert await second.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert [(line["event"], line["method"], line["code"], line["log_level"]) for line in lines] == [
            ("call refused: TOO_MANY_CALLS", "grpc.health.v1.Health/Watch", "RESOURCE_EXHAUSTED", "warning")
        ]
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="*")]))
        assert (await asked.read()).list_services_response.service
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        first.cancel()
        watches = service.app.open_door.open_calls["/grpc.health.v1.Health/Watch"]
        await until(lambda: watches.total == 0)
        assert (await health.Watch(health_pb2.HealthCheckRequest()).read()).status


SILENT = ["grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "grpc.health.v1.Health/Watch"]


@pytest.mark.parametrize("method", [*SILENT, "grpc.health.v1.Health/Check"])
async def test_open_methods_that_are_sent_nothing(method: str) -> None:
    """Nobody holds a place of health or reflection without a word: no longer than a call's first message may take."""
    async with simulated_service(first_message_timeout_s=0.05) as service, raw(service.address) as channel:
        call: Any = channel.stream_stream(f"/{method}")()
        with capture_logs() as lines:
            assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert [line["event"] for line in lines] == ["call refused: FIRST_MESSAGE_TIMEOUT"]
        await until(lambda: service.app.open_door.open_calls[f"/{method}"].total == 0)


async def test_silent_reflection_does_not_shut_health() -> None:
    """Reflection is full of streams that ask nothing: health is checked and watched, by the same address too."""
    async with simulated_service() as service, raw(service.address) as channel:
        calls: list[Any] = [channel.stream_stream(f"/{SILENT[0]}")() for _ in range(150)]
        codes = [asyncio.ensure_future(call.code()) for call in calls]
        await asyncio.wait(codes, return_when=asyncio.FIRST_COMPLETED)
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        for call in (*calls, watch):
            call.cancel()
        ended = {code.name for code in await asyncio.gather(*codes)}
        assert ended == {"RESOURCE_EXHAUSTED", "CANCELLED"}


@pytest.mark.parametrize("method", SILENT)
async def test_bytes_that_are_no_message_of_open_methods(method: str) -> None:
    """What does not parse is INVALID_ARGUMENT there too."""
    async with simulated_service() as service, raw(service.address) as channel:
        call: Any = channel.stream_stream(f"/{method}")()
        await call.write(b"\x0a\xff\xff\xff")
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_metadata_above_the_bound() -> None:
    """Refused at the door with a line that says so, also where no key is needed; just below it calls are let in."""
    async with simulated_service() as service, raw(service.address) as channel:
        for method, most in (("expresslane.v1.Jobs/ListJobs", 15_000), ("grpc.health.v1.Health/Check", 15_000)):
            call: Any = channel.unary_unary(f"/{method}")
            await call(b"", metadata=[("x-a", "x" * most)])
            with capture_logs() as lines, pytest.raises(AioRpcError) as raised:
                await call(b"", metadata=[("x-a", "x" * 17_000)])
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "metadata" in (raised.value.details() or "")
            assert [(line["event"], line["method"]) for line in lines] == [("call refused: METADATA_TOO_LARGE", method)]


async def test_the_line_of_a_call_says_why_it_was_refused() -> None:
    """What a call asks is in its own line; what it is, a malformed one, in a warning instead, which is limited."""
    async with simulated_service() as service, raw(service.address) as channel:
        with capture_logs() as lines:
            assert await refused(service.client.get_job("x")) == ("NOT_FOUND", "UNKNOWN_JOB")
            with pytest.raises(AioRpcError):
                await channel.unary_unary("/expresslane.v1.Inference/CollectBatch")(b"\x0a\xff\xff\xff")
            await until(lambda: service.app._observer.open_calls == 0)
        about = [(line["event"], line["log_level"], line.get("reason")) for line in lines]
        assert about == [("call", "info", "UNKNOWN_JOB"), ("call refused: MALFORMED_MESSAGE", "warning", None)]
