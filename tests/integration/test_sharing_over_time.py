"""What tenants get of a backlog while much is cancelled and fails, of a running service on virtual time: the fifth law.

Judged by the fake backend's own log: whose prompts it was asked for, and how each ended. Random scenarios come from a
seed, which is part of a test's name: `pytest -k "name and 3"` repeats one.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.fake_backend.echo import prompt_of, tokens_of
from tests.support.service import backend
from tests.support.virtual_order import SCORES
from tests.support.virtual_prompts import name_of, sized, timed
from tests.support.virtual_service import VirtualBackend, VirtualService
from tests.support.virtual_sockets import virtual_sockets

if TYPE_CHECKING:
    from expresslane_client import BatchCall, Client

    from tests.support.fake_backend import Script, SeenRequest

SEEDS = range(4)
TURN_TOKENS, TURN_RELEASES = 8_192, 4
SENDS = 400
OPEN_BATCHES = 3
LARGEST = 512
OUTPUT_MAX = 50


class Plan(NamedTuple):
    """How the backend answers a prompt."""

    first_s: float
    rest_s: float
    output_tokens: int
    status: int


class Contest:
    """Tenants that always have more waiting than fits: small prompts of one fail, another cancels what has begun."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        self.slots = chance.randint(1, 3)
        self.weights = {tenant: chance.randint(1, 3) for tenant in "abc"[: chance.randint(2, 3)]}
        self.plans: dict[str, Plan] = {}
        self._calls: dict[str, BatchCall] = {}
        self._ends: set[asyncio.Task[None]] = set()

    def answer(self, request: SeenRequest) -> Script:
        """Some fail before the first token, some answers are short, some as long as was expected, some are cut off."""
        chance, name = self.chance, name_of(request)
        status = 400 if chance.random() < (0.6 if name[0] == "a" else 0.05) else 200
        made = chance.choice((1, OUTPUT_MAX))
        plan = self.plans[name] = Plan(chance.expovariate(5.0), chance.expovariate(2.0), made, status)
        if name[0] == "b" and chance.random() < 0.5:
            after_s = chance.uniform(0, plan.first_s + plan.rest_s)
            asyncio.get_running_loop().call_later(after_s, self._leave, self._calls[name])
        if status != 200:
            return timed(plan.first_s, status=status)
        return timed(plan.first_s, plan.rest_s, output_tokens=made)

    def _leave(self, call: BatchCall) -> None:
        end = asyncio.ensure_future(call.cancel())
        self._ends.add(end)
        end.add_done_callback(self._ends.discard)

    async def batches(self, client: Client, tenant: str) -> None:
        """One batch after the other, without end."""
        chance = self.chance
        largest = 128 if tenant == "a" else LARGEST
        while True:
            names = [f"{tenant}{len(self._calls) + place}" for place in range(chance.randint(8, 20))]
            prompts = [sized(name, chance.randint(16, largest), max_tokens=OUTPUT_MAX) for name in names]
            call = client.generate_batch(prompts)
            self._calls |= dict.fromkeys(names, call)
            await call.collect()

    def had(self, request: SeenRequest) -> int:
        """What a send has cost its tenant, as documented: uncached input and twice the output; less of what failed."""
        plan, given = self.plans[name_of(request)], tokens_of(prompt_of(request.json))
        if not request.cancelled.is_set():
            return given + 2 * plan.output_tokens if plan.status == 200 else 0
        answering = request.ended_ns >= request.begun_ns + plan.first_s * 1e9
        return given + 2 * OUTPUT_MAX * answering

    def check_gap(self, fake: VirtualBackend) -> None:
        """Fail where one tenant was ahead of another by more than the bound."""
        largest = LARGEST + 2 * OUTPUT_MAX
        bound = min(TURN_TOKENS, TURN_RELEASES * largest) + (2 * self.slots + 1) * largest
        had, shares = dict.fromkeys(self.weights, 0), [0.0]
        for request in sorted(fake.generations[:SENDS], key=lambda request: request.ended_ns):
            had[name_of(request)[0]] += self.had(request)
            shares = [had[tenant] / weight for tenant, weight in self.weights.items()]
            assert max(shares) - min(shares) <= bound, f"{had} by {self.weights}, {self.slots} slots"
        assert min(shares) > bound, f"{had} by {self.weights} is too little for {bound} to tell anything"


@pytest.mark.parametrize("seed", SEEDS)
@virtual_sockets
async def test_the_gap_between_tenants(seed: int) -> None:
    """What tenants that all wait have had, by weight, differs by a turn and a few charges, whatever ends how (O01)."""
    contest = Contest(seed)
    tenants = {tenant: {"weight": weight} for tenant, weight in contest.weights.items()}
    policy = contest.chance.choice(sorted(SCORES))
    async with (
        VirtualBackend() as fake,
        VirtualService(
            fake=backend(fake.url, cap=contest.slots), tenants=tenants, policy=policy, retry_attempts=1
        ) as service,
    ):
        fake.on(contest.answer)
        callers = [
            asyncio.create_task(contest.batches(service.client_of(tenant), tenant))
            for tenant in tenants
            for _ in range(OPEN_BATCHES)
        ]
        await fake.wait_for_generations(SENDS + contest.slots)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    contest.check_gap(fake)
    cut_off = [request for request in fake.generations[:SENDS] if request.cancelled.is_set()]
    assert len(cut_off) > 10
