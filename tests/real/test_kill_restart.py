"""An engine killed and started again, twice, under a batch, a session and a job: all prompts end once."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from expresslane_client import BatchState, Prompt, Result

from tests.support.service import Service

from .asking import engine_backend, prompt
from .llama_server import LlamaServer
from .own_answers import assert_own_answers

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

PROMPTS = 16
DEATHS = 2
OUTPUT_TOKENS = 80
ATTEMPTS = 2 * DEATHS + 1
"""A death can cost a prompt two: the one that dies, and one that finds the door closed before the service knows."""


@pytest_asyncio.fixture(loop_scope="session")
async def mortal(real_folder: Path) -> AsyncIterator[LlamaServer]:
    """An engine of this file's own, which may be killed."""
    async with LlamaServer(real_folder, context_tokens=4_096) as server:
        yield server


def prompts(salt: str) -> list[Prompt]:
    """One caller's prompts."""
    return [prompt(f"{salt}{index}", 40, output_tokens=OUTPUT_TOKENS) for index in range(PROMPTS)]


class Arrivals:
    """The results of three callers, and an event for each number of them at which the engine is to die."""

    def __init__(self) -> None:
        self.of: dict[str, list[Result]] = {"batch": [], "session": [], "job": []}
        self.deaths = {death * PROMPTS // 2: asyncio.Event() for death in range(1, DEATHS + 1)}

    @property
    def all(self) -> list[Result]:
        """Every result so far."""
        return [one for results in self.of.values() for one in results]

    async def take(self, name: str, results: AsyncIterable[Result]) -> None:
        """Read one caller's results to their end."""
        async for result in results:
            self.of[name].append(result)
            if due := self.deaths.get(len(self.all)):
                due.set()


async def kill_and_start(mortal: LlamaServer, arrivals: Arrivals) -> None:
    """End the engine in the middle of its work each time one of the numbers is reached, and start it again."""
    for due in arrivals.deaths.values():
        await due.wait()
        await mortal.wait_busy(1)
        os.kill(mortal.process.pid, signal.SIGKILL)
        await mortal.stop()
        await mortal.start()


async def test_batch_session_and_job_outlive_their_engine(mortal: LlamaServer) -> None:
    """A20, T13: SIGKILL in the middle of a batch, a session and a job loses no prompt and delivers none twice."""
    arrivals = Arrivals()
    settings = {"probe_interval_s": 0.1, "retry_attempts": ATTEMPTS, "retry_base_s": 0.05}
    async with Service(engine=engine_backend(mortal.url), **settings) as service:
        client = service.client

        async def batch() -> BatchState:
            call = client.generate_batch(prompts("batch"))
            await arrivals.take("batch", call)
            return call.summary.state

        async def session() -> BatchState:
            async with client.stream_prompts() as open_session:
                for one in prompts("session"):
                    await open_session.send(one)
                await open_session.done_sending()
                await arrivals.take("session", open_session)
                return open_session.summary.state

        async def job() -> BatchState:
            watch = client.watch_job((await client.create_job(prompts("job"))).name)
            await arrivals.take("job", watch)
            return watch.summary.state

        *states, _ = await asyncio.gather(batch(), session(), job(), kill_and_start(mortal, arrivals))
        now = await client.get_snapshot()
    assert states == [BatchState.COMPLETED] * 3
    for name, results in arrivals.of.items():
        assert Counter(one.custom_id for one in results) == Counter(one.custom_id for one in prompts(name)), name
    assert [one.error for one in arrivals.all if not one.ok] == []
    assert (now.succeeded, now.submitted, now.queued, now.in_flight) == (3 * PROMPTS, 3 * PROMPTS, 0, 0)
    assert [one for one in arrivals.all if one.attempts > 1], "nothing was in flight when the engine died"
    texts = {one.custom_id: one.text for name in arrivals.of for one in prompts(name)}
    await assert_own_answers(mortal, texts, arrivals.all, OUTPUT_TOKENS)
