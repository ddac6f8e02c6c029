"""What is fuzzed: functions that take any bytes and fail where a promise is broken. No framework is needed to call one.

The first byte of a stream's input says into how large chunks the rest is cut, so that a fuzzer can look for a cut that
makes a difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from expresslane.backends.base import Answer, Call
from expresslane.backends.http_errors import error_of_response, retry_after_s
from expresslane.backends.malformed import load
from expresslane.backends.ndjson import NdjsonParser
from expresslane.backends.ollama import OllamaBackend
from expresslane.backends.openai import OpenAIBackend
from expresslane.backends.openai_answer import TOOL_CALL_BYTES
from expresslane.backends.rate_headers import RESET_MAX_S, told
from expresslane.backends.sse import SseParser
from expresslane.errors import BackendError, PromptError
from expresslane.prompts import Prompt
from expresslane.results import Outcome, Result, Timings
from expresslane.servicers.encode import fill_result
from expresslane.settings import BackendSettings
from expresslane.tokens import MAX_TOKENS
from expresslane.v1 import types_pb2
from multidict import CIMultiDict

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

__all__ = ["DICTIONARY", "SEEDS", "TARGETS"]

LIMIT = 1 << 20
SMALL = 64
"""A limit that inputs do reach, for what a parser may hold."""


def _cuts(data: bytes) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """One stream whole, in chunks as its first byte says, and byte by byte."""
    size, stream = data[0] or 1, data[1:]
    return [stream], [stream[at : at + size] for at in range(0, len(stream), size)], [bytes([one]) for one in stream]


def sse(data: bytes) -> None:
    """Server-sent events: the same payloads and the same fault however the stream is cut, and bounded memory."""
    if not data:
        return
    assert len({_sse(chunks, LIMIT) for chunks in _cuts(data)}) == 1
    for chunks in _cuts(data)[1:]:
        parser = SseParser(SMALL)
        for chunk in chunks:
            try:
                parser.feed(chunk)
                parser.check()
            except BackendError:
                break
            assert len(parser._tail) <= SMALL


def _sse(chunks: list[bytes], limit: int) -> tuple[tuple[bytes, ...], str]:
    parser = SseParser(limit)
    payloads = [payload for chunk in chunks for payload in parser.feed(chunk)]
    payloads += parser.finish()
    try:
        parser.check()
    except BackendError as fault:
        return tuple(payloads), fault.message
    return tuple(payloads), ""


def ndjson(data: bytes) -> None:
    """Newline-delimited JSON: the same lines however the stream is cut, and bounded memory."""
    if not data:
        return
    seen = set()
    for chunks in _cuts(data):
        parser = NdjsonParser(LIMIT)
        lines = [line for chunk in chunks for line in parser.feed(chunk)]
        seen.add(tuple(lines + parser.finish()))
    assert len(seen) == 1
    parser = NdjsonParser(SMALL)
    for chunk in _cuts(data)[1]:
        try:
            parser.feed(chunk)
        except BackendError:
            break
        assert len(parser._tail) <= SMALL


def json_value(data: bytes) -> None:
    """Any bytes as JSON: a value or a BackendError whose words can be sent."""
    try:
        load(data)
    except BackendError as error:
        _send(error)


def retry_after(data: bytes) -> None:
    """Retry-After and its kin, as aiohttp gives header bytes: a finite wait that is not negative, or none."""
    text = data.decode(errors="surrogateescape")
    for name in ("Retry-After", "retry-after-ms"):
        wait_s = retry_after_s(CIMultiDict({name: text}))
        assert wait_s is None or 0 <= wait_s < float("inf")


def rate_headers(data: bytes) -> None:
    """What is left of a provider's limits, as aiohttp gives header bytes: whole numbers and a bounded time, or none."""
    first, _, second = data.decode(errors="surrogateescape").partition("\n")
    names = ("x-ratelimit-remaining-requests", "x-ratelimit-limit-requests", "anthropic-ratelimit-tokens-remaining")
    resets = ("x-ratelimit-reset-requests", "anthropic-ratelimit-tokens-reset", "Date")
    fields = {"RateLimit": first, "RateLimit-Policy": second}
    amounts = dict.fromkeys(names, "3")
    for headers in (dict.fromkeys((*names, *resets), first), {**amounts, **dict.fromkeys(resets, first)}, fields):
        for left in told(CIMultiDict(headers)) or ():
            if left is not None:
                assert 0 <= left.reset_s <= RESET_MAX_S
                assert 0 <= left.amount < 10**15
                assert 0 <= left.limit < 10**15


