"""An engine killed and started again, twice, under a batch, a session and a job: all prompts end once."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from expresslane_client import BatchState, Prompt, Result

from tests.support.service import Service

from .asking import ask, engine_backend, prompt, text_of
from .llama_server import LlamaServer

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

PROMPTS = 16
DEATHS = 2
OUTPUT_TOKENS = 80


@pytest_asyncio.fixture(loop_scope="session")
async def mortal(real_folder: Path) -> AsyncIterator[LlamaServer]:
    """An engine of this file's own, which may be killed."""
    async with LlamaServer(real_folder, context_tokens=4_096) as server:
        yield server


def prompts(salt: str) -> list[Prompt]:
    """One caller's prompts."""
    return [prompt(f"{salt}{index}", 40, output_tokens=OUTPUT_TOKENS) for index in range(PROMPTS)]


async def test_batch_session_and_job_outlive_their_engine(mortal: LlamaServer) -> None:
    """A20, T13: SIGKILL in the middle of a batch, a session and a job loses no prompt and delivers none twice."""
    log: dict[str, list[Result]] = {"batch": [], "session": [], "job": []}
    settings = {"probe_interval_s": 0.1, "retry_attempts": 4, "retry_base_s": 0.05}
    async with Service(engine=engine_backend(mortal.url), **settings) as service:
        client = service.client

        async def batch() -> BatchState:
            call = client.generate_batch(prompts("batch"))
            log["batch"] += [result async for result in call]
            return call.summary.state

        async def session() -> BatchState:
            async with client.stream_prompts() as open_session:
                for one in prompts("session"):
                    await open_session.send(one)
                await open_session.done_sending()
                log["session"] += [result async for result in open_session]
                return open_session.summary.state

        async def job() -> BatchState:
            made = await client.create_job(prompts("job"))
            watch = client.watch_job(made.name)
            log["job"] += [result async for result in watch]
            return watch.summary.state

        async def killer() -> None:
            for death in range(1, DEATHS + 1):
                while (await client.get_snapshot()).succeeded < death * PROMPTS // 2:  # noqa: ASYNC110 - the service sets no event
                    await asyncio.sleep(0)
                await mortal.wait_busy(1)
                os.kill(mortal.process.pid, signal.SIGKILL)
                await mortal.stop()
                await mortal.start()

        *states, _ = await asyncio.gather(batch(), session(), job(), killer())
        now = await client.get_snapshot()
    assert states == [BatchState.COMPLETED] * 3
    for name, results in log.items():
        assert Counter(one.custom_id for one in results) == Counter(one.custom_id for one in prompts(name)), name
        assert [one.error for one in results if not one.ok] == []
    assert (now.succeeded, now.submitted, now.queued, now.in_flight) == (3 * PROMPTS, 3 * PROMPTS, 0, 0)
    again = [one for results in log.values() for one in results if one.attempts > 1]
    assert again, "nothing was in flight when the engine died"
    texts = {one.custom_id: one.text for name in log for one in prompts(name)}
    for one in again:
        assert one.text == text_of(await ask(mortal, text=texts[one.custom_id], max_tokens=OUTPUT_TOKENS))
