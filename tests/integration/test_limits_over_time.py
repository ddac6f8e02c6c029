"""No minute holds more than its limit, of a running service on virtual time: the twelfth law.

Judged by the fake backends' own logs: when they were asked for what, and what they answered. Random scenarios come from
a seed, which is part of a test's name: `pytest -k "name and 3"` repeats one.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypedDict

import pytest

from tests.support.fake_backend.echo import prompt_of, tokens_of
from tests.support.service import backend
from tests.support.virtual_order import EXACT, SCORES
from tests.support.virtual_prompts import name_of, now_s, sized, timed
from tests.support.virtual_service import VirtualBackend, VirtualService
from tests.support.virtual_sockets import VirtualSocketLoop, virtual_sockets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from expresslane_client import Client, Result

    from tests.support.fake_backend import Script, SeenRequest

SEEDS = range(5)
MINUTE_S = 60.0
OUTPUT_MAX = 50


class Limits(TypedDict):
    requests_per_min: int
    tokens_per_min: int


@dataclass(frozen=True, slots=True)
class Charge:
    """One send: when it was, and at least how many tokens the service must have counted for it."""

    at_s: float
    tokens: int


@dataclass
class Limited:
    """A backend or a tenant: its limits from when on, and what was sent of its."""

    limits: list[tuple[float, Limits]] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)

    def check(self, who: str) -> dict[str, int]:
        """Fail where a send made too much of the minute before it. Returns how often each limit was nearly reached."""
        near = {"requests_per_min": 0, "tokens_per_min": 0}
        for place, one in enumerate(self.charges):
            minute = [other for other in self.charges[: place + 1] if other.at_s > one.at_s - MINUTE_S + EXACT]
            requests, tokens = len(minute), sum(other.tokens for other in minute)
            since_s, limits = self.limits[bisect_left(self.limits, one.at_s + EXACT, key=lambda entry: entry[0]) - 1]
            told = f"{who} at {one.at_s}: {requests} requests, {tokens} tokens; since {since_s} {limits}"
            assert requests <= limits["requests_per_min"], told
            assert tokens <= limits["tokens_per_min"], told
            near["requests_per_min"] += requests == limits["requests_per_min"]
            near["tokens_per_min"] += tokens > 0.9 * limits["tokens_per_min"]
        return near


class Traffic:
    """Random batches of several tenants at two backends, whose limits change while they run."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.backends = {"one": Limited(), "two": Limited()}
        self.tenants = {"acme": Limited(), "other": Limited()}
        self.events_s: list[float] = []
        """When something happened that can let a prompt go: it came, another ended, a limit changed."""
        self.made: dict[str, int] = {}
        """The tokens of each prompt's answer; 0: it fails."""

    def limits(self, *, of_tenant: bool) -> Limits:
        """Some limits."""
        chance = self.chance
        tokens = chance.randint(4_500, 9_000) if of_tenant else chance.randint(6_000, 12_000)
        return {"requests_per_min": chance.randint(15, 25), "tokens_per_min": tokens}

    def begin(self, whose: Limited, *, of_tenant: bool = False) -> dict[str, Any]:
        """Limits to begin with."""
        limits = self.limits(of_tenant=of_tenant)
        whose.limits.append((0.0, limits))
        return dict(limits)

    def answer(self, request: SeenRequest) -> Script:
        """Mostly all of what was allowed or less of it, to a prompt that may have been cached; else a failure."""
        chance = self.chance
        made = self.made[name_of(request)] = 0 if chance.random() < 0.1 else chance.randint(1, OUTPUT_MAX)
        first_s, rest_s = chance.expovariate(2.0), chance.expovariate(0.5)
        if not made:
            return timed(first_s, status=400)
        cached = chance.choice([0, chance.randint(0, 1_000)])
        return timed(first_s, rest_s, output_tokens=made, cached_tokens=cached)

    async def caller(self, client: Client, tenant: str, number: int) -> list[Result]:
        """One batch; some callers go before its end."""
        chance = self.chance
        await asyncio.sleep(chance.uniform(0, 200))
        prompts = [
            sized(f"{tenant}-{number}-{part}", int(10 ** chance.uniform(1, 3)), max_tokens=OUTPUT_MAX)
            for part in range(chance.randint(1, 25))
        ]
        self.events_s.append(now_s())
        call = client.generate_batch(prompts)
        if chance.random() < 0.2:
            reading = asyncio.ensure_future(call.collect())
            await asyncio.wait([reading], timeout=chance.uniform(1, 100))
            self.events_s.append(now_s())
            await call.cancel()
            await reading
            return []
        results = await call.collect()
        assert len(results) == len(prompts)
        return results

    async def operator(self, client: Client) -> None:
        """Changes limits through Admin."""
        chance = self.chance
        while True:
            await asyncio.sleep(chance.uniform(20, 50))
            name = chance.choice([*self.backends, *self.tenants])
            limits = self.limits(of_tenant=name in self.tenants)
            at_s = now_s()
            if name in self.tenants:
                await client.update_tenant(name, **limits)
            else:
                await client.update_backend(name, **limits)
            assert now_s() == at_s
            (self.tenants | self.backends)[name].limits.append((at_s, limits))
            self.events_s.append(at_s)

    def judge(self, fakes: Mapping[str, VirtualBackend]) -> None:
        """Put what was sent to each backend's and each tenant's account."""
        sent: list[tuple[float, str, str, int, int]] = []
        for backend_id, fake in fakes.items():
            for request in fake.generations:
                self.events_s.append(request.ended_ns / 1e9)
                tenant = name_of(request).partition("-")[0]
                of_backend, of_tenant = self._tokens(request)
                sent.append((request.begun_ns / 1e9, backend_id, tenant, of_backend, of_tenant))
        for at_s, backend_id, tenant, of_backend, of_tenant in sorted(sent):
            self.backends[backend_id].charges.append(Charge(at_s, of_backend))
            self.tenants[tenant].charges.append(Charge(at_s, of_tenant))

    def _tokens(self, request: SeenRequest) -> tuple[int, int]:
        """What a send counts for, at its backend's account and at its tenant's.

        An answer counts with its usage, cached input too. What ended without one counts for its backend as expected,
        for it may have counted it; for its tenant a failure before the first token is free, and what was cancelled has
        its input.
        """
        name = name_of(request)
        given = tokens_of(prompt_of(request.json))
        if request.cancelled.is_set():
            return given + OUTPUT_MAX, given
        made = self.made[name]
        return (given + made, given + made) if made else (given + OUTPUT_MAX, 0)

    def check_moments(self) -> None:
        """Fail where a send had no reason to come just then: nothing polls, and no window is seen open late."""
        sends = sorted({charge.at_s for one in self.backends.values() for charge in one.charges})
        reasons = sorted(self.events_s + [at_s + MINUTE_S for at_s in sends])
        for at_s in sends:
            place = bisect_left(reasons, at_s - EXACT)
            assert place < len(reasons), f"nothing happened at {at_s}"
            assert reasons[place] <= at_s + EXACT, f"nothing happened at {at_s}, but at {reasons[place]}"


