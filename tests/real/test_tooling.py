"""Proves the tooling itself: what other tests take for granted about the random models and the engine."""

import asyncio
from typing import Any

import aiohttp
import pytest

from .llama_server import LlamaServer
from .own_answers import assert_own, certain_text
from .phoenix import Phoenix

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

OUTPUT_TOKENS = 24
LONG_PROMPT = "Much to read before the first word is written. " * 100


async def complete(server: LlamaServer, text: str, output_tokens: int = OUTPUT_TOKENS) -> dict[str, Any]:
    """Ask for a chat completion at temperature 0 on a connection of its own."""
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": output_tokens, "temperature": 0}
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        session.post(f"{server.url}/v1/chat/completions", json=body) as response,
    ):
        answer: dict[str, Any] = await response.json()
        return answer


def text_of(answer: dict[str, Any]) -> str:
    """The text of the only choice."""
    text: str = answer["choices"][0]["message"]["content"]
    return text


def texts_of_items() -> list[str]:
    """Prompts of several lengths that begin alike."""
    return [f"item {index}: {'abcdefgh' * (1 + index % 7)}" for index in range(24)]


async def test_text_belongs_to_the_prompt_alone(llama_server: LlamaServer) -> None:
    """At temperature 0 a prompt has a text of its own, the same alone again and, but for near ties, beside others."""
    prompts = texts_of_items()
    alone = [text_of(await complete(llama_server, prompt)) for prompt in prompts]
    assert [text_of(await complete(llama_server, prompt)) for prompt in prompts] == alone
    certain = {prompt: await certain_text(llama_server, prompt, OUTPUT_TOKENS) for prompt in prompts}
    together = [text_of(answer) for answer in await asyncio.gather(*(complete(llama_server, p) for p in prompts))]
    for prompt, *texts in zip(prompts, alone, together, strict=True):
        for text in texts:
            assert_own(prompt, text, certain, OUTPUT_TOKENS)


async def test_a_swapped_answer_is_noticed(llama_server: LlamaServer) -> None:
    """Another prompt's answer, one cut short and one repeated fail the check that other tests rely on."""
    prompts = texts_of_items()
    answers = {prompt: text_of(await complete(llama_server, prompt)) for prompt in prompts}
    certain = {prompt: await certain_text(llama_server, prompt, OUTPUT_TOKENS) for prompt in prompts}
    for prompt, own in answers.items():
        assert_own(prompt, own, certain, OUTPUT_TOKENS)
        for wrong in (own[:-1], own[:5] + own, *(other for other in answers.values() if other != own)):
            with pytest.raises(AssertionError):
                assert_own(prompt, wrong, certain, OUTPUT_TOKENS)


async def test_lengths_are_exact(llama_server: LlamaServer) -> None:
    """A chat of N bytes is N + 2 prompt tokens, and an answer has one character for each token asked for."""
    prompt = "caf\u00e9 at noon"
    answer = await complete(llama_server, prompt)
    assert answer["usage"]["prompt_tokens"] == len(prompt.encode()) + 2
    assert answer["usage"]["completion_tokens"] == OUTPUT_TOKENS
    assert len(text_of(answer)) == OUTPUT_TOKENS
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_closing_the_connection_frees_the_slot(llama_server: LlamaServer) -> None:
    """A request dropped in the middle of its prefill leaves its slot long before its answer would have been done."""
    request = asyncio.create_task(complete(llama_server, LONG_PROMPT, output_tokens=3_000))
    await llama_server.wait_busy(1)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    generated_before = (await llama_server.metrics())["tokens_predicted_total"]
    await llama_server.wait_idle()
    assert (await llama_server.metrics())["tokens_predicted_total"] - generated_before < OUTPUT_TOKENS


async def test_slots_are_those_asked_for(llama_server: LlamaServer) -> None:
    """The engine reports its slots in /props as in /slots, each with its share of the context."""
    slots = await llama_server.slots()
    assert (await llama_server.props())["total_slots"] == len(slots) == llama_server.slots_total
    assert {slot["n_ctx"] for slot in slots} == {8_192}


async def test_phoenix_starts_empty(phoenix: Phoenix) -> None:
    """A project that got no span has none, whether it exists or not."""
    assert await phoenix.spans() == []
    assert await phoenix.spans("never-seen") == []
