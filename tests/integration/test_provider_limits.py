"""Rate limits that a provider enforces without saying for how long, seen from both ends of the service (A26, P35)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import orjson
import pytest
from expresslane_client import Outcome, Prompt

from tests.support.fake_backend import FakeBackend, Script
from tests.support.fake_backend.adapter import until
from tests.support.fake_backend.echo import prompt_of
from tests.support.service import Service, backend

if TYPE_CHECKING:
    from tests.support.fake_backend import SeenRequest

RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
QUICK: dict[str, Any] = {"rate_limit_pause_s": 0.01, "rate_limit_pause_max_s": 0.05}
REFUSALS = {
    "429": Script(status=429, body=b"{}"),
    "slow_down": Script(status=503, body=orjson.dumps({"error": {"message": "no", "code": "slow_down"}})),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_bare_rate_limit_burns_no_attempt(refusal: str) -> None:
    """Six times turned away with two attempts allowed: one attempt in the result, and served in its turn."""
    async with FakeBackend() as fake:
        fake.script(*[REFUSALS[refusal]] * 6)
        async with Service(fake=backend(fake.url, cap=1, **QUICK), retry_attempts=2, policy="fcfs") as service:
            results = await service.client.generate_batch([Prompt(name, name) for name in "abcd"]).collect()
            described = await service.client.get_backend("fake")
        assert [(one.outcome, one.attempts) for one in results] == [(Outcome.SUCCEEDED, 1)] * 4
        assert [one.turned_away for one in results] == [6, 0, 0, 0]
        assert [prompt_of(request.json) for request in fake.generations] == [*"a" * 6, *"abcd"]
        assert (described.turned_away, described.outcomes["retry"]) == (6, 6)
        assert described.rate_limited_times >= 1


async def test_the_backend_sees_the_ramp() -> None:
    """Eight at once are turned away: four come next, by the backend's own record; eight again in the end (P35)."""
    burst, next_round = asyncio.Event(), asyncio.Event()
    met = 0

    def decide(_: SeenRequest) -> Script:
        nonlocal met
        met += 1
        return Script(status=429, before_headers=burst) if met <= 8 else Script(before_headers=next_round)

    async with FakeBackend() as fake:
        fake.on(decide)
        async with Service(fake=backend(fake.url, cap=8, **QUICK)) as service:
            call = service.client.generate_batch([Prompt(f"p{number}", "x") for number in range(60)])
            reading = asyncio.ensure_future(call.collect())
            await until(lambda: fake.in_flight == 8)
            burst.set()
            await until(lambda: met > 8)
            await until(lambda: fake.in_flight == 4)
            fake.peak = 0
            described = await service.client.get_backend("fake")
            assert (described.cap, described.models[0].effective_cap, described.in_flight) == (8, 4, 4)
            assert described.notices == ("m: 4 of 8 at once after a rate limit, more with each round of successes",)
            next_round.set()
            results = await reading
            described = await service.client.get_backend("fake")
        assert {(one.outcome, one.attempts) for one in results} == {(Outcome.SUCCEEDED, 1)}
        assert sorted(one.turned_away for one in results) == [0] * 52 + [1] * 8
        assert 4 <= fake.peak <= 8
        assert (described.models[0].effective_cap, described.notices) == (8, ())


async def test_only_refusals_end_with_the_truth() -> None:
    """A provider that never takes anything: each prompt ends at the queue timeout, as rate limited."""
    async with FakeBackend() as fake:
        fake.on(lambda _: Script(status=429, body=b"{}"))
        served = backend(fake.url, cap=4, rate_limit_pause_s=0.01, rate_limit_pause_max_s=10.0)
        async with Service(fake=served, queue_timeout_s=0.3) as service:
            results = await service.client.generate_batch([Prompt(f"p{number}", "x") for number in range(20)]).collect()
        assert {one.outcome for one in results} == {Outcome.EXPIRED}
        errors = [one.error for one in results if one.error is not None]
        assert {(error.reason, error.code, error.deadline) for error in errors} == {
            ("BACKEND_RATE_LIMITED", RESOURCE_EXHAUSTED, "queue")
        }
        assert any(error.history for error in errors)
        assert {one.attempts for one in results} == {0}
        assert len(fake.generations) == sum(one.turned_away for one in results)
