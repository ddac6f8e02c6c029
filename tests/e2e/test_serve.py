"""The service as an operator runs it: configured by environment, ready, stopped by SIGTERM, frugal with memory."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import grpc.aio
import orjson
import pytest
from expresslane_client import BatchState, Client, Outcome, Prompt, RefusedError, UnavailableError
from expresslane_client.errors import from_rpc_error
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.served import Served
from tests.support.fake_backend import FakeBackend, Script

if TYPE_CHECKING:
    from pathlib import Path


def at(fake: FakeBackend, **more: str) -> dict[str, str]:
    """The environment for one backend."""
    prefix = "EXPRESSLANE_BACKENDS__FAKE__"
    return {f"{prefix}KIND": "openai", f"{prefix}URL": fake.url, f"{prefix}MODELS": "m"} | more


async def test_ready_serves_and_stops(tmp_path: Path) -> None:
    """It becomes ready, says where, serves a batch, and ends with exit code 0 on SIGTERM."""
    async with FakeBackend() as fake, Served(tmp_path, **at(fake)) as served:
        assert served.ready_file.read_text() == served.address
        async with Client(served.address) as client:
            await client.wait_ready()
            results = [one async for one in client.generate_batch([Prompt(f"p{n}", f"text {n}") for n in range(50)])]
        assert sorted(one.text for one in results) == sorted(f"echo text {n}" for n in range(50))
        served.terminate()
        await served.logged("stopped")
        assert await served.process.wait() == 0


async def test_sigterm_loses_nothing(tmp_path: Path) -> None:
    """SIGTERM in a batch: NOT_SERVING, new calls are refused, the batch is finished, exit code 0 (T12, A35)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Served(tmp_path, **at(fake)) as served, Client(served.address) as client:
        fake.on(lambda _: Script(before_headers=gate))
        call = client.generate_batch([str(number) for number in range(40)])
        reading = asyncio.ensure_future(anext(call))
        await fake.wait_for_generations(10)
        stub: Any = health_pb2_grpc.HealthStub(client.channel)
        health = aiter(stub.Watch(health_pb2.HealthCheckRequest()))
        assert (await anext(health)).status == health_pb2.HealthCheckResponse.SERVING
        served.terminate()
        assert (await anext(health)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(RefusedError) as raised:
            await client.collect_batch(["late"])
        assert (raised.value.reason, raised.value.retry_after_s) == ("DRAINING", 1.0)
        gate.set()
        results = [await reading] + [one async for one in call]
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
        assert (len(results), call.summary.state) == (40, BatchState.COMPLETED)
        assert await served.process.wait() == 0


async def test_sigterm_waits_for_a_slow_reader(tmp_path: Path) -> None:
    """What is finished but not yet read is delivered within the grace, an idle session is ended in-band (T12)."""
    count = 300
    async with FakeBackend() as fake, Served(tmp_path, **at(fake)) as served, Client(served.address) as client:
        fake.on(lambda _: Script(text="x" * 100_000))
        call = client.generate_batch([str(number) for number in range(count)])
        results = [await anext(call)]
        while (await client.get_snapshot()).succeeded < count:
            pass
        async with Client(served.address) as other, other.stream_prompts() as session:
            while (await other.get_snapshot()).open_batches < 2:
                pass
            served.terminate()
            assert [one async for one in session] == []
            assert session.summary.state is BatchState.CANCELLED
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(served.process.wait(), 2)
        results += [one async for one in call]
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
        assert (len(results), call.summary.state) == (count, BatchState.COMPLETED)
        assert await served.process.wait() == 0


async def test_who_does_not_read_is_cut(tmp_path: Path) -> None:
    """A caller that has not read everything when the grace is over is told UNAVAILABLE, and the log says so."""
    async with FakeBackend() as fake:
        environ = at(fake, EXPRESSLANE_DRAIN_GRACE_S="100ms")
        async with Served(tmp_path, **environ) as served, Client(served.address) as client:
            fake.on(lambda _: Script(text="x" * 100_000))
            call = client.generate_batch([str(number) for number in range(300)], resume=False)
            await anext(call)
            while (await client.get_snapshot()).succeeded < 300:
                pass
            served.terminate()
            await served.logged("calls cut: not read to their end within the grace")
            assert (await served.logged("call"))["code"] == "UNAVAILABLE"
            assert await served.process.wait() == 0
            with pytest.raises(UnavailableError):
                [one async for one in call]


async def test_sigterm_while_starting(tmp_path: Path) -> None:
    """A signal ends a start that waits for a silent backend, before the service has become ready."""
    async with FakeBackend() as fake:
        fake.paths["/v1/models"] = Script(before_headers=asyncio.Event())
        served = Served(tmp_path, **at(fake, EXPRESSLANE_BACKENDS__FAKE__MODELS=""))
        await served.start()
        await fake.wait_for_requests(1)
        served.terminate()
        output, errors = await served.process.communicate()
    assert served.process.returncode == 0
    assert b'"ready"' not in output
    assert errors == b""


async def test_the_grace_is_bounded(tmp_path: Path) -> None:
    """Work that does not end within the grace is cancelled, its caller told in-band, and the process ends."""
    async with FakeBackend() as fake:
        environ = at(fake, EXPRESSLANE_DRAIN_GRACE_S="100ms")
        async with Served(tmp_path, **environ) as served, Client(served.address) as client:
            fake.on(lambda _: Script(before_headers=asyncio.Event()))
            call = client.generate_batch(["stuck"], resume=False)
            reading = asyncio.ensure_future(anext(call))
            (request,) = await fake.wait_for_generations(1)
            served.terminate()
            result = await reading
            assert result.error is not None
            assert (result.outcome, result.error.reason) == (Outcome.CANCELLED, "DRAINING")
            await request.cancelled.wait()
            assert await served.process.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """Who cannot wait for the grace signals again, and the exit code tells with what."""
    async with FakeBackend() as fake, Served(tmp_path, **at(fake)) as served, Client(served.address) as client:
        fake.on(lambda _: Script(before_headers=asyncio.Event()))
        reading = asyncio.ensure_future(anext(client.generate_batch(["stuck"], resume=False)))
        await fake.wait_for_generations(1)
        served.terminate()
        await served.logged("stopping")
        served.process.send_signal(number)
        assert await served.process.wait() == 128 + number
        with pytest.raises(UnavailableError):
            await reading


async def test_a_log_that_nobody_reads(tmp_path: Path) -> None:
    """A full pipe behind standard output stops no call: more is logged than a pipe holds, and it still ends with 0."""
    out, pipe = os.pipe()
    async with FakeBackend() as fake, AsyncExitStack() as stack:
        log = stack.enter_context(os.fdopen(out))
        served = Served(tmp_path, **at(fake))
        await served.start(stdout=pipe)
        stack.push_async_exit(served)
        os.close(pipe)
        ready = await asyncio.to_thread(log.readline)
        async with Client(orjson.loads(ready)["address"]) as client:
            for number in range(400):  # a line of over 200 bytes for each call; a pipe holds 64 KiB
                assert (await client.generate(f"p{number}").collect()).ok
        served.terminate()
        lines = [orjson.loads(line) for line in await asyncio.to_thread(log.readlines)]
        assert sum(line["event"] == "call" for line in lines) == 400
        assert await served.process.wait() == 0


WRONG = [
    ({"EXPRESSLANE_LISTEN": "nowhere"}, "EXPRESSLANE_LISTEN"),
    ({"EXPRESSLANE_LISTEN": "no-such-host.invalid:50051"}, "the host 'no-such-host.invalid' is not known"),
    ({"EXPRESSLANE_QUEUE_LIMIT_PROMTS": "5"}, "EXPRESSLANE_QUEUE_LIMIT_PROMPTS"),
    ({"EXPRESSLANE_BACKENDS__A__KIND": "openai"}, "EXPRESSLANE_BACKENDS__A__URL"),
    ({"EXPRESSLANE_DRAIN_GRACE_S": "soon"}, "EXPRESSLANE_DRAIN_GRACE_S"),
    ({"OTEL_TRACES_EXPORTER": "carrier-pigeon"}, "OTEL_TRACES_EXPORTER"),
    ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zip"}, "OTEL_EXPORTER_OTLP_COMPRESSION"),
    ({"EXPRESSLANE_READY_FILE": "/nonexistent/x"}, "EXPRESSLANE_READY_FILE"),
]


@pytest.mark.parametrize(("environ", "named"), WRONG)
async def test_wrong_environment(tmp_path: Path, environ: dict[str, str], named: str) -> None:
    """A wrong environment ends the process with exit code 2 and names the variable, before anything is opened (P39)."""
    served = Served(tmp_path, **environ)
    await served.start()
    _, errors = await served.process.communicate()
    assert served.process.returncode == 2
    assert named in errors.decode()
    assert "Traceback" not in errors.decode()
    assert not served.ready_file.exists()


async def test_address_in_use(tmp_path: Path) -> None:
    """An address that is taken ends the process with exit code 2 and names the variable."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        served = Served(tmp_path, EXPRESSLANE_LISTEN=address)
        await served.start()
        _, errors = await served.process.communicate()
    assert served.process.returncode == 2
    told = errors.decode()
    assert f"expresslane: EXPRESSLANE_LISTEN={address}: cannot listen there: another process listens there" in told
    assert "set EXPRESSLANE_LISTEN=HOST:PORT" in told
    assert "GRPC" not in told


async def test_nothing_configured(tmp_path: Path) -> None:
    """With nothing configured the simulated backend serves, and the first log line says so (G22)."""
    async with Served(tmp_path) as served, Client(served.address) as client:
        assert "SIMULATED" in served.log[0]["event"]
        (result,) = [one async for one in client.generate_batch([Prompt("a", "x", max_tokens=2)])]
        assert (result.ok, result.simulated) == (True, True)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_memory_falls_while_the_batch_runs(tmp_path: Path) -> None:
    """The text of finished prompts is given back while their batch still runs (A16)."""
    size, count = 1_000_000, 50
    gate = asyncio.Event()
    async with FakeBackend() as fake:
        fake.on(lambda request: Script(text="ok", before_headers=None if b'"quick' in request.body else gate))
        # With a fixed threshold the C library gives back what is freed at once, so that RSS shows what is held.
        environ = at(fake, MALLOC_MMAP_THRESHOLD_="65536")
        async with Served(tmp_path, **environ) as served, Client(served.address) as client:
            (warm,) = [one async for one in client.generate_batch(["quick"])]
            assert warm.ok
            before = served.resident_bytes()
            prompts = [Prompt(str(number), f"quick {'x' * size}") for number in range(count)]
            call = client.generate_batch([*prompts, Prompt("last", "slow")])
            del prompts
            results = [await anext(call)]
            peak = served.resident_bytes() - before
            results += [await anext(call) for _ in range(count - 1)]
            after = served.resident_bytes() - before
            gate.set()
            results += [one async for one in call]
            assert all(one.ok for one in results)
            assert peak > 0.5 * size * count
            assert after < 0.3 * size * count, f"{after:,} bytes of {peak:,} are still held"


async def test_calls_that_have_said_nothing_are_told_why(tmp_path: Path) -> None:
    """A call without a first message when the grace is over ends UNAVAILABLE, with DRAINING and when to come back."""
    async with FakeBackend() as fake:
        environ = at(fake, EXPRESSLANE_DRAIN_GRACE_S="100ms")
        async with Served(tmp_path, **environ) as served, Client(served.address) as client:
            silent: Any = client.inference.StreamPrompts()
            await silent.wait_for_connection()
            await client.generate_batch(["x"]).collect()  # on the same connection, so the other call is there too
            served.terminate()
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await silent.read()
            error = from_rpc_error(raised.value)
            assert isinstance(error, RefusedError)
            assert (error.code.name, error.reason, error.retry_after_s) == ("UNAVAILABLE", "DRAINING", 1.0)
            assert await served.process.wait() == 0