def refusal(data: bytes) -> None:
    """A refusal with any status, body and headers: an error whose every word can be sent."""
    status = 300 + int.from_bytes(data[:2]) % 400
    header, _, body = data[2:].partition(b"\n")
    text = header.decode(errors="surrogateescape")
    names = ("x-request-id", "Location", "Retry-After", "x-should-retry")
    _send(error_of_response(status, CIMultiDict(dict.fromkeys(names, text)), body, "http://b"))


def openai_answer(data: bytes) -> None:
    """A stream of the OpenAI dialect: the same answer or the same error however it is cut, and it can be sent."""
    if data:
        answers = [_read(_openai, chunks, "text/event-stream") for chunks in _cuts(data)]
        assert answers[0] == answers[1] == answers[2]


def openai_whole(data: bytes) -> None:
    """A whole body of the OpenAI dialect."""
    _read(_openai, [data], "application/json")


def ollama_answer(data: bytes) -> None:
    """A stream of Ollama's dialect: the same answer or the same error however it is cut, and it can be sent."""
    if data:
        answers = [_read(_ollama, chunks, "application/x-ndjson") for chunks in _cuts(data)]
        assert answers[0] == answers[1] == answers[2]


def _settings(kind: str) -> BackendSettings:
    return BackendSettings.model_validate({"kind": kind, "url": "http://b"})


_CALL = Call(Prompt("p", "m", "hi"), "m")
_OPENAI = OpenAIBackend("b", _settings("openai"), max_answer_bytes=LIMIT)
_OLLAMA = OllamaBackend("b", _settings("ollama"), max_answer_bytes=LIMIT)


def _openai(answer: Answer, response: Any) -> Coroutine[None, None, None]:
    return _OPENAI._read(answer, response)


def _ollama(answer: Answer, response: Any) -> Coroutine[None, None, None]:
    return _OLLAMA._read(_CALL, answer, response)


class _Response:
    """An answer that is all there: reading it never waits."""

    status = 200
    content_length = None

    def __init__(self, chunks: list[bytes], kind: str) -> None:
        self.headers = CIMultiDict({"Content-Type": kind})
        self.content = self
        self._chunks: Iterator[bytes] = iter([chunk for chunk in chunks if chunk])

    async def readany(self) -> bytes:
        return next(self._chunks, b"")

    def at_eof(self) -> bool:
        return True


def _read(
    read: Callable[[Answer, Any], Coroutine[None, None, None]], chunks: list[bytes], kind: str
) -> tuple[bytes, str]:
    """Read an answer and encode what comes of it; returns the message and why it failed."""
    answer = Answer()
    error: BackendError | None = None
    try:
        read(answer, _Response(chunks, kind)).send(None)
    except StopIteration:
        pass
    except BackendError as failure:
        error = failure
    else:
        raise AssertionError("reading waited for something")
    if (usage := answer.usage) is not None:
        counts = (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)
        assert all(0 <= count <= MAX_TOKENS for count in counts)
    # What is not counted could grow without end.
    assert len(answer.text.encode()) + TOOL_CALL_BYTES * len(answer.tool_calls) <= answer.bytes
    message = types_pb2.Result()
    fill_result(message, _result(answer, error))
    return message.SerializeToString(deterministic=True), error.message if error else ""


def _send(error: BackendError) -> None:
    fill_result(types_pb2.Result(), _result(Answer(), error))


def _result(answer: Answer, error: BackendError | None) -> Result:
    failed = None
    if error is not None:
        texts = (error.message, error.retryable, "", error.http_status)
        known = (error.provider_code, error.provider_body, error.provider_request_id)
        failed = PromptError(error.reason, *texts, *known)
    return Result(
        "p",
        0,
        Outcome.SUCCEEDED if error is None else Outcome.FAILED,
        Timings(),
        answered=answer.started,
        text=answer.text,
        reasoning=answer.reasoning,
        tool_calls=tuple(answer.tool_calls),
        logprobs_json=answer.logprobs_json,
        finish_reason=answer.finish_reason,
        finish_reason_raw=answer.finish_reason_raw,
        usage=answer.usage,
        error=failed,
    )


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one
    for one in (sse, ndjson, json_value, retry_after, rate_headers, refusal, openai_answer, openai_whole, ollama_answer)
}

_CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
_CALLS = (
    b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]}}]}\n\n'
)
_END = (
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\ndata: [DONE]\n\n'
)
_LINES = (
    b'{"message":{"role":"assistant","content":"x"},"done":false}\n'
    b'{"message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},"done":false}\n'
    b'{"message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":1}\n'
)
_DEEP = b"[" * 300 + b"]" * 300
SEEDS: dict[str, list[bytes]] = {
    "sse": [
        b"\x01" + _CHUNK + _END,
        b"\x03\xef\xbb\xbfdata: a\r\n\r\n:c\n\nevent: x\ndata: b\rdata: c\r\r",
        b"\x05data",
    ],
    "ndjson": [b"\x01" + _LINES, b'\x02{"a":1}\r\n\n \n{"b"'],
    "json_value": [b'{"a":[1,2,{"b":null}]}', b'"\xff"', _DEEP],
    "retry_after": [
        b"7",
        b"0.5",
        b"1e9",
        b"Mon, 01 Jan 2024 00:00:00 GMT",
        b"Mon, 01 Jan 2024 00:00:00 +9999",
        b"6m0s",
    ],
    "rate_headers": [
        *[
            b"6m0s",
            b"1h2m3.5s",
            b"20ms",
            b"1755780094500",
            b"2025-08-21T12:41:34+02:00",
            b"Thu, 21 Aug 2025 12:41:00 GMT",
        ],
        b'"default";r=50;t=30\n"default";q=100;w=60;qu="requests"',
    ],
    "refusal": [
        b'\x00\xc9id\n{"error":{"message":"m","type":"t","code":"c"}}',
        b"\x00\x64http://\xff/\n<html>",
        b'\x00\xc8x\n{"error":{"message":' + _DEEP + b"}}",
    ],
    "openai_answer": [
        b"\x01" + _CHUNK + _CALLS + _END,
        b"\x07" + _CHUNK + b'data: {"error":{"message":"m","code":503}}\n\n',
        b'\x02data: {"error":' + _DEEP + b"}\n\n",
        b'\x02data: {"choices":[{"delta":{"content":"x"},"logprobs":{"content":[{"token":"x","logprob":-1}]}}]}\n\n',
        b'\x02data: {"choices":[],"usage":{"prompt_tokens":-1,"completion_tokens":1e99}}\n\n',
    ],
    "openai_whole": [
        b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}',
        b'{"choices":[{"text":"x"}]}',
        b'{"error":"busy"}',
    ],
    "ollama_answer": [b"\x01" + _LINES, b'\x04{"error":"busy"}\n', b'\x02{"message":{"tool_calls":' + _DEEP + b"}}\n"],
}
DICTIONARY: tuple[bytes, ...] = (
    *(
        b"data: ",
        b"data:",
        b"event: ",
        b"error: ",
        b"id:",
        b":",
        b"\n\n",
        b"\r\n\r\n",
        b"\r\r",
        b"\r",
        b"\n",
        b"[DONE]",
    ),
    *(
        b'{"choices":[',
        b'"delta":{',
        b'"content":',
        b'"finish_reason":"stop"',
        b'"usage":{',
        b'"prompt_tokens":',
        b"]}",
    ),
    *(b'"tool_calls":[', b'"index":', b'"function":{', b'"arguments":', b'"logprobs":{', b'"error":', b'"message":{'),
    *(b'"code":', b'"type":', b'"done":true', b'"done_reason":', b'"eval_count":', b'"prompt_eval_count":', b"null"),
    *(b"-1", b"1e999", b"9223372036854775808", b'"\\ud800"', b"\xff", b"\xef\xbb\xbf", _DEEP, b"{}", b"[]", b'"x"'),
    *(b"Mon, 01 Jan 2024 00:00:00 GMT", b" +9999", b"GMT", b"1h2m3s", b"ms", b"nan", b"inf", b"0x1", b"1_0"),
)
