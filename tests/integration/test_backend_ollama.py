"""The adapter of Ollama's own interface against a scripted server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator  # noqa: TC003 (pytest reads the annotations of fixtures)

import orjson
import pytest
from expresslane.errors import Reason
from expresslane.prompts import Sampling, ToolCall
from expresslane.results import FinishReason, Usage

from tests.support.fake_backend import FakeBackend, Script, echo_of
from tests.support.fake_backend.adapter import Asker, opened, until


def line(**fields: object) -> bytes:
    """One object of a stream."""
    return orjson.dumps({"model": "m", "done": False, **fields}) + b"\n"


@pytest.fixture
async def fake() -> AsyncIterator[FakeBackend]:
    """A server."""
    async with FakeBackend() as server:
        yield server


@pytest.fixture(params=[True, False], ids=["streaming", "whole"])
async def either(fake: FakeBackend, request: pytest.FixtureRequest) -> AsyncIterator[Asker]:
    """An adapter, once streaming and once not: results are the same."""
    async with opened(fake.url, "ollama", streaming=request.param) as asker:
        yield asker


@pytest.fixture
async def asker(fake: FakeBackend) -> AsyncIterator[Asker]:
    """A streaming adapter."""
    async with opened(fake.url, "ollama") as opened_asker:
        yield opened_asker


async def test_chat(fake: FakeBackend, either: Asker) -> None:
    """O02: a prompt is a chat, with stream true or false, and its answer is text, counts and finish reason."""
    answer = await either.ask("what is 漢?", sampling=Sampling(max_tokens=9))
    assert answer.text == echo_of("what is 漢?")
    assert answer.usage == Usage(input_tokens=3, output_tokens=5)
    assert (answer.finish_reason, answer.finish_reason_raw) == (FinishReason.STOP, "stop")
    assert either.firsts == [answer]
    seen = fake.generations[0]
    assert seen.path == "/api/chat"
    assert seen.json["options"] == {"num_predict": 9}


async def test_raw_prompt(fake: FakeBackend, either: Asker) -> None:
    """O02: a raw prompt goes to /api/generate without a template."""
    assert (await either.ask("Once upon", raw=True)).text == echo_of("Once upon")
    assert (fake.generations[0].path, fake.generations[0].json["raw"]) == ("/api/generate", True)


async def test_thinking_and_tool_calls(fake: FakeBackend, either: Asker) -> None:
    """Thinking comes apart from the text; a call's arguments, an object here, become JSON text."""
    calls = [{"id": "", "name": "f", "arguments": {"city": "Žilina", "n": 2}}]
    fake.script(Script(text="", reasoning="hm", tool_calls=calls))
    answer = await either.ask()
    assert (answer.text, answer.reasoning) == ("", "hm")
    assert answer.tool_calls == [ToolCall("", "f", '{"city":"Žilina","n":2}')]
    assert (answer.finish_reason, answer.finish_reason_raw) == (FinishReason.TOOL_CALLS, "stop")


@pytest.mark.parametrize(("raw", "reason"), [("length", FinishReason.LENGTH), ("unload", FinishReason.OTHER)])
async def test_done_reason(fake: FakeBackend, either: Asker, raw: str, reason: FinishReason) -> None:
    """Each done reason has its meaning and keeps its own word."""
    fake.script(Script(finish_reason=raw))
    answer = await either.ask()
    assert (answer.finish_reason, answer.finish_reason_raw) == (reason, raw)


async def test_usage_of_a_cached_prompt(fake: FakeBackend, asker: Asker) -> None:
    """Where the server leaves out the prompt's count, that count is an estimate and says so."""
    fake.script(Script(wire=[line(message={"content": "x"}), line(done=True, done_reason="stop", eval_count=1)]))
    assert (await asker.ask("12345678")).usage == Usage(input_tokens=2, output_tokens=1, input_estimated=True)
    fake.script(Script(usage=False))
    assert (await asker.ask()).usage is None


async def test_error_in_the_middle(fake: FakeBackend, asker: Asker) -> None:
    """O02: an error object after a status of 200 is an error; what came before it is kept."""
    gate = asyncio.Event()
    fake.script(
        Script(
            wire=[line(message={"content": "x"}), b'{"error":"model runner has unexpectedly stopped"}\n'],
            gates={1: gate},
        )
    )
    answer = asker.answer()
    task = asyncio.create_task(asker.backend.generate(asker.call(), answer))
    await until(lambda: answer.started)
    gate.set()
    with pytest.raises(Exception, match="model runner has unexpectedly stopped") as raised:
        await task
    assert getattr(raised.value, "reason", None) is Reason.BACKEND_ERROR
    assert answer.text == "x"


async def test_server_busy(fake: FakeBackend, asker: Asker) -> None:
    """O16: a full queue of the server is an overload that may be repeated, with the wait it asks for."""
    body = b'{"error":"server busy, please try again.  maximum pending requests exceeded"}'
    fake.script(Script(status=503, body=body, headers={"Retry-After": "2"}))
    error = await asker.fail()
    assert (error.reason, error.retryable, error.retry_after_s) == (Reason.BACKEND_OVERLOADED, True, 2.0)
    assert "server busy" in error.message


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ([b'{"message":{"content":"x"}}\n'], Reason.BACKEND_DISCONNECTED),
        ([b'{"message":{"content":"x"},"done":tr'], Reason.BACKEND_DISCONNECTED),
        ([b'{"message":{"content":"\xff"}}\n'], Reason.BACKEND_MALFORMED),
        ([b"data: {}\n"], Reason.BACKEND_MALFORMED),
        ([b'{"message":{"content":["x"]}}\n'], Reason.BACKEND_MALFORMED),
        ([b'{"message":"x"}\n'], Reason.BACKEND_MALFORMED),
        ([b'{"message":{"tool_calls":[{"name":"f"}]}}\n'], Reason.BACKEND_MALFORMED),
        ([b'{"done":true,"eval_count":"x"}\n'], Reason.BACKEND_MALFORMED),
    ],
)
async def test_bad_stream(fake: FakeBackend, asker: Asker, wire: list[bytes], reason: Reason) -> None:
    """A stream that breaks off and one that is not Ollama's are told apart."""
    fake.script(Script(wire=wire))
    assert (await asker.fail()).reason is reason


async def test_last_line_without_line_feed(fake: FakeBackend, asker: Asker) -> None:
    """The closing object counts also without its line feed."""
    fake.script(Script(wire=[line(message={"content": "x"}), line(done=True).rstrip()]))
    assert (await asker.ask()).text == "x"


async def test_unsupported_field_never_reaches_the_server(fake: FakeBackend, asker: Asker) -> None:
    """What Ollama cannot do is refused before anything is sent."""
    error = await asker.fail(sampling=Sampling(logprobs=True))
    assert (error.reason, error.field) == (Reason.UNSUPPORTED, "sampling.logprobs")
    assert fake.requests == []


async def test_connections_are_reused_and_cancelled(fake: FakeBackend, asker: Asker) -> None:
    """A08: connections are kept over answers, and closed by a cancellation."""
    await asker.ask()
    await asker.ask()
    assert fake.connections == 1
    fake.script(Script(gates={1: asyncio.Event()}))
    task = asyncio.create_task(asker.ask())
    seen = (await fake.wait_for_generations(3))[2]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await seen.cancelled.wait()


async def test_models(fake: FakeBackend, asker: Asker) -> None:
    """T06: the installed models are listed; how many run at once is not told."""
    fake.models = ("llama3:latest", "qwen:7b")
    found = await asker.backend.discover()
    assert (found.models, found.slots) == (("llama3:latest", "qwen:7b"), 0)
