"""Stopping: what was accepted is finished or told, and nothing is kept alive that is over."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import grpc
import pytest
from expresslane.prompts import Prompt as HeldPrompt
from expresslane_client import BatchState, ExpresslaneClientError, Outcome, Prompt, RefusedError, UnavailableError
from expresslane_client.errors import from_rpc_error
from expresslane_client.v1 import inference_pb2, types_pb2
from grpc import aio

from tests.support.fake_backend import FakeBackend, Script, SeenRequest
from tests.support.fake_backend.adapter import until
from tests.support.service import Service, backend


async def test_stop_finishes_what_was_accepted() -> None:
    """A stopping service lets its batches finish within the grace, and their callers get everything (T12)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=2)) as service:
        fake.on(lambda _: Script(before_headers=gate))
        call = service.client.generate_batch([str(number) for number in range(10)])
        reading = asyncio.ensure_future(anext(call))
        await fake.wait_for_generations(2)
        stopping = asyncio.ensure_future(service.app.stop(30))
        while not (await service.client.get_snapshot()).draining:
            pass
        gate.set()
        results = [await reading] + [one async for one in call]
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
        assert (call.summary.state, len(results)) == (BatchState.COMPLETED, 10)
        await stopping


async def test_stop_tells_what_it_could_not_finish() -> None:
    """What is unfinished at the end of the grace ends in-band as CANCELLED by the service, and the call ends OK."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.on(lambda request: Script(before_headers=asyncio.Event()) if b"stuck" in request.body else None)
        call = service.client.generate_batch(["quick", "stuck " * 10, "stuck " * 20], resume=False)
        first = await anext(call)
        assert first.ok
        await fake.wait_for_generations(2)
        async with service.client.stream_prompts(resume=False) as session:
            await session.send(Prompt("mine", "stuck " * 30))
            while (await service.client.get_snapshot()).submitted < 4:
                pass
            stopping = asyncio.ensure_future(service.app.stop(0.05))
            rest = [one async for one in call]
            assert [one.outcome for one in rest] == [Outcome.CANCELLED] * 2
            assert {(one.error.reason, one.error.retry_after_s) for one in rest if one.error} == {("DRAINING", 1.0)}
            assert call.summary.state is BatchState.CANCELLED
            mine = [one async for one in session]
            assert [one.outcome for one in mine] == [Outcome.CANCELLED]
            assert session.summary.state is BatchState.CANCELLED
        await stopping
        await asyncio.gather(*[request.cancelled.wait() for request in fake.generations[1:]])
        with pytest.raises(UnavailableError):
            await service.client.collect_batch(["x"])


async def unread_call(service: Service) -> Any:
    """A call of large answers that has read nothing but its acceptance, and whose window is full."""
    prompts = [types_pb2.Prompt(custom_id=str(number), text="x") for number in range(800)]
    call: Any = service.client.inference.GenerateBatch(inference_pb2.GenerateBatchRequest(prompts=prompts))
    await call.read()
    turns = 0

    def blocked() -> bool:
        """Nothing has moved for long enough: whoever could still write would have."""
        nonlocal turns
        held = service.app.intake.tenants.unread.full and not service.app.scheduling.snapshot().in_flight
        turns = turns + 1 if held else 0
        return turns > 2_000

    await until(blocked)
    return call


async def end_of(call: Any) -> ExpresslaneClientError:
    """Read a call to its end, which is an error."""
    try:
        while await call.read() is not aio.EOF:
            pass
    except aio.AioRpcError as error:
        return from_rpc_error(error)
    raise AssertionError("the call has ended well")


@pytest.mark.parametrize("reads", [True, False], ids=["reads again", "does not read"])
async def test_stop_cuts_who_does_not_read(reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads again before the end is told when to come back; the others' status cannot pass what they do not read.

    With gRPC no status is sent before the message that is being written: theirs is a bare UNAVAILABLE.
    """
    async with (
        FakeBackend(keep=False) as fake,
        Service(fake=backend(fake.url), unread_limit_bytes=10**6) as service,
    ):
        fake.on(lambda _: Script(text="y" * 100_000, pieces=1))
        call = await unread_call(service)
        monkeypatch.setattr("expresslane.app.TOLD_S", 0.05)
        cut = asyncio.Event()

        def cut_and_tell() -> None:
            observed()
            monkeypatch.setattr("expresslane.app.CUT_S", 30.0 if reads else 0.05)
            cut.set()

        observed = service.app._observer.cut
        monkeypatch.setattr(service.app._observer, "cut", cut_and_tell)
        stopping = asyncio.ensure_future(service.app.stop(0))
        await cut.wait()
        if not reads:
            await stopping
        error = await end_of(call)
        await stopping
    if reads:
        assert isinstance(error, RefusedError)
        assert (error.reason, error.retry_after_s) == ("DRAINING", 1.0)
    else:
        assert isinstance(error, UnavailableError)
        assert error.code is grpc.StatusCode.UNAVAILABLE


def held_bytes() -> int:
    """Bytes of the prompts that the service in this process holds."""
    alive = gc.get_objects()
    return sum(len(one.content) for one in alive if type(one) is HeldPrompt and isinstance(one.content, str))


async def test_finished_prompts_are_freed_while_the_batch_runs() -> None:
    """A prompt's text goes with its result, though its batch goes on, and without the garbage collector (A16)."""

    def odd(request: SeenRequest) -> Script:
        return Script(status=400 if request.number % 2 else 200, text="ok")

    size, count = 100_000, 50
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=4)) as service:
        fake.on(lambda request: Script(text="ok", before_headers=gate) if b"last" in request.body else odd(request))
        request = inference_pb2.GenerateBatchRequest(
            prompts=[types_pb2.Prompt(custom_id=str(number), text="x" * size) for number in range(count)]
        )
        request.prompts.add(custom_id="last", text="last " + "y" * 2 * size)
        gc.collect()
        gc.disable()
        try:
            results = 0
            call: Any = service.client.inference.GenerateBatch(request)
            peak = 0
            async for message in call:
                if message.events:
                    peak = held_bytes()
                results += len(message.results)
                if results == count:
                    break
            assert peak > count * size * 0.9
            assert held_bytes() <= 3 * size
        finally:
            gc.enable()
        gate.set()
        summary = [one async for one in call][-1].summary
        assert (summary.total, summary.succeeded + summary.failed) == (count + 1, count + 1)
        assert summary.failed > count / 3
