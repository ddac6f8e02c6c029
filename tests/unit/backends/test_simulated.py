"""The simulated engine, on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from expresslane.backends.base import Answer, Call
from expresslane.backends.simulated import SimulatedBackend
from expresslane.errors import BackendError, Reason
from expresslane.prompts import Chat, ChatMessage, Prompt, RequestOptions, Sampling
from expresslane.results import FinishReason, Usage
from expresslane.settings import SimulatedSettings

from tests.support.fake_backend.adapter import until


class World:
    """A simulated backend on a clock that moves only when the engine sleeps."""

    def __init__(self, **settings: Any) -> None:
        defaults = {"prefill_tokens_per_s": 1000.0, "chunk_tokens": 100, "step_s": 0.01, "max_running": 4}
        self.now = 0.0
        self.log: list[tuple[str, str, float]] = []
        self.backend = SimulatedBackend(
            "sim", SimulatedSettings(**{**defaults, **settings}), clock=lambda: self.now, sleep=self._sleep
        )

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        # Lets everything that became ready run before the engine goes on.
        for _ in range(5):
            await asyncio.sleep(0)

    async def ask(self, name: str, tokens: int, max_tokens: int | None = 2) -> Answer:
        """One prompt of that many tokens; its first token and end are logged."""
        answer = Answer(lambda: self.log.append((name, "first", round(self.now, 6))))
        options = RequestOptions(Sampling(max_tokens=max_tokens))
        call = Call(Prompt(name, "simulated", "x" * tokens * 4, options=options), "simulated")
        await self.backend.generate(call, answer)
        self.log.append((name, "end", round(self.now, 6)))
        return answer


async def test_costs_of_one_prompt() -> None:
    """One prompt takes its prefill, chunk by chunk, and one step for each token."""
    world = World()
    await world.ask("a", 250, max_tokens=3)
    assert world.log == [("a", "first", 0.26), ("a", "end", 0.28)]


async def test_short_prompt_waits_behind_a_long_prefill() -> None:
    """The prefill lane is first come, first served: this is the harm that ordering prevents."""
    world = World()
    await asyncio.gather(world.ask("long", 1000), world.ask("short", 10))
    firsts = [entry for entry in world.log if entry[1] == "first"]
    assert firsts == [("long", "first", 1.01), ("short", "first", 1.03)]


async def test_decoding_goes_on_between_chunks() -> None:
    """A running prompt gains one token between two chunks of another's prefill."""
    world = World()
    await asyncio.gather(world.ask("a", 10, max_tokens=4), world.ask("b", 300, max_tokens=1))
    assert sorted(world.log) == [
        ("a", "end", 0.35),
        ("a", "first", 0.02),
        ("b", "end", 0.35),
        ("b", "first", 0.35),
    ]


async def test_running_prompts_share_a_step() -> None:
    """Prompts that decode together pay for a step once."""
    world = World(prefill_tokens_per_s=1e9)
    await asyncio.gather(*(world.ask(str(n), 1, max_tokens=100) for n in range(4)))
    assert world.now == pytest.approx(1.03, abs=0.001)


async def test_more_wait_inside() -> None:
    """No more than max_running are admitted; the others wait in order."""
    world = World(max_running=2, prefill_tokens_per_s=1e9)
    await asyncio.gather(*(world.ask(str(n), 1, max_tokens=3) for n in range(6)))
    assert [name for name, what, _ in world.log if what == "end"] == list("012345")
    assert world.now > 0.08


async def test_cancelling_frees_the_place() -> None:
    """A cancelled prompt leaves the engine at once, and the next one runs."""
    world = World(max_running=1)
    task = asyncio.create_task(world.ask("a", 10, max_tokens=1_000_000))
    await until(lambda: bool(world.log))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await world.ask("b", 10)
    assert [name for name, what, _ in world.log if what == "end"] == ["b"]
    assert world.backend._engine.running == 0


async def test_one_task_only_while_there_is_work() -> None:
    """The engine has a task while it has work, and none before or after."""
    world = World()
    before = len(asyncio.all_tasks())
    await asyncio.gather(world.ask("a", 10), world.ask("b", 10))
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before


async def test_answer_is_made_up_and_counted() -> None:
    """The text shows that it is made up and whose prompt it answers; the counts are exact."""
    world = World()
    answer = await world.ask("a", 10, max_tokens=5)
    other = await world.ask("b", 11, max_tokens=5)
    assert answer.text.startswith("simulated ")
    assert answer.text != other.text
    assert len(answer.text_parts) == 5
    assert answer.usage == Usage(input_tokens=10, output_tokens=5)
    assert (answer.finish_reason, answer.finish_reason_raw) == (FinishReason.LENGTH, "length")
    assert world.backend.capabilities.simulated


async def test_without_max_tokens() -> None:
    """Without max_tokens the answer has the configured length and ends by itself."""
    answer = await World(output_tokens=7).ask("a", 1, max_tokens=None)
    assert (len(answer.text_parts), answer.finish_reason) == (7, FinishReason.STOP)


async def test_prompt_tokens_round_up_over_a_chat() -> None:
    """A chat counts the bytes of all its messages, four to a token, rounded up."""
    chat = Chat((ChatMessage("user", ((False, "漢"), (False, "ab"))),))
    answer = Answer()
    await World().backend.generate(Call(Prompt("p", "simulated", chat), "simulated"), answer)
    assert answer.usage is not None
    assert answer.usage.input_tokens == 2


async def test_serves_only_its_own_model() -> None:
    """It serves the model `simulated` only, so that a configured model never gets made-up text."""
    backend = World().backend
    with pytest.raises(BackendError, match="only the model 'simulated'") as raised:
        await backend.generate(Call(Prompt("p", "m", "x"), "gpt-4"), Answer())
    assert (raised.value.reason, raised.value.retryable) == (Reason.BACKEND_REJECTED, False)
    assert (await backend.discover()).models == ("simulated",)


async def test_faults_repeat_with_their_seed() -> None:
    """Faults come at their rate, are retryable, and are the same for the same seed."""

    async def faults(seed: int) -> list[bool]:
        world = World(error_rate=0.5, seed=seed)
        found = []
        for _ in range(40):
            try:
                await world.ask("a", 1, max_tokens=1)
                found.append(False)
            except BackendError as error:
                found.append(error.retryable)
        return found

    first = await faults(1)
    assert first == await faults(1)
    assert first != await faults(2)
    assert 10 < sum(first) < 30


async def test_closing_cancels_what_runs() -> None:
    """Closing the backend ends the prompts inside it."""
    world = World()
    task = asyncio.create_task(world.ask("a", 10, max_tokens=1_000_000))
    await until(lambda: bool(world.log))
    await world.backend.close()
    with pytest.raises(asyncio.CancelledError):
        await task
