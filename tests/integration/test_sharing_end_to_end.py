"""Laws of who is sent next, end to end: what the backend's own log says of a running service.

Random scenarios come from a seed, which is part of a test's name: `pytest -k "name and 3"` repeats one.
"""

from __future__ import annotations

import asyncio
import random

import pytest
from expresslane_client import Client, Prompt, Result

from tests.support.fake_backend import FakeBackend, Script, SeenRequest
from tests.support.fake_backend.echo import echo_of, prompt_of, tokens_of
from tests.support.service import Service, backend

SEEDS = range(4)
TURN_TOKENS = 8_192


def name_of(request: SeenRequest) -> str:
    """The first word of a prompt: which one it is."""
    return prompt_of(request.json).split(" ")[0]


def mixed(prefix: str, count: int, chance: random.Random) -> list[Prompt]:
    """Prompts of up to some 800 tokens; their text begins with their name."""
    names = [f"{prefix}{number}" for number in range(count)]
    return [Prompt(name, f"{name} " + "x" * int(4 * 10 ** chance.uniform(1, 2.9))) for name in names]


async def collect(client: Client, prompts: list[Prompt]) -> list[Result]:
    """Run a batch to its end."""
    return [result async for result in client.generate_batch(prompts)]


async def queued(service: Service, count: int) -> None:
    """Return once that many prompts wait."""
    while (await service.client.get_snapshot()).queued < count:
        pass


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_slot_is_free_while_a_prompt_waits(seed: int) -> None:
    """Whichever ends, the backend holds as many as its cap or all that are left, one look later."""
    chance = random.Random(seed)
    cap, prompts = chance.randint(1, 6), mixed("p", 30, chance)
    gates = {prompt.custom_id: asyncio.Event() for prompt in prompts}
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=cap)) as service:
        fake.on(lambda request: Script(before_headers=gates[name_of(request)]))
        running = asyncio.ensure_future(collect(service.client, prompts))
        for ended in range(len(prompts)):
            left = len(prompts) - ended
            while (await service.client.get_snapshot()).succeeded < ended or not fake.generations:
                pass
            now = await service.client.get_snapshot()
            assert (now.in_flight, now.queued) == (min(cap, left), max(0, left - cap))
            sent = await fake.wait_for_generations(min(ended + cap, len(prompts)))
            held = {name_of(request) for request in sent if not gates[name_of(request)].is_set()}
            assert len(held) == min(cap, left)
            gates[chance.choice(sorted(held))].set()
        assert all(result.ok for result in await running)
        assert fake.peak == cap


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_gap_between_two_tenants(seed: int) -> None:
    """While both wait, what two tenants have had differs by a turn and a few charges at most, failures or not (O01)."""
    chance = random.Random(seed)
    # First come, first served: without fair shares all of the first tenant would be sent first.
    slots, gate = chance.randint(1, 3), asyncio.Event()
    prompts = {tenant: mixed(tenant, 200, chance) for tenant in "ab"}
    charges = {
        prompt.custom_id: tokens_of(prompt.text) + 2 * tokens_of(echo_of(prompt.text))
        for each in prompts.values()
        for prompt in each
    }
    fails = {name for name in charges if chance.random() < 0.2}

    def decide(request: SeenRequest) -> Script:
        name = name_of(request)
        return Script(before_headers=gate) if name == "blocker" else Script(status=400 if name in fails else 200)

    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=slots), policy="fcfs") as service:
        fake.on(decide)
        blockers = [Prompt(f"blocker{number}", "blocker x") for number in range(slots)]
        blocking = asyncio.ensure_future(collect(service.client, blockers))
        await fake.wait_for_generations(slots)
        async with Client(service.address, tenant="a") as one, Client(service.address, tenant="b") as two:
            calls = [
                asyncio.ensure_future(collect(client, each))
                for client, each in zip((one, two), prompts.values(), strict=True)
            ]
            await queued(service, len(charges))
            gate.set()
            await asyncio.gather(blocking, *calls)
        had, left = {"a": 0, "b": 0}, {tenant: len(each) for tenant, each in prompts.items()}
        bound = TURN_TOKENS + (2 * slots + 1) * max(charges.values())
        for name in [name_of(request) for request in fake.generations[slots:]]:
            tenant = name[0]
            left[tenant] -= 1
            had[tenant] += 0 if name in fails else charges[name]
            assert abs(had["a"] - had["b"]) <= bound
            if not all(left.values()):
                break
        assert min(had.values()) > bound, "too little was sent for the bound to tell anything"


@pytest.mark.parametrize("policy", ["fcfs", "sjf"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_the_same_twice(seed: int, policy: str) -> None:
    """The same batches on one slot are sent in the same order, under policies that do not look at the clock."""

    async def order() -> list[str]:
        chance, gate = random.Random(seed), asyncio.Event()
        async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1), policy=policy) as service:
            fake.script(Script(before_headers=gate))
            calls = [asyncio.ensure_future(collect(service.client, [Prompt("blocker", "blocker")]))]
            await fake.wait_for_generations(1)
            waiting = 0
            for prefix in "abc":
                prompts = mixed(prefix, chance.randint(1, 20), chance)
                calls.append(asyncio.ensure_future(collect(service.client, prompts)))
                waiting += len(prompts)
                await queued(service, waiting)
            gate.set()
            await asyncio.gather(*calls)
            return [name_of(request) for request in fake.generations]

    assert await order() == await order()
