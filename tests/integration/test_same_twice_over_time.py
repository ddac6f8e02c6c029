"""The same calls at the same virtual times get the same decisions, nanosecond by nanosecond: the ninth law end to end.

Random scenarios come from a seed, which is part of a test's name: `pytest -k "name and 3"` repeats one.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, NamedTuple

import pytest
from expresslane_client import PromptClass

from tests.support.fake_backend import Script
from tests.support.service import backend
from tests.support.virtual_prompts import name_of, now_s, sized, timed
from tests.support.virtual_service import VirtualBackend, VirtualService
from tests.support.virtual_sockets import virtual_sockets

if TYPE_CHECKING:
    from expresslane_client import Client, Result

    from tests.support.fake_backend import SeenRequest

SEEDS = range(2)
TENANTS = {"a": {"weight": 3}, "b": {"requests_per_min": 40}, "c": {"max_class": "standard"}}
CLASSES = (None, PromptClass.STANDARD, PromptClass.BATCH)


class Ask(NamedTuple):
    """What a backend saw of one attempt; times in virtual nanoseconds."""

    begun_ns: int
    ended_ns: int
    backend: str
    prompt: str
    cancelled: bool


class Got(NamedTuple):
    """What a caller saw of one prompt."""

    at_s: float
    prompt: str
    outcome: str
    attempts: int
    backend: str


class Scenario:
    """Tenants with batches of all kinds before two backends that fail, turn away and change."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._got: list[Got] = []

    async def play(self, policy: str) -> tuple[list[Ask], list[Got]]:
        """Run it from its beginning to its end."""
        async with VirtualBackend() as one, VirtualBackend() as two:
            fakes = {"one": one, "two": two}
            for fake in fakes.values():
                fake.on(self._answer)
            backends = {
                "one": backend(one.url, cap=4, lanes=True, long_threshold_tokens=512, long_slots=1),
                "two": backend(two.url, cap=3, requests_per_min=60, tokens_per_min=40_000),
            }
            async with VirtualService(**backends, policy=policy, tenants=TENANTS, retry_jitter="none") as service:
                operator = asyncio.create_task(self._operator(service.client))
                calls = [self._caller(service.client_of(tenant), tenant, n) for tenant in TENANTS for n in range(6)]
                await asyncio.gather(*calls)
                operator.cancel()
        asks = [
            Ask(seen.begun_ns, seen.ended_ns, name, name_of(seen), seen.cancelled.is_set())
            for name, fake in fakes.items()
            for seen in fake.generations
        ]
        return asks, self._got

    def _answer(self, _: SeenRequest) -> Script:
        chance = self._chance
        kind = chance.random()
        if kind < 0.10:
            return Script(status=503)
        if kind < 0.13:
            return Script(status=429, headers={"Retry-After": "2"})
        return timed(chance.expovariate(5.0), chance.expovariate(2.0), output_tokens=chance.randint(1, 40))

    async def _caller(self, client: Client, tenant: str, number: int) -> None:
        chance = self._chance
        await asyncio.sleep(chance.uniform(0, 20))
        prompts = [
            sized(
                f"{tenant}{number}-{part}",
                int(10 ** chance.uniform(1, 3)),
                target_s=chance.choice((None, chance.uniform(0.5, 10))),
                prompt_class=chance.choice(CLASSES),
                sequential=chance.random() < 0.03,
            )
            for part in range(chance.randint(1, 18))
        ]
        call = client.generate_batch(prompts, in_order=chance.random() < 0.3)
        leaves_after = chance.randint(1, 10) if chance.random() < 0.3 else 0
        async for result in call:
            self._note(result)
            leaves_after -= 1
            if not leaves_after:
                await call.cancel()

    def _note(self, result: Result) -> None:
        self._got.append(Got(now_s(), result.custom_id, result.outcome.value, result.attempts, result.backend))

    async def _operator(self, client: Client) -> None:
        chance = self._chance
        while True:
            await asyncio.sleep(chance.uniform(2, 6))
            await client.update_backend("one", cap=chance.randint(1, 4), concurrency_enabled=chance.random() < 0.8)


@pytest.mark.parametrize("policy", ["hrrn", "lars", "edf", "sjf-aged"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_twice(seed: int, policy: str) -> None:
    """Two runs ask the same backends for the same prompts at the same times, and tell callers the same."""
    runs: list[tuple[list[Ask], list[Got]]] = []

    @virtual_sockets
    async def run() -> None:
        runs.append(await Scenario(seed).play(policy))

    run()
    run()
    (asks, got), again = runs
    assert len(asks) > 80
    assert {ask.backend for ask in asks} == {"one", "two"}
    assert any(ask.cancelled for ask in asks)
    assert any(one.attempts > 1 for one in got)
    assert again == (asks, got)
