"""Who gets how much of a slot that all want: least shares of classes, what a prompt costs, whom fairness knows."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from expresslane_client import Client, Prompt, PromptClass

from tests.support.fake_backend import FakeBackend, Script
from tests.support.fake_backend.echo import prompt_of
from tests.support.service import Service, backend

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

FIRST = 60
"""So many of those that wait are looked at, of three times as many."""
SLACK = 4
"""Releases by which a share may be off: a turn."""


async def collect(client: Client, prompts: Sequence[Prompt]) -> int:
    """Run a batch to its end; how many succeeded."""
    return sum([result.ok async for result in client.generate_batch(prompts)])


async def order(batches: Sequence[tuple[str, list[Prompt]]], **settings: Any) -> list[str]:
    """The first words of the prompts as one slot is given them; (tenant, batch) come one after the other and wait."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1), **settings) as service:
        fake.script(Script(before_headers=gate))
        calls = [asyncio.ensure_future(collect(service.client, [Prompt("first", "first")]))]
        await fake.wait_for_generations(1)
        clients = {tenant: Client(service.address, tenant=tenant) for tenant, _ in batches}
        waiting = 0
        for tenant, prompts in batches:
            calls.append(asyncio.ensure_future(collect(clients[tenant], prompts)))
            waiting += len(prompts)
            while (await service.client.get_snapshot()).queued < waiting:
                pass
        gate.set()
        assert sum(await asyncio.gather(*calls)) == waiting + 1
        for client in clients.values():
            await client.close()
    return [prompt_of(request.json).split(" ")[0] for request in fake.generations[1:]]


def batch(name: str, **options: Any) -> list[Prompt]:
    """As many prompts as are looked at, all of one size; each text begins with the batch's name."""
    return [Prompt(f"{name}{number}", f"{name} " + "x" * 4_000, **options) for number in range(FIRST)]


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({}, {"interactive": 1.0}),
        ({"batch": 0.2}, {"interactive": 0.8, "batch": 0.2}),
        ({"standard": 0.1, "batch": 0.3}, {"interactive": 0.6, "standard": 0.1, "batch": 0.3}),
    ],
)
async def test_each_class_has_its_own_least_share(shares: dict[str, float], expected: dict[str, float]) -> None:
    """While all classes wait, a lower one has the share that was configured for it and no other's; without, nothing."""
    batches = [("t", batch(one.name.lower(), prompt_class=one)) for one in PromptClass]
    had = Counter((await order(batches, policy="fcfs", class_min_shares=shares))[:FIRST])
    for name in ("interactive", "standard", "batch"):
        share = expected.get(name, 0.0)
        assert abs(had[name] - share * FIRST) <= (SLACK if share not in {0.0, 1.0} else 0), had


@pytest.mark.parametrize(("flag", "expected"), [(False, ["answer", "question"]), (True, ["question", "answer"])])
async def test_what_is_short_with_the_output_counted(flag: bool, expected: list[str]) -> None:
    """By input alone a short prompt with a long answer goes first; with cost_includes_output it is the longer one."""
    prompts = [
        Prompt("question", "question " + "x" * 4_000, max_tokens=10),
        Prompt("answer", "answer " + "x" * 40, max_tokens=4_000),
    ]
    assert await order([("t", prompts)], policy="sjf", cost_includes_output=flag) == expected


@pytest.mark.parametrize(
    ("fairness", "expected"),
    [
        ("none", {"one": 1.0}),
        ("tenant", {"one": 0.5, "other": 0.5}),
        ("tenant_batch", {"one": 0.25, "two": 0.25, "other": 0.5}),
    ],
)
async def test_whom_fairness_tells_apart(fairness: str, expected: dict[str, float]) -> None:
    """Nobody: first come, first served. Tenants: half for each. Batches too: a tenant's half is shared by its two."""
    batches = [("a", batch("one")), ("a", batch("two")), ("b", batch("other"))]
    had = Counter((await order(batches, policy="fcfs", fairness=fairness))[:FIRST])
    for name in ("one", "two", "other"):
        share = expected.get(name, 0.0)
        assert abs(had[name] - share * FIRST) <= (SLACK if share not in {0.0, 1.0} else 0), had
