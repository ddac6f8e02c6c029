"""Rate limits that a provider enforces without saying for how long, seen from both ends of the service (A26, P35)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import orjson
import pytest
from expresslane_client import Outcome, Prompt, RateLimited

from tests.support.fake_backend import FakeBackend, Script
from tests.support.fake_backend.adapter import until
from tests.support.fake_backend.echo import prompt_of
from tests.support.service import Service, backend
from tests.support.virtual_service import VirtualBackend, VirtualService
from tests.support.virtual_sockets import virtual_sockets
from tests.support.virtual_time import now_ns

if TYPE_CHECKING:
    from expresslane_client import Event

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


@virtual_sockets
async def test_only_refusals_end_with_the_truth() -> None:
    """A provider that never takes anything: each prompt ends at the queue timeout, as rate limited."""
    async with VirtualBackend() as fake:
        fake.on(lambda _: Script(status=429, body=b"{}"))
        served = backend(fake.url, cap=4, rate_limit_pause_s=0.01, rate_limit_pause_max_s=10.0)
        async with VirtualService(fake=served, queue_timeout_s=0.3) as service:
            results = await service.client.generate_batch([Prompt(f"p{number}", "x") for number in range(20)]).collect()
        assert {one.outcome for one in results} == {Outcome.EXPIRED}
        errors = [one.error for one in results if one.error is not None]
        assert {(error.reason, error.code, error.deadline) for error in errors} == {
            ("BACKEND_RATE_LIMITED", RESOURCE_EXHAUSTED, "queue")
        }
        assert any(one.history for one in results)
        assert {one.attempts for one in results} == {0}
        assert len(fake.generations) == sum(one.turned_away for one in results)


class Windows:
    """A provider's own limit: so many requests in each window of time, counted exactly and told in every answer."""

    def __init__(self, limit: int, window_ns: int) -> None:
        self.limit = limit
        self.window_ns = window_ns
        self.counts: list[int] = []
        self.refused: list[int] = []
        self._until_ns = 0

    def __call__(self, request: SeenRequest) -> Script:
        """Count a request and answer it."""
        at_ns = now_ns()
        if at_ns >= self._until_ns:
            self.counts.append(0)
            self._until_ns = at_ns + self.window_ns
        is_taken = self.counts[-1] < self.limit
        self.counts[-1] += is_taken
        if not is_taken:
            self.refused.append(request.number)
        told = {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.limit - self.counts[-1]),
            "x-ratelimit-reset-requests": f"{(self._until_ns - at_ns) // 1_000_000 + 1}ms",
        }
        return Script(headers=told) if is_taken else Script(status=429, headers=told, body=b"{}")


@pytest.mark.parametrize("learns_first", [True, False])
@virtual_sockets
async def test_what_a_provider_has_left_steers_it(learns_first: bool) -> None:
    """Five requests a window and eight slots: once an answer has said so, not one 429, and every prompt ends (A26)."""
    provider = Windows(limit=5, window_ns=300_000_000)
    async with VirtualBackend() as fake:
        fake.on(provider)
        served = backend(fake.url, cap=8, rate_limit_ramp=False)
        async with VirtualService(fake=served) as service:
            if learns_first:
                await service.client.generate("x").collect()
            first = len(fake.requests)
            events: list[Event] = []
            prompts = [Prompt(f"p{number}", "x") for number in range(22)]
            results = await service.client.generate_batch(prompts, on_event=events.append).collect()
        assert {(one.outcome, one.attempts) for one in results} == {(Outcome.SUCCEEDED, 1)}
        # The first eight go before anything is known.
        assert len(provider.refused) <= (0 if learns_first else 3)
        assert all(number < first + 8 for number in provider.refused)
        assert sum(provider.counts) == len(results) + learns_first
        limited = [event for event in events if isinstance(event, RateLimited)]
        assert {event.backend for event in limited} == {"backends/fake"}
        assert {event.limit for event in limited} <= {"requests_left", "pause"}
        assert "requests_left" in {event.limit for event in limited}
        assert all(0 < event.reset_in_ms <= 310 for event in limited)
