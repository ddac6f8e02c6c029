"""Token estimates learn from reported usage, model by model."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest
from expresslane.batches.ticket import Ticket
from expresslane.prompts import Chat, ChatMessage, Prompt, RequestOptions, Sampling
from expresslane.results import Usage
from expresslane.token_estimates import MODELS_MAX, TokenEstimates

from tests.support.virtual_time import virtual_time
from tests.unit.service.world import ScriptedBackend, World, prompt, second


def answered(
    estimates: TokenEstimates, size_bytes: int, tokens: int, output: int = 1, *, model: int = 0, **usage: bool
) -> None:
    """A prompt of this size had so many tokens, its answer `output`."""
    ticket = Ticket(Prompt("a", "m", "x"), cast("Any", None), 0, max(1, size_bytes // 4), size_bytes)
    ticket.model_number = model
    estimates.learn(ticket, Usage(tokens, 0, output, **usage))


def test_the_configured_ratio_counts_until_something_is_learned() -> None:
    """A model that nobody has asked yet has its backend's ratio."""
    estimates = TokenEstimates()
    assert estimates.input_tokens(0, 4_000, 4.0) == 1_000
    assert estimates.input_tokens(0, 4_000, 2.0) == 2_000
    assert estimates.input_tokens(0, 0, 4.0) == 1


@pytest.mark.parametrize(("ratio", "overhead"), [(4.0, 0), (2.5, 30), (1.2, 12), (6.0, 300)])
def test_ratio_and_overhead_are_found(ratio: float, overhead: int) -> None:
    """From noisy usage of prompts of mixed length, estimates of short and long ones come within a tenth."""
    chance = random.Random(11)
    estimates = TokenEstimates()
    for _ in range(300):
        size = round(chance.lognormvariate(7.5, 1.2)) + 40
        answered(estimates, size, round((overhead + size / ratio) * chance.uniform(0.9, 1.1)))
    for size in (400, 4_000, 40_000):
        assert estimates.input_tokens(0, size, 4.0) == pytest.approx(overhead + size / ratio, rel=0.1)


def test_a_long_prompt_after_many_short_ones_is_not_taken_for_longer() -> None:
    """The template's tokens of short prompts are not laid on every byte of a long one."""
    chance = random.Random(5)
    estimates = TokenEstimates()
    for _ in range(500):
        size = chance.randrange(20, 300)
        answered(estimates, size, 40 + round(size / 4))
    assert estimates.input_tokens(0, 40_000, 4.0) == pytest.approx(10_040, rel=0.1)


def test_prompts_of_one_size_teach_their_ratio() -> None:
    """Where nothing tells text and template apart, the ratio is what there is."""
    estimates = TokenEstimates()
    for _ in range(300):
        answered(estimates, 3_000, 1_000)
    assert estimates.input_tokens(0, 3_000, 4.0) == pytest.approx(1_000, rel=0.02)


def test_a_change_is_followed() -> None:
    """When prompts turn to another language, some hundred of them are enough."""
    estimates = TokenEstimates()
    for ratio in (4.0, 1.5):
        for number in range(300):
            answered(estimates, 1_000 + 50 * number, round((1_000 + 50 * number) / ratio))
    assert estimates.input_tokens(0, 6_000, 4.0) == pytest.approx(4_000, rel=0.05)


def test_a_report_that_makes_no_sense_does_no_lasting_harm() -> None:
    """Whatever is reported, estimates stay within 0.25 to 64 bytes a token and recover."""
    estimates = TokenEstimates()
    answered(estimates, 10, 2_000_000_000)
    assert estimates.input_tokens(0, 0, 4.0) >= 1
    for number in range(2_000):
        answered(estimates, 1_000 + number, (1_000 + number) // 4)
    assert estimates.input_tokens(0, 2_000, 4.0) == pytest.approx(500, rel=0.05)


def test_what_was_not_reported_teaches_nothing() -> None:
    """Our own estimates are not fed back to us."""
    estimates = TokenEstimates()
    answered(estimates, 4_000, 4_000, 700, input_estimated=True, output_estimated=True)
    assert estimates.input_tokens(0, 4_000, 4.0) == 1_000
    assert estimates.output_tokens(0, None) == 0


def test_images_teach_nothing_about_text() -> None:
    """A picture is many bytes and few tokens."""
    estimates = TokenEstimates()
    parts = ((False, "what is this?"), (True, '{"image_url": "' + "A" * 100_000 + '"}'))
    ticket = Ticket(Prompt("a", "m", Chat((ChatMessage("user", parts),))), cast("Any", None), 0, 25_000, 100_030)
    estimates.learn(ticket, Usage(800, 0, 10))
    assert estimates.input_tokens(0, 4_000, 4.0) == 1_000


def test_expected_output() -> None:
    """A prompt's own limit, else the mean of what the model answered to prompts without one."""
    estimates = TokenEstimates()
    for tokens in (100, 200, 300):
        answered(estimates, 400, 100, tokens)
    limited = RequestOptions(sampling=Sampling(max_tokens=7))
    ticket = Ticket(Prompt("a", "m", "x", options=limited), cast("Any", None), 0, 1, 1)
    estimates.learn(ticket, Usage(1, 0, 7))
    assert estimates.output_tokens(0, None) == 200
    assert estimates.output_tokens(0, 7) == 7
    assert estimates.output_tokens(1, None) == 0


def test_models_are_bounded() -> None:
    """The model not heard of for longest is forgotten."""
    estimates = TokenEstimates()
    for model in range(MODELS_MAX + 10):
        answered(estimates, 3_000, 1_000, model=model)
        answered(estimates, 3_000, 1_000, model=0)
    kept = dict(estimates.models())
    assert len(kept) == MODELS_MAX
    assert 0 in kept
    assert 1 not in kept


@virtual_time
async def test_the_service_learns_as_it_answers() -> None:
    """The next prompt's size in the core follows from what the backend reported of earlier ones."""

    async def play(call: Any, answer: Any) -> None:
        answer.push("yes")
        answer.usage = Usage(len(call.prompt.content) // 2, 0, 50)

    async with World(ScriptedBackend(default=play)) as world:
        await world.run([prompt(str(size), "x" * size) for size in range(400, 8_000, 40)])
        batch = world.submit([prompt("next", "x" * 4_000)])
        (ticket,) = world.scheduling._tickets.values()
        assert ticket.tokens == pytest.approx(2_000, rel=0.02)
        world.intake.close(batch)


@virtual_time
async def test_a_tenant_is_charged_what_was_used() -> None:
    """Uncached input and twice the output, as the backend reports them, in place of the estimate."""

    async def play(_: Any, answer: Any) -> None:
        answer.push("yes")
        answer.usage = Usage(700, 200, 30)

    backend = ScriptedBackend(default=play)
    backend.plays = [second(100)]
    async with World(backend) as world:
        running = world.submit([prompt("running")])
        await world.run([prompt("a", "x" * 4_000), prompt("b", "x" * 400)])
        (tenant,) = world.scheduling.tenants()
        assert tenant.used_tokens == 2 * (500 + 2 * 30)
        world.intake.close(running)
