"""The adapter of the OpenAI dialect against a scripted server."""

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
from tests.support.fake_backend.openai_dialect import event


@pytest.fixture
async def fake() -> AsyncIterator[FakeBackend]:
    """A server."""
    async with FakeBackend() as server:
        yield server


@pytest.fixture(params=[True, False], ids=["streaming", "whole"])
async def either(fake: FakeBackend, request: pytest.FixtureRequest) -> AsyncIterator[Asker]:
    """An adapter, once streaming and once not: results are the same."""
    async with opened(fake.url, streaming=request.param) as asker:
        yield asker


@pytest.fixture
async def asker(fake: FakeBackend) -> AsyncIterator[Asker]:
    """A streaming adapter."""
    async with opened(fake.url) as opened_asker:
        yield opened_asker


async def test_chat(fake: FakeBackend, either: Asker) -> None:
    """A09: a prompt is asked with model and Bearer-less JSON, and its answer is text, counts and finish reason."""
    answer = await either.ask("what is 漢?")
    assert answer.text == echo_of("what is 漢?")
    assert answer.usage == Usage(input_tokens=3, output_tokens=5)
    assert (answer.finish_reason, answer.finish_reason_raw) == (FinishReason.STOP, "stop")
    assert either.firsts == [answer]
    seen = fake.generations[0]
    assert (seen.method, seen.path, seen.json["model"]) == ("POST", "/v1/chat/completions", "fake-model")
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["accept-encoding"] == "identity"
    assert "authorization" not in seen.headers
    assert "cookie" not in seen.headers


async def test_raw_prompt(fake: FakeBackend, either: Asker) -> None:
    """A raw prompt goes to completions."""
    answer = await either.ask("Once upon", raw=True)
    assert answer.text == echo_of("Once upon")
    assert (fake.generations[0].path, fake.generations[0].json["prompt"]) == ("/v1/completions", "Once upon")


async def test_reasoning_and_tool_calls(fake: FakeBackend, either: Asker) -> None:
    """Reasoning and tool calls come apart from the text."""
    calls = [
        {"id": "c1", "name": "f", "arguments": '{"x": 40.0}'},
        {"id": "c2", "name": "g", "arguments": "not json"},
    ]
    fake.script(Script(text="", reasoning="let me see", tool_calls=calls, finish_reason="tool_calls"))
    answer = await either.ask()
    assert (answer.text, answer.reasoning) == ("", "let me see")
    assert answer.tool_calls == [ToolCall("c1", "f", '{"x": 40.0}'), ToolCall("c2", "g", "not json")]
    assert answer.finish_reason is FinishReason.TOOL_CALLS


async def test_no_usage(fake: FakeBackend, either: Asker) -> None:
    """An answer without counts has none; nothing is invented here."""
    fake.script(Script(usage=False))
    assert (await either.ask()).usage is None


@pytest.mark.parametrize("url", ["{}", "{}/", "{}/v1", "{}/v1/"])
async def test_base_url(fake: FakeBackend, url: str) -> None:
    """A09: the base URL may end in /v1, in a slash, in both or in neither."""
    async with opened(url.format(fake.url)) as asker:
        await asker.ask()
        await asker.backend.discover()
    assert [seen.path for seen in fake.requests] == ["/v1/chat/completions", "/v1/models"]


async def test_base_url_with_a_path(fake: FakeBackend) -> None:
    """A09: a path before /v1 and a query stay."""
    async with opened(fake.url + "/proxy/v1/?key=1") as asker:
        error = await asker.fail()
    assert fake.requests[0].path == "/proxy/v1/chat/completions"
    assert error.http_status == 404


async def test_api_key_is_sent_and_never_told(fake: FakeBackend) -> None:
    """A09: the key goes out as a Bearer token and is cut out of every error."""
    body = b'{"error":{"message":"Incorrect API key provided: sk-secret","type":"authentication_error"}}'
    fake.script(Script(status=401, body=body))
    async with opened(fake.url, api_key="sk-secret") as asker:
        error = await asker.fail()
    assert fake.requests[0].headers["authorization"] == "Bearer sk-secret"
    assert error.reason is Reason.BACKEND_UNAUTHORIZED
    assert "sk-secret" not in f"{error!r} {error} {error.message} {error.provider_body} {error.args}"


