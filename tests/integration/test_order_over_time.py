"""Waiters are served in their policy's order, at a cap and at a limit, of a running service on virtual time.

Judged by the fake backend's own log: when it was asked for which prompt. Random scenarios come from a seed, which is
part of a test's name: `pytest -k "name and 3"` repeats one.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from expresslane_client import RateLimited

from tests.support.service import backend
from tests.support.virtual_order import EXACT, SCORES, Waiter, check_order, prefill_s, sent_of
from tests.support.virtual_prompts import name_of, now_s, sized, timed
from tests.support.virtual_service import VirtualBackend, VirtualService
from tests.support.virtual_sockets import virtual_sockets

if TYPE_CHECKING:
    from expresslane_client import Client, Event

SEEDS = range(3)


async def arrive(
    client: Client, waiters: dict[str, Waiter], chance: random.Random, *, count: int, gap_s: float, tokens_max: int
) -> list[tuple[float, Event]]:
    """Small batches, which are one flow, at random times; returns what their callers were told, and when."""
    events: list[tuple[float, Event]] = []
    calls = []

    def note(event: Event) -> None:
        events.append((now_s(), event))

    for number in range(count):
        await asyncio.sleep(chance.expovariate(1 / gap_s))
        prompts = []
        for part in range(chance.randint(1, 4)):
            name, tokens = f"p{number}-{part}", int(tokens_max ** chance.uniform(0.5, 1))
            target_s = chance.choice((None, chance.uniform(0.1, 20)))
            waiters[name] = Waiter(name, tokens, now_s(), target_s)
            prompts.append(sized(name, tokens, target_s=target_s, max_tokens=1))
        calls.append(asyncio.create_task(client.generate_batch(prompts, on_event=note).collect()))
    for results in await asyncio.gather(*calls):
        assert all(result.ok for result in results)
    return events


@pytest.mark.parametrize("policy", SCORES)
@pytest.mark.parametrize("seed", SEEDS)
@virtual_sockets
async def test_order_at_a_cap(seed: int, policy: str) -> None:
    """Whatever arrives when, each free slot goes to the prompt that scores highest at that moment (G08)."""
    chance = random.Random(seed)
    waiters: dict[str, Waiter] = {}
    cap = chance.randint(1, 3)
    async with (
        VirtualBackend() as fake,
        VirtualService(fake=backend(fake.url, cap=cap), policy=policy) as service,
    ):
        fake.on(lambda request: timed(prefill_s(waiters[name_of(request)].tokens)))
        await arrive(service.client, waiters, chance, count=40, gap_s=0.2, tokens_max=4_096)
        sent = sent_of(fake, waiters)
    assert len(sent) == len(waiters)
    passed = check_order(policy, sent)
    assert passed == 0 if policy == "fcfs" else passed > len(sent)


@pytest.mark.parametrize("limit", ["requests_per_min", "tokens_per_min"])
@pytest.mark.parametrize("policy", ["fcfs", "sjf-aged", "edf", "hrrn"])
@pytest.mark.parametrize("seed", SEEDS[:2])
@virtual_sockets
async def test_order_at_a_limit(seed: int, policy: str, limit: str) -> None:
    """What waits for a window goes in the policy's order, and exactly when its caller was told (T10, T15).

    Nothing small slips past a large prompt that tokens per minute keep waiting.
    """
    chance = random.Random(seed)
    waiters: dict[str, Waiter] = {}
    limits: dict[str, Any] = {limit: {"requests_per_min": 25, "tokens_per_min": 20_000}[limit]}
    async with (
        VirtualBackend() as fake,
        VirtualService(fake=backend(fake.url, cap=500, **limits), policy=policy, queue_timeout_s=3_600) as service,
    ):
        fake.on(lambda request: timed(prefill_s(waiters[name_of(request)].tokens)))
        events = await arrive(service.client, waiters, chance, count=24, gap_s=1.0, tokens_max=2_048)
        sent = sent_of(fake, waiters)
    assert len(sent) == len(waiters)
    check_order(policy, sent)
    told = [(at_s, event) for at_s, event in events if isinstance(event, RateLimited)]
    assert {event.limit for _, event in told} == {limit}
    if limit == "requests_per_min":
        for at_s, event in told:
            again_s = min(one.at_s for one in sent if one.at_s > at_s + EXACT)
            assert again_s == pytest.approx(at_s + event.reset_in_ms / 1e3, abs=EXACT)