@pytest.mark.parametrize("seed", SEEDS)
@virtual_sockets
async def test_no_minute_holds_more_than_its_limit(seed: int) -> None:
    """Whatever fails, is cancelled or changes, over any 60 s neither a backend nor a tenant exceeds a limit (T10, T11).

    And each send is made the moment it may be: when something has ended or changed, or a minute after another.
    """
    traffic = Traffic(seed)
    async with VirtualBackend() as one, VirtualBackend() as two:
        fakes = {"one": one, "two": two}
        for fake in fakes.values():
            fake.on(traffic.answer)
        backends = {
            name: backend(fake.url, cap=traffic.chance.randint(3, 20), **traffic.begin(traffic.backends[name]))
            for name, fake in fakes.items()
        }
        tenants = {name: traffic.begin(account, of_tenant=True) for name, account in traffic.tenants.items()}
        policy = traffic.chance.choice(sorted(SCORES))
        async with VirtualService(
            **backends, tenants=tenants, policy=policy, retry_attempts=1, queue_timeout_s=3_600
        ) as service:
            operator = asyncio.create_task(traffic.operator(service.client))
            await asyncio.gather(
                *(
                    traffic.caller(service.client_of(tenant), tenant, number)
                    for tenant in tenants
                    for number in range(12)
                )
            )
            operator.cancel()
    traffic.judge(fakes)
    accounts = traffic.backends | traffic.tenants
    near = {name: account.check(name) for name, account in accounts.items()}
    traffic.check_moments()
    assert all(any(one.values()) for one in near.values()), f"no limit was felt: {near}"


@virtual_sockets
async def test_cached_input_counts() -> None:
    """A limit counts what the backend found in its cache, as providers do."""
    async with VirtualBackend() as fake:
        fake.on(lambda _: timed(0.1, output_tokens=10, cached_tokens=900))
        async with VirtualService(fake=backend(fake.url, tokens_per_min=1_000, cap=1)) as service:
            prompts = [sized(f"p{number}", 900, max_tokens=10) for number in range(3)]
            results = await service.client.generate_batch(prompts).collect()
            usages = {(one.usage.input_tokens, one.usage.cached_input_tokens) for one in results if one.usage}
            assert usages == {(900, 900)}
    begun_s = [request.begun_ns / 1e9 for request in fake.generations]
    gaps_s = [later - earlier for earlier, later in pairwise(begun_s)]
    assert len(gaps_s) == 2
    assert min(gaps_s) >= MINUTE_S - EXACT, begun_s


@virtual_sockets
async def test_waiting_costs_nothing() -> None:
    """While prompts wait for a limit the service wakes no more often than when none waits: nothing polls."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualSocketLoop)

    async def wakes(service: VirtualService, prompts: int) -> int:
        """In a part of a minute in which nothing may be sent, behind the five that were."""
        call = service.client.generate_batch([sized(f"p{number}", 10) for number in range(prompts)], heartbeat_s=600)
        await anext(call)
        await asyncio.sleep(1)
        before = len(loop.jumps)
        await asyncio.sleep(55)
        after = len(loop.jumps)
        now = await service.client.get_snapshot()
        assert (now.queued, now.in_flight) == (prompts - 5, 0)
        await call.cancel()
        return after - before

    async with (
        VirtualBackend() as fake,
        VirtualService(fake=backend(fake.url, requests_per_min=5, cap=20), model_refresh_s=3_600) as service,
    ):
        with_none_waiting = await wakes(service, 5)
        await asyncio.sleep(MINUTE_S)
        # Idle connections are looked at every 15 s, which may coincide with another timer or not.
        assert await wakes(service, 500) <= with_none_waiting + 2
        assert len(fake.generations) == 10
