"""What the whole service does when a backend goes wrong in ways that only time can tell."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter

import pytest
from expresslane.attempt import Attempt
from expresslane.backends import http
from expresslane.batches.batch import Batch
from expresslane.batches.held import Amount
from expresslane.batches.ticket import Ticket
from expresslane_client import Deadlines, Outcome, Prompt

from tests.support.fake_backend import FakeBackend, Script, echo_of
from tests.support.fake_backend.adapter import until
from tests.support.fake_backend.openai_dialect import event
from tests.support.service import Service, backend
from tests.support.virtual_service import VirtualBackend, VirtualService
from tests.support.virtual_sockets import virtual_sockets

OF_A_PROMPT = (Batch, Ticket, Attempt)


async def test_machine_that_is_gone() -> None:
    """A half-open connection ends with the first token's deadline, and the prompt is answered elsewhere."""
    busy = asyncio.Event()
    async with FakeBackend() as gone, FakeBackend() as well:
        gone.on(lambda _: Script(half_open=True))
        well.script(Script(before_headers=busy))
        backends = {
            "gone": backend(gone.url, cap=1, first_token_timeout_s=0.05),
            "well": backend(well.url, cap=1),
        }
        async with Service(**backends) as service:
            call = service.client.generate_batch([Prompt("a", "a"), Prompt("b", "b")])
            await gone.wait_for_generations(1)
            await well.wait_for_generations(1)
            busy.set()
            results = await call.collect()
            assert {(one.outcome, one.backend) for one in results} == {(Outcome.SUCCEEDED, "backends/well")}
            assert sorted(one.attempts for one in results) == [1, 2]
            assert (await service.client.get_backend("gone")).in_flight == 0


async def test_a_tool_call_that_breaks_off_is_repeated_with_deltas_on() -> None:
    """Tool calls never go out as deltas: nothing of the broken one has reached the caller (A18)."""
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    broken = Script(wire=[event({"choices": [{"delta": {"tool_calls": [call]}}]})])
    async with FakeBackend() as fake, Service(fake=backend(fake.url), retry_base_s=0.001) as service:
        fake.script(broken)
        result = (await service.client.generate_batch([Prompt("a", "a")], stream_deltas=True).collect())[0]
        assert (result.outcome, result.attempts, result.text) == (Outcome.SUCCEEDED, 2, echo_of("a"))
        fake.script(Script(wire=[event({"choices": [{"delta": {"content": "x"}}]})]))
        result = (await service.client.generate_batch([Prompt("b", "b")], stream_deltas=True).collect())[0]
        assert (result.outcome, result.attempts, result.text) == (Outcome.FAILED, 1, "x")


async def test_attempts_of_which_nobody_knows_share_a_key() -> None:
    """P33: the attempt after a broken connection has the same Idempotency-Key, that after an answer another one."""
    async with FakeBackend() as hosted:
        hosted.script(Script(cut_after=1), Script(status=503, body=b"{}"))
        async with Service(hosted=backend(hosted.url), retry_base_s=0.001) as service:
            hosted_results = await service.client.generate_batch([Prompt("a", "a")]).collect()
            await service.client.generate_batch([Prompt("b", "b")]).collect()
        assert [one.attempts for one in hosted_results] == [3]
        first, again, after_answer, other = (seen.headers["idempotency-key"] for seen in hosted.generations)
        assert first == again
        assert len({first, after_answer, other}) == 3
    async with FakeBackend() as engine, Service(engine=backend(engine.url, "vllm")) as service:
        await service.client.generate_batch([Prompt("a", "a")]).collect()
        assert [seen.headers.get("idempotency-key") for seen in engine.generations] == [None]


async def test_nothing_of_a_storm_stays() -> None:
    """After faults, cancelled calls and callers that leave, no task and no ticket, batch or attempt is left."""
    chance = random.Random(5)
    async with FakeBackend(keep=False) as one, FakeBackend(keep=False) as two:
        for fake in (one, two):
            fake.on(lambda _: fault(chance))
        backends = {
            name: backend(fake.url, cap=3, first_token_timeout_s=0.05, breaker_error_ratio=0)
            for name, fake in (("one", one), ("two", two))
        }
        async with Service(**backends, retry_base_s=0.001) as service:
            await service.client.generate_batch([Prompt("first", "first")]).collect()
            before = tasks_of_the_service()
            of_other_tests = kept()

            async def caller(number: int) -> None:
                prompts = [Prompt(f"{number}-{item}", "x") for item in range(20)]
                async with service.client.generate_batch(prompts) as call:
                    async for _ in call:
                        if number % 4 == 0:
                            return

            await asyncio.gather(*map(caller, range(24)))
            await asyncio.wait_for(service.app.scheduling.idle(), 10)
            await until(lambda: tasks_of_the_service() <= before)
            # What a call held goes with the last turn of its handler; what leaks never goes.
            await until(lambda: not kept() - of_other_tests)
            assert service.app.intake._held.total == Amount()
            assert service.app.intake.tenants.unread.results == 0


def kept() -> Counter[str]:
    """What is alive of prompts and batches."""
    gc.collect()
    return Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, OF_A_PROMPT))


def fault(chance: random.Random) -> Script | None:
    """Half of the time something goes wrong."""
    kind = chance.random()
    if kind < 0.2:
        return Script(status=503)
    if kind < 0.3:
        return Script(cut_after=chance.randint(0, 3))
    if kind < 0.4:
        return Script(status=429, headers={"retry-after-ms": "5"})
    if kind < 0.5:
        return Script(before_headers=asyncio.Event())
    return None


def tasks_of_the_service() -> int:
    """Tasks that run now, but for those of the fakes and of this test."""
    names = (task.get_coro() for task in asyncio.all_tasks())
    return sum("FakeBackend" not in getattr(coro, "__qualname__", "") for coro in names)


@pytest.mark.parametrize("deadlines", [Deadlines(idle_s=0.1), Deadlines(attempt_s=0.3)], ids=["idle", "attempt"])
@virtual_sockets
async def test_a_complete_answer_counts(deadlines: Deadlines, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that passes when an answer is complete, and only its connection is open, takes nothing from it."""
    monkeypatch.setattr(http, "LINGER_S", 60.0)
    async with VirtualBackend() as fake, VirtualService(fake=backend(fake.url)) as service:
        fake.script(Script(hold_open=True))
        (result,) = await service.client.generate_batch([Prompt("a", "a", deadlines=deadlines)]).collect()
        assert (result.error, result.text) == (None, echo_of("a"))
        await fake.generations[0].cancelled.wait()
