"""After a storm nothing is left: calls cut anywhere, callers gone, backends failing, then the level before.

Two storms warm everything up that is made once; from then on each storm has to leave what it found.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from expresslane.batches.held import Amount
from expresslane_client import CallError, Client, Deadlines, Prompt

from tests.support.fake_backend import CUT_BEFORE_HEADERS, FakeBackend, Script, SeenRequest
from tests.support.fake_backend.adapter import until
from tests.support.service import Service, backend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CAP = 8
CALLERS = 20
STORMS = 3
WARM = 2
OBJECTS_MORE = 0.02
"""A storm of 20 callers with up to 30 prompts each that left one object for each prompt would make far more."""
KINDS = ("Ticket", "Batch", "Session", "Attempt", "Reader", "Answer", "Outbox", "Log", "Job", "Cursor", "Prompt")


@dataclass(frozen=True)
class Level:
    """What a process holds between storms."""

    tasks: int
    objects: int
    sockets: int
    resident_kib: int


def decide(chance: random.Random, _: SeenRequest) -> Script | None:
    """Mostly an answer; else any way to fail."""
    kinds: list[Callable[[], Script]] = [
        lambda: Script(status=503),
        lambda: Script(status=429, headers={"retry-after-ms": "2"}),
        lambda: Script(status=400),
        lambda: Script(cut_after=CUT_BEFORE_HEADERS),
        lambda: Script(cut_after=chance.randrange(4)),
        lambda: Script(before_headers=asyncio.Event()),
        lambda: Script(gates={2: asyncio.Event()}),
        lambda: Script(wire=[b"rubbish\n\n"]),
        lambda: Script(body=b"<html>", headers={"Content-Type": "text/html"}),
    ]
    return chance.choice(kinds)() if chance.random() < 0.4 else None


class Storm:
    """Callers of every kind at once, most of which leave before their end."""

    def __init__(self, service: Service, seed: int) -> None:
        self._service = service
        self._chance = random.Random(seed)

    async def run(self) -> None:
        """All callers, to the end of the last one."""
        ways = [self.batch, self.collected, self.session, self.job, self.single]
        await asyncio.gather(*(self.leaving(ways[number % len(ways)], f"{number}") for number in range(CALLERS)))

    async def leaving(self, way: Callable[[Client, str], Awaitable[None]], name: str) -> None:
        """One caller on a connection of its own, cut off after some turns of the loop, or not at all."""
        turns = self._chance.choice((None, 0, 5, 50, 500))
        async with Client(self._service.address) as client:
            calling = asyncio.ensure_future(way(client, name))
            if turns is not None:
                for _ in range(turns):
                    await asyncio.sleep(0)
                calling.cancel()
            with suppress(asyncio.CancelledError, CallError):
                await calling

    def prompts(self, name: str) -> list[Prompt]:
        """Some prompts that end in time whatever the backend does."""
        count = self._chance.randint(1, 30)
        quick = Deadlines(first_token_s=0.3, idle_s=0.3, attempt_s=1.0)
        return [Prompt(f"{name}-{n}", f"{name}-{n} " + "x" * 200, max_tokens=16, deadlines=quick) for n in range(count)]

    async def batch(self, client: Client, name: str) -> None:
        """GenerateBatch, read to its end."""
        await client.generate_batch(self.prompts(name)).collect()

    async def collected(self, client: Client, name: str) -> None:
        """CollectBatch."""
        await client.collect_batch(self.prompts(name))

    async def single(self, client: Client, name: str) -> None:
        """Generate, token by token."""
        async for _ in client.generate(self.prompts(name)[0]):
            pass

    async def session(self, client: Client, name: str) -> None:
        """StreamPrompts with cancels."""
        async with client.stream_prompts() as session:
            prompts = self.prompts(name)
            await session.send(*prompts)
            await session.cancel(*(one.custom_id for one in prompts[::3]))
            await session.done_sending()
            async for _ in session:
                pass

    async def job(self, client: Client, name: str) -> None:
        """A job, watched and deleted; whoever is cut off leaves it behind."""
        made = await client.create_job(self.prompts(name))
        async for _ in client.watch_job(made.name):
            pass
        await client.delete_job(made.name)


async def level(service: Service, fake: FakeBackend, of_other_tests: Counter[str]) -> Level:
    """What is held once everything has come to rest and nothing of a prompt or a call is left."""
    app = service.app
    for job in await service.client.list_jobs():
        await service.client.delete_job(job.name)
    await until(lambda: app.intake.open_batches == 0)
    await app.dispatcher.settled()
    await until(lambda: fake.in_flight == 0 and app.door.open_calls.total == 0)
    now = app.scheduling.snapshot()
    ended = now.succeeded + now.failed + now.cancelled + now.expired
    assert (now.queued, now.in_flight, now.submitted) == (0, 0, ended)
    assert app.intake._held.total == Amount()
    assert (app.intake.tenants.unread.results, app.intake.tenants.unread.bytes) == (0, 0)
    # What a call held goes with the last turn of its handler; what leaks never goes.
    await until(lambda: not ours() - of_other_tests)
    return Level(tasks(), len(gc.get_objects()), sockets(), resident_kib())


def ours() -> Counter[str]:
    """Of our own objects those that a prompt or a call brings."""
    gc.collect()
    return Counter(
        type(one).__name__
        for one in gc.get_objects()
        if type(one).__name__ in KINDS and str(type(one).__module__).startswith("expresslane.")
    )


def tasks() -> int:
    """Tasks on this loop; without the fake's, one for each connection that the service keeps."""
    coroutines = (task.get_coro() for task in asyncio.all_tasks())
    return sum("FakeBackend" not in str(getattr(one, "__qualname__", "")) for one in coroutines)


def sockets() -> int:
    """Open sockets of this process."""
    found = 0
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            found += str(one.readlink()).startswith("socket:")
    return found


def resident_kib() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


@pytest.mark.timeout(120)
async def test_storms_leave_nothing() -> None:
    """A10, A15, T12: tickets, batches, sessions, tasks, slots, sockets and memory are back where they were."""
    of_other_tests = ours()
    async with FakeBackend(keep=False) as fake:
        served = backend(fake.url, cap=CAP, breaker_error_ratio=0)
        settings = {"retry_base_s": 0.001}
        async with Service(fake=served, **settings) as service:
            levels = []
            for number in range(STORMS):
                fake.on(partial(decide, random.Random(number)))
                await Storm(service, number).run()
                levels.append(await level(service, fake, of_other_tests))
            before, after = levels[WARM - 1], levels[-1]
            assert after.tasks <= before.tasks
            assert after.sockets <= before.sockets + CAP
            assert after.objects <= before.objects * (1 + OBJECTS_MORE)
            assert after.resident_kib <= before.resident_kib + 4_096
