"""What intake counts of a prompt: tokens for the order, bytes for the queue's bound."""

from __future__ import annotations

import pytest
from expresslane.batches.batch import BatchOptions
from expresslane.errors import Reason, RefusedError
from expresslane.prompts import Prompt, RequestOptions

from tests.support.virtual_time import virtual_time
from tests.unit.service.world import ScriptedBackend, World, drain, prompt, second


@virtual_time
async def test_what_counts_as_tokens() -> None:
    """What the model reads counts as tokens, tools and response format too; other parameters are bytes only."""
    async with World(ScriptedBackend()) as world:
        batch = world.intake.open(BatchOptions("r"), method="Test", prompts=1)
        options = RequestOptions(template_bytes=4_000, other_bytes=8_000)
        (ticket,) = world.intake.accept(batch, [(Prompt("a", "m", "x" * 400, options=options), 12_400)])
        assert (ticket.tokens, ticket.size_bytes) == (1_100, 12_400)
        await drain(world, batch)


@virtual_time
async def test_bytes_of_the_queue_are_given_back() -> None:
    """Prompts above the bytes of the queue are refused with a time to come back, until others end, however they do."""
    backend = ScriptedBackend(default=second(1_000), default_cap=1)
    async with World(backend) as world:
        for ending in ("close", "expire"):
            batch = world.submit([prompt(str(number), "x" * 300) for number in range(3)], queue_limit_bytes=1_000)
            with pytest.raises(RefusedError) as raised:
                world.submit([prompt("late", "x" * 300)], queue_limit_bytes=1_000)
            assert (raised.value.reason, raised.value.retry_after_ns) == (Reason.QUEUE_FULL, 10**9)
            if ending == "expire":
                await drain(world, batch)
            world.intake.close(batch)
            await world.dispatcher.settled()
            assert world.intake._held.total == 0


@virtual_time
async def test_a_batch_above_the_bytes_of_the_queue() -> None:
    """A batch that the queue could never hold is refused for good, whatever waits."""
    async with World(ScriptedBackend()) as world:
        with pytest.raises(RefusedError) as raised:
            world.submit([prompt("a", "x" * 600), prompt("b", "x" * 600)], queue_limit_bytes=1_000)
        assert (raised.value.reason, raised.value.retry_after_ns) == (Reason.BATCH_TOO_LARGE, None)
