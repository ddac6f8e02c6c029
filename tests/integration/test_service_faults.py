"""What the whole service does when a backend goes wrong in ways that only time can tell."""

from __future__ import annotations

import asyncio

from expresslane_client import Outcome, Prompt

from tests.support.fake_backend import FakeBackend, Script
from tests.support.service import Service, backend


async def test_machine_that_is_gone() -> None:
    """A half-open connection ends with the first token's deadline, and the prompt is answered elsewhere."""
    busy = asyncio.Event()
    async with FakeBackend() as gone, FakeBackend() as well:
        gone.on(lambda _: Script(half_open=True))
        well.script(Script(before_headers=busy))
        backends = {
            "gone": backend(gone.url, cap=1, first_token_timeout_s=0.05),
            "well": backend(well.url, cap=1),
        }
        async with Service(**backends) as service:
            call = service.client.generate_batch([Prompt("a", "a"), Prompt("b", "b")])
            await gone.wait_for_generations(1)
            await well.wait_for_generations(1)
            busy.set()
            results = await call.collect()
            assert {(one.outcome, one.backend) for one in results} == {(Outcome.SUCCEEDED, "backends/well")}
            assert sorted(one.attempts for one in results) == [1, 2]
            assert (await service.client.get_backend("gone")).in_flight == 0
