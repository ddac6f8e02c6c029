"""No policy of a running service lets a prompt starve: the fourth law on virtual time, by the fake backend's log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.service import backend
from tests.support.virtual_order import Waiter, check_order, prefill_s, sent_of
from tests.support.virtual_prompts import name_of, now_s, sized, timed
from tests.support.virtual_service import VirtualBackend, VirtualService
from tests.support.virtual_sockets import virtual_sockets

if TYPE_CHECKING:
    from expresslane_client import Prompt

RIVALS = 12
SIEGE_MAX = 2_000


class Siege:
    """One prompt waits while rivals come without end: a new one whenever one has ended, so that eleven always wait."""

    def __init__(self, service: VirtualService, victim: Waiter, rival: Waiter) -> None:
        self._client = service.client
        self._victim = victim
        self._rival = rival
        self.waiters: dict[str, Waiter] = {}
        self._over = False

    def _come(self, like: Waiter, name: str) -> Prompt:
        self.waiters[name] = Waiter(name, like.tokens, now_s(), like.target_s)
        return sized(name, like.tokens, target_s=like.target_s)

    async def lay(self, fake: VirtualBackend) -> None:
        """Run until the prompt has had its turn, or too many have gone before it."""
        for tokens in (64, 4_096, 256, 1_024) * 4:  # What is learned of the backend's speed then holds for all sizes.
            await self._client.collect_batch([self._come(Waiter("", tokens, 0), f"before{len(self.waiters)}")])
        attack = [asyncio.create_task(self._attack(number)) for number in range(RIVALS)]
        await fake.wait_for_generations(len(self.waiters) + 1)
        victim = asyncio.create_task(self._wait())
        await asyncio.gather(*attack)
        victim.cancel()
        await asyncio.gather(victim, return_exceptions=True)

    async def _wait(self) -> None:
        await self._client.collect_batch([self._come(self._victim, "victim")])
        self._over = True

    async def _attack(self, number: int) -> None:
        while not self._over and len(self.waiters) < SIEGE_MAX:
            await self._client.collect_batch([self._come(self._rival, f"rival{number}-{len(self.waiters)}")])


def hrrn_bound(late_from_s: float = 0.0) -> float:
    """Rivals of 64 tokens before a prompt of 2,048: s / m * Q, where all that wait are late from `late_from_s` on."""
    return prefill_s(2_048) / prefill_s(64) * (RIVALS - late_from_s / prefill_s(64))


SIEGES = {
    # The prompt that waits, its rivals, and how many of these may go first: as the policy's documentation says.
    "fcfs": (Waiter("", 2_048, 0), Waiter("", 64, 0), RIVALS),
    "hrrn": (Waiter("", 2_048, 0), Waiter("", 64, 0), hrrn_bound()),
    "lars": (Waiter("", 2_048, 0), Waiter("", 64, 0), hrrn_bound()),
    "lars, a target": (Waiter("", 2_048, 0, 2.0), Waiter("", 64, 0, 0.1), 2.0 / prefill_s(64) + hrrn_bound(0.1)),
    "edf": (Waiter("", 2_048, 0), Waiter("", 1_024, 0, 1.0), 59.0 / prefill_s(1_024) + RIVALS),
    "edf, a target": (Waiter("", 2_048, 0, 5.0), Waiter("", 64, 0, 1.0), 4.0 / prefill_s(64) + RIVALS),
    "sjf-aged": (Waiter("", 2_048, 0), Waiter("", 64, 0), (2_048 - 64) / 1_000 / prefill_s(64) + RIVALS),
    "ljf": (Waiter("", 64, 0), Waiter("", 512, 0), 100 * (1 - prefill_s(64) / prefill_s(512)) + RIVALS),
    # Promotion: after a minute nine times its own tokens.
    "sjf": (Waiter("", 4_096, 0), Waiter("", 1_024, 0), 60.0 / prefill_s(1_024) + 9 * 4_096 / 1_024 + 1),
}


@pytest.mark.parametrize("name", SIEGES)
@virtual_sockets
async def test_nothing_starves(name: str) -> None:
    """However long rivals come that the policy likes better, no more go first than its documentation says (G08)."""
    victim, rival, bound = SIEGES[name]
    policy = name.partition(",")[0]
    async with (
        VirtualBackend() as fake,
        VirtualService(fake=backend(fake.url, cap=1), policy=policy, queue_timeout_s=3_600) as service,
    ):
        fake.on(lambda request: timed(prefill_s(siege.waiters[name_of(request)].tokens)))
        siege = Siege(service, victim, rival)
        await siege.lay(fake)
        sent = [one for one in sent_of(fake, siege.waiters) if not one.prompt.name.startswith("before")]
    places = [place for place, one in enumerate(sent) if one.prompt.name == "victim"]
    assert places, f"after {len(sent)} rivals the prompt still waits"
    first = 1  # It was in flight when the prompt came.
    assert places[0] - first <= bound
    if policy != "fcfs":
        assert places[0] - first >= 0.8 * bound, "the siege does not show that the bound is tight"
    if policy != "sjf":
        check_order(policy, sent[first:])
