"""SIGKILL and SIGTERM in mid-batch: callers are told, and with the client each prompt has one result in the end."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from expresslane_client import (
    BatchState,
    Client,
    Outcome,
    Prompt,
    PromptSession,
    RefusedError,
    Result,
    Resume,
    Resuming,
    UnavailableError,
)

from tests.e2e.served import Served
from tests.e2e.test_serve import at
from tests.support.fake_backend import FakeBackend, Script, SeenRequest
from tests.support.shell import Shell, numbered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

COUNT = 500
SOON = Resume(time_s=60, attempts=1_000, pause_s=0.05, pause_max_s=0.2)


def free_port() -> int:
    """A port that the service can have again after it was killed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stalling(after: int, gate: asyncio.Event) -> object:
    """Answer so many requests, then none until the gate opens."""
    seen = 0

    def decide(_: SeenRequest) -> Script | None:
        nonlocal seen
        seen += 1
        return Script(before_headers=gate) if seen > after else None

    return decide


async def killed(served: Served) -> None:
    """Kill it, as the kernel does when memory is short."""
    served.process.kill()
    await served.process.wait()


async def stopped(served: Served) -> None:
    """Ask it to stop, and wait until it has."""
    served.terminate()
    await served.rest()
    assert await served.process.wait() == 0


async def test_kill_9(tmp_path: Path) -> None:
    """500 prompts, a service killed after some, another started: exactly one result each; not resumed, an error."""
    gate = asyncio.Event()
    address = f"127.0.0.1:{free_port()}"
    async with FakeBackend() as fake, Client(address) as client:
        fake.on(stalling(200, gate))  # type: ignore[arg-type]
        environ = at(fake, EXPRESSLANE_LISTEN=address)
        told: list[Resuming] = []
        async with Served(tmp_path, **environ) as first:
            prompts = [Prompt(f"p{number}", f"text {number}") for number in range(COUNT)]
            call = client.generate_batch(prompts, resume=SOON, on_resume=told.append)
            results = [await anext(call)]
            results += [await anext(call) for _ in range(150)]
            await fake.wait_for_generations(201)
            accepted = asyncio.Event()
            plain = client.generate_batch(["x"], resume=False, on_event=lambda _: accepted.set())
            refused = asyncio.ensure_future(plain.collect())
            await accepted.wait()
            await killed(first)
            with pytest.raises(UnavailableError):
                await refused
            rest = asyncio.ensure_future(call.collect())
        gate.set()
        async with Served(tmp_path, **environ):
            results += await rest
        assert Counter(one.custom_id for one in results) == Counter(f"p{number}" for number in range(COUNT))
        assert all(one.text == f"echo text {one.index}" for one in results)
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
        summary = call.summary
        assert (summary.state, summary.total_prompts, summary.succeeded) == (BatchState.COMPLETED, COUNT, COUNT)
        assert told[0].total == COUNT
        assert told[0].unfinished <= COUNT - 151
        ran = Counter(json.loads(one.body)["messages"][-1]["content"] for one in fake.generations)
        done_before = COUNT - told[0].unfinished
        assert sum(count == 1 for count in ran.values()) >= done_before


async def test_sigterm_past_the_grace(tmp_path: Path) -> None:
    """A service stopped in mid-batch with a short grace loses no more than a killed one: one result each (O16, T12).

    What it could not finish it says in-band, and the client asks the service that comes after it.
    """
    gate = asyncio.Event()
    address = f"127.0.0.1:{free_port()}"
    async with FakeBackend() as fake, Client(address) as client:
        fake.on(stalling(200, gate))  # type: ignore[arg-type]
        environ = at(fake, EXPRESSLANE_LISTEN=address, EXPRESSLANE_DRAIN_GRACE_S="100ms")
        told: list[Resuming] = []
        async with Served(tmp_path, **environ) as first:
            prompts = [Prompt(f"p{number}", f"text {number}") for number in range(COUNT)]
            call = client.generate_batch(prompts, resume=SOON, on_resume=told.append)
            results = [await anext(call) for _ in range(100)]
            await fake.wait_for_generations(201)
            session = client.stream_prompts(iter(prompts), resume=SOON)
            gathering = asyncio.ensure_future(client.collect_batch(["alone"], resume=SOON))
            asking = asyncio.ensure_future(client.generate("one", resume=SOON).collect())
            while (await client.get_snapshot()).open_batches < 3:
                pass
            rest = asyncio.ensure_future(call.collect())
            streamed = asyncio.ensure_future(read_all(session))
            while (await client.get_snapshot()).open_batches < 4:
                pass
            await stopped(first)
        gate.set()
        async with Served(tmp_path, **environ):
            results += await rest
            of_session = await streamed
            assert [one.ok for one in (await gathering).results] == [True]
            assert (await asking).text == "echo one"
        for all_of_them in (results, of_session):
            assert Counter(one.custom_id for one in all_of_them) == Counter(f"p{number}" for number in range(COUNT))
            assert all(one.text == f"echo text {one.index}" for one in all_of_them)
        for summary in (call.summary, session.summary):
            assert (summary.state, summary.total_prompts, summary.succeeded) == (BatchState.COMPLETED, COUNT, COUNT)
        assert isinstance(told[0].error, RefusedError)
        assert (told[0].error.reason, told[0].error.retry_after_s) == ("DRAINING", 1.0)


async def read_all(session: PromptSession) -> list[Result]:
    """All results of a session that feeds itself."""
    async with session:
        return [one async for one in session]


@pytest.mark.parametrize(
    ("lose", "told"),
    [(killed, b"connection lost, resuming "), (stopped, b"the service is stopping, resuming 4")],
    ids=["killed", "stopping"],
)
async def test_on_the_command_line(tmp_path: Path, lose: Callable[[Served], Awaitable[None]], told: bytes) -> None:
    """`expresslane run` says what has happened and ends as if nothing had: one good line for each prompt."""
    gate = asyncio.Event()
    address = f"127.0.0.1:{free_port()}"
    shell = Shell(tmp_path, address)
    shell.write("p.jsonl", *numbered(COUNT))
    async with FakeBackend() as fake:
        fake.on(stalling(100, gate))  # type: ignore[arg-type]
        environ = at(fake, EXPRESSLANE_LISTEN=address, EXPRESSLANE_DRAIN_GRACE_S="100ms")
        async with Served(tmp_path, **environ) as lost:
            process = await shell.start("run", "p.jsonl")
            assert process.stdout is not None
            first_line = await process.stdout.readline()  # before it has been accepted nothing is resumed
            await fake.wait_for_generations(101)
            await lose(lost)
        gate.set()
        async with Served(tmp_path, **environ):
            output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    lines = [json.loads(line) for line in (first_line + output).splitlines()]
    assert Counter(line["custom_id"] for line in lines) == Counter(f"p{number}" for number in range(COUNT))
    assert {line["outcome"] for line in lines} == {"succeeded"}
    assert told in errors
    assert b" of 500 prompts" in errors
    assert b"500 of 500 prompts succeeded" in errors