async def test_url_with_a_password(fake: FakeBackend) -> None:
    """A09: user and password of the base URL go out as basic authentication and show in no error."""
    fake.script(Script(status=403, body=b'{"error":"no hunter2 here"}'))
    async with opened(fake.url.replace("//", "//ann:hunter2@")) as asker:
        error = await asker.fail()
    assert fake.requests[0].headers["authorization"] == "Basic YW5uOmh1bnRlcjI="
    assert "hunter2" not in f"{error!r} {error.message} {error.provider_body}"


async def test_call_headers_are_sent(fake: FakeBackend, asker: Asker) -> None:
    """The headers of a call, such as its trace context, go out with it."""
    call = asker.call()
    await asker.backend.generate(type(call)(call.prompt, call.model, {"traceparent": "00-1-2-01"}), asker.answer())
    assert fake.requests[0].headers["traceparent"] == "00-1-2-01"


async def test_caller_json_arrives_byte_for_byte(fake: FakeBackend, asker: Asker) -> None:
    """A09: more parameters arrive as the caller wrote them."""
    await asker.ask(extra_json='{"z": 40.0, "big":9007199254740993}')
    assert fake.requests[0].body.endswith(b',"z": 40.0, "big":9007199254740993}')


async def test_first_token_is_not_the_role_chunk(fake: FakeBackend, asker: Asker) -> None:
    """The role-only chunk and comments are no first token; the first text is."""
    gates = {2: asyncio.Event(), 3: asyncio.Event()}
    wire = [b": ping\n\n", event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})]
    wire += [
        event({"choices": [{"delta": {"content": "x"}}]}),
        event({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
    ]
    fake.script(Script(wire=wire, gates=gates))
    answer = asker.answer()
    before = answer.active_ns
    task = asyncio.create_task(asker.backend.generate(asker.call(), answer))
    await until(lambda: answer.active_ns != before)
    assert not answer.started
    gates[2].set()
    await until(lambda: bool(answer.started))
    assert answer.text == "x"
    gates[3].set()
    await task


async def test_whole_answer_to_a_streaming_request(fake: FakeBackend, asker: Asker) -> None:
    """A server that ignores `stream` and sends one body is understood all the same."""
    body = orjson.dumps({"choices": [{"message": {"content": "all"}, "finish_reason": "stop"}]})
    fake.script(Script(body=body))
    assert (await asker.ask()).text == "all"


async def test_stream_without_done(fake: FakeBackend, asker: Asker) -> None:
    """A stream that ends after its finish reason is complete, with or without [DONE]."""
    fake.script(Script(done=False))
    assert (await asker.ask("x")).text == echo_of("x")


@pytest.mark.parametrize("end", [b"data: [DONE]", b"data: [DONE]\n", b""])
async def test_last_event_without_blank_line(fake: FakeBackend, asker: Asker, end: bytes) -> None:
    """The last event counts also where the server leaves out the blank line."""
    last = event({"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]})
    fake.script(Script(wire=[last + end if end else last.rstrip()]))
    answer = await asker.ask()
    assert (answer.text, answer.finish_reason) == ("x", FinishReason.STOP)


async def test_break_after_the_finish_reason(fake: FakeBackend, asker: Asker) -> None:
    """A connection that breaks after the finish reason loses counts at most, not the answer."""
    gate = asyncio.Event()
    fake.script(Script(pieces=1, cut_after=4, gates={3: gate}))
    answer = asker.answer()
    task = asyncio.create_task(asker.backend.generate(asker.call("x"), answer))
    await until(lambda: bool(answer.finish_reason_raw))
    gate.set()
    await task
    assert answer.text == echo_of("x")


async def test_logprobs(fake: FakeBackend, asker: Asker) -> None:
    """Log probabilities are passed on as JSON."""
    logprobs = {"content": [{"token": "x", "logprob": -0.25}]}
    fake.script(
        Script(wire=[event({"choices": [{"delta": {"content": "x"}, "logprobs": logprobs, "finish_reason": "stop"}]})])
    )
    answer = await asker.ask(sampling=Sampling(logprobs=True))
    assert orjson.loads(answer.logprobs_json) == logprobs


@pytest.mark.parametrize("streaming", [True, False])
async def test_answer_over_the_limit(fake: FakeBackend, streaming: bool) -> None:
    """An answer larger than an answer may be is refused, and the server sees the connection close."""
    if streaming:
        fake.script(Script(wire=[event({"choices": [{"delta": {"content": "x" * 500}}]})], endless=True))
    else:
        fake.script(Script(text="x" * 200_000))
    async with opened(fake.url, streaming=streaming, max_answer_bytes=10_000) as asker:
        error = await asker.fail()
        assert (error.reason, error.retryable) == (Reason.ANSWER_OVER_LIMIT, False)
        if streaming:
            await fake.requests[0].cancelled.wait()


@pytest.mark.parametrize(("kind", "end"), [("openai", b"\n\n"), ("ollama", b"\n")])
async def test_event_over_the_limit(fake: FakeBackend, kind: str, end: bytes) -> None:
    """One event larger than an answer may be is refused for its size, however large that is, not as malformed."""
    big = b"data: " * (kind == "openai") + b'{"choices":"' + b"x" * 200_000
    fake.script(Script(wire=[big, b"x" * 5_000_000 + end]))
    async with opened(fake.url, kind=kind, max_answer_bytes=10_000) as asker:
        error = await asker.fail()
        assert (error.reason, error.retryable) == (Reason.ANSWER_OVER_LIMIT, False)


async def test_event_of_a_large_answer(fake: FakeBackend) -> None:
    """An answer within a limit above 4 MiB may come in one event."""
    text = "x" * 6_000_000
    fake.script(Script(wire=[event({"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]})]))
    async with opened(fake.url, max_answer_bytes=8_000_000) as asker:
        assert (await asker.ask()).text == text


async def test_log_probabilities_nested_too_deeply(fake: FakeBackend, asker: Asker) -> None:
    """Log probabilities that cannot be passed on are a malformed answer, not a defect."""
    deep = b"[" * 600 + b"]" * 600
    fake.script(Script(wire=[b'data: {"choices":[{"delta":{"content":"x"},"logprobs":{"a":' + deep + b"}}]}\n\n"]))
    assert (await asker.fail()).reason is Reason.BACKEND_MALFORMED


@pytest.mark.parametrize("number", [b"1e300", b"18446744073709551615", b"1e999"])
async def test_token_counts_that_are_none(fake: FakeBackend, asker: Asker, number: bytes) -> None:
    """A token count that no message can carry is a malformed answer of that prompt alone."""
    fake.script(
        Script(wire=[b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":' + number + b"}}\n\n"])
    )
    assert (await asker.fail()).reason is Reason.BACKEND_MALFORMED


async def test_models(fake: FakeBackend, asker: Asker) -> None:
    """Discovery lists the server's own names, and no slots where it does not tell them."""
    fake.models = ("a", "b")
    found = await asker.backend.discover()
    assert (found.models, found.slots) == (("a", "b"), 0)


@pytest.mark.parametrize("body", [b"[]", b'{"data":7}', b'{"data":[{"name":"x"}]}', b"<html>"])
async def test_models_that_are_none(fake: FakeBackend, asker: Asker, body: bytes) -> None:
    """A list of models that is none is malformed, not empty."""
    fake.paths["/v1/models"] = Script(body=body)
    with pytest.raises(Exception, match="malformed") as raised:
        await asker.backend.discover()
    assert getattr(raised.value, "reason", None) is Reason.BACKEND_MALFORMED
