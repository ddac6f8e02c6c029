"""What retries and concurrency are worth, in numbers: against backends that fail at a rate, on virtual time."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from expresslane.errors import BackendError, Reason
from expresslane.results import Outcome
from expresslane.retries import RetryPolicy

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.world import SECOND, Play, ScriptedBackend, World, prompt, second

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call

PROMPTS = 20_000
FAILING = 0.1
SEED = 22


def unreliable(chance: random.Random) -> Play:
    """Fail one attempt in ten, in a way that can be repeated."""

    async def play(_: Call, answer: Answer) -> None:
        if chance.random() < FAILING:
            raise BackendError(Reason.BACKEND_OVERLOADED, "busy", retryable=True, http_status=503)
        answer.push("fine")

    return play


def spread(share: float) -> float:
    """Four standard deviations of how many of PROMPTS such a share is."""
    return float(4 * (PROMPTS * share * (1 - share)) ** 0.5)


@pytest.mark.parametrize("attempts", [1, 3])
@virtual_time
async def test_success_with_a_tenth_of_attempts_failing(attempts: int) -> None:
    """A22: with 10 % failures and n attempts 1 - 0.1^n of all prompts succeed, 99.9 % with three; each try is told."""
    chance = random.Random(SEED)
    policy = RetryPolicy(attempts=attempts, base_s=0.5, cap_s=30, random=random.Random(SEED))
    async with World(ScriptedBackend(default=unreliable(chance)), settings={"cap": 500}, retries=policy) as world:
        results, summary = await world.run([prompt(str(number)) for number in range(PROMPTS)])
    failed = summary.outcomes[Outcome.FAILED]
    assert abs(failed - PROMPTS * FAILING**attempts) <= spread(FAILING**attempts), f"seed {SEED}"
    assert summary.outcomes[Outcome.SUCCEEDED] == PROMPTS - failed
    made = Counter(result.attempts for result in results)
    for number in range(1, attempts):
        share = FAILING ** (number - 1) * (1 - FAILING)
        assert abs(made[number] - PROMPTS * share) <= spread(share), f"seed {SEED}"
    assert {result.attempts for result in results if result.outcome is Outcome.FAILED} == {attempts}


@pytest.mark.parametrize(("cap", "wall_s"), [(1, 20.0), (100, 0.2)])
@virtual_time
async def test_a_hundred_prompts_of_a_fifth_of_a_second(cap: int, wall_s: float) -> None:
    """A15: 100 x 200 ms take 20 s one after the other and 0.2 s at a cap of 100; the summary says the same."""
    async with World(ScriptedBackend(default=second(0.2)), settings={"cap": cap}) as world:
        begun = now_ns()
        _, summary = await world.run([prompt(str(number)) for number in range(100)])
        assert now_ns() - begun == pytest.approx(wall_s * SECOND, abs=1_000)
    assert summary.sequential_ns == pytest.approx(20 * SECOND, abs=1_000)
    assert summary.speed_up == pytest.approx(20 / wall_s, rel=1e-6)
