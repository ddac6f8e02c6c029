"""What a prompt says reaches the engine as it was said, and changes the answer as it does when the engine is asked."""

import json
from typing import Any

import pytest
from expresslane_client import FinishReason, Prompt, Result

from tests.support.service import Service

from .asking import ask, engine_backend, prompt, text_of, text_of_size
from .exchange import Exchange
from .llama_server import LlamaServer
from .proxy import RecordingProxy

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


async def run_one(proxy: RecordingProxy, one: Prompt, **options: Any) -> tuple[Result, Exchange]:
    """One prompt through a service of its own, and the exchange that the proxy saw."""
    async with Service(engine=engine_backend(proxy.url, **options)) as service:
        (result,) = (await service.client.collect_batch([one])).results
    assert result.error is None
    return result, proxy.generations[-1]


async def test_a_raw_prompt_goes_without_template(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """raw_prompt is completed as it is: no message around it, one token less, the engine's own completion."""
    one = prompt("raw", 50, salt="requests ", raw=True)
    result, seen = await run_one(proxy, one)
    assert (seen.path, seen.body["prompt"], "messages" in seen.body) == ("/v1/completions", one.text, False)
    assert result.text == text_of(await ask(llama_server, "/v1/completions", prompt=one.text))
    assert result.usage is not None
    assert result.usage.input_tokens == len(one.text) + 1
    assert result.choice.finish_reason is FinishReason.LENGTH


async def test_a_conversation_keeps_its_messages(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """Roles, order and contents of chat messages arrive as they were given, and count in full (A09)."""
    messages: list[dict[str, object]] = [
        {"role": "system", "content": text_of_size("system", 30)},
        {"role": "user", "content": 'caf\u00e9 \U0001f642 \\ "quoted" \n line'},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [{"type": "text", "text": "and "}, {"type": "text", "text": "more"}]},
    ]
    result, seen = await run_one(proxy, Prompt.chat("chat", messages, max_tokens=12, temperature=0))
    assert seen.body["messages"] == messages
    alone = await ask(llama_server, messages=messages)
    assert result.text == text_of(alone)
    assert result.usage is not None
    assert result.usage.input_tokens == alone["usage"]["prompt_tokens"]


async def test_sampling_is_passed_through(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """Seed, temperature and extra parameters reach the engine, and only those that were set (A09)."""
    text = text_of_size("sampling", 40)
    chosen: dict[str, Any] = {"temperature": 1.5, "seed": 2**31 - 1, "top_p": 0.9, "top_k": 30, "max_tokens": 24}
    result, seen = await run_one(proxy, Prompt("one", text, **chosen, extra='{"min_p": 0.010, "id_slot": -1}'))
    assert {name: seen.body[name] for name in chosen} == chosen
    assert (seen.body["min_p"], seen.body["id_slot"]) == (0.01, -1)
    assert seen.body.keys() == {
        *chosen, "model", "messages", "stream", "stream_options", "min_p", "id_slot"
    }  # fmt: skip
    assert result.text == text_of(await ask(llama_server, text=text, **chosen, min_p=0.01))
    assert result.text != text_of(await ask(llama_server, text=text, max_tokens=24)), "the seed made no difference"


async def test_a_stop_sequence_ends_the_answer(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """A stop sequence cuts the text where it would appear, and the finish reason is STOP."""
    text = text_of_size("stop", 40)
    whole = text_of(await ask(llama_server, text=text, max_tokens=40))
    stop = whole[10:14]
    result, _ = await run_one(proxy, Prompt("one", text, max_tokens=40, temperature=0, stop=[stop]))
    assert result.text == whole[: whole.index(stop)]
    assert (result.choice.finish_reason, result.choice.finish_reason_raw) == (FinishReason.STOP, "stop")


async def test_log_probabilities_come_back(llama_server: LlamaServer, proxy: RecordingProxy) -> None:
    """Log probabilities of a stream are put together as the engine gives them in one piece."""
    one = prompt("logprobs", 40, salt="requests ", output_tokens=3, logprobs=True, top_logprobs=2)
    result, _ = await run_one(proxy, one)
    alone = await ask(llama_server, text=one.text, max_tokens=3, logprobs=True, top_logprobs=2)
    tokens = [entry["token"] for entry in alone["choices"][0]["logprobs"]["content"]]
    parsed = json.loads(result.choice.logprobs_json)
    assert [entry["token"] for entry in parsed["content"]] == tokens


@pytest.mark.parametrize(
    ("kind", "streaming"), [("openai", True), ("openai", False), ("vllm", True), ("llamacpp", False)]
)
async def test_other_ways_to_the_same_engine(
    llama_server: LlamaServer, proxy: RecordingProxy, kind: str, streaming: bool
) -> None:
    """The OpenAI dialect's other kinds, and llamacpp without streaming, give the engine's text and exact usage."""
    one = prompt("one", 60, salt=f"{kind} {streaming} ")
    result, seen = await run_one(proxy, one, kind=kind, streaming=streaming, attempt_timeout_s=100)
    assert seen.body.get("stream", False) == streaming
    assert result.text == text_of(await ask(llama_server, text=one.text))
    assert (result.model, result.choice.finish_reason) == (llama_server.model, FinishReason.LENGTH)
    assert result.usage is not None
    assert (result.usage.input_tokens, result.usage.output_estimated) == (len(one.text) + 2, False)
