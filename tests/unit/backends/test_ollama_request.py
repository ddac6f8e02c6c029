"""Bodies of requests in Ollama's own dialect."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from expresslane.backends.ollama_request import build_body
from expresslane.errors import BackendError, Reason
from expresslane.prompts import Chat, ChatMessage, Prompt, RequestOptions, Sampling, ToolCall

SCHEMA = '{"type":"object", "maximum": 40.0}'


def body_of(content: str | Chat = "hi", *, raw: bool = False, stream: bool = True, **options: Any) -> bytes:
    """The body for one prompt with these options."""
    prompt = Prompt("c", "m", content, raw=raw, options=RequestOptions(**options))
    return build_body(prompt, "own-name", stream=stream)


def test_chat_and_raw() -> None:
    """O02: a prompt is a chat of one message, a raw one is generated without a template; streaming is always said."""
    assert body_of() == b'{"model":"own-name","stream":true,"messages":[{"role":"user","content":"hi"}]}'
    assert body_of(raw=True, stream=False) == b'{"model":"own-name","stream":false,"prompt":"hi","raw":true}'


def test_sampling_becomes_options() -> None:
    """O02: sampling parameters go out under Ollama's names."""
    sampling = Sampling(5, 0.0, 0.5, 40, 0.1, 0.2, 7, ("a",))
    assert orjson.loads(body_of(sampling=sampling))["options"] == {
        "num_predict": 5,
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 40,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "seed": 7,
        "stop": ["a"],
    }


def test_extra_goes_in_byte_for_byte() -> None:
    """O02: extra members stay as they were written, and `options` of a caller joins those of the typed fields."""
    extra = '{"keep_alive": 40.0, "options": {"num_ctx": 8.0e3, "min_p":0.10}, "think":true}'
    body = body_of(extra_json=extra, sampling=Sampling(seed=1))
    assert b'"options":{"seed":1,"num_ctx": 8.0e3, "min_p":0.10}' in body
    assert b'"keep_alive":40.0' in body
    assert orjson.loads(body)["think"] is True


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ('{"stream":false}', "stream"),
        ('{"messages":[]}', "messages"),
        ('{"format":"json"}', "format"),
        ('{"options":{"seed":2}}', "options.seed"),
    ],
)
def test_collision(extra: str, named: str) -> None:
    """A key that would stand twice in Ollama's body is refused by its name."""
    options: dict[str, Any] = {"sampling": Sampling(seed=1), "response_format_json": '{"type":"json_object"}'}
    with pytest.raises(BackendError, match=named) as raised:
        body_of(extra_json=extra, **options)
    assert (raised.value.reason, raised.value.field) == (Reason.COLLIDING_KEY, "extra_json")


@pytest.mark.parametrize(
    ("response_format", "expected"),
    [
        ('{"type":"text"}', None),
        ('{"type": "json_object"}', b'"format":"json"'),
        (f'{{"type":"json_schema","json_schema":{{"name":"n","schema": {SCHEMA}}}}}', b'"format":' + SCHEMA.encode()),
    ],
)
def test_response_format(response_format: str, expected: bytes | None) -> None:
    """The form of the answer becomes Ollama's `format`, a schema byte for byte."""
    body = body_of(response_format_json=response_format)
    assert expected in body if expected else b"format" not in body


BAD: list[tuple[dict[str, Any], str]] = [
    ({"sampling": Sampling(logprobs=True)}, "sampling.logprobs"),
    ({"sampling": Sampling(top_logprobs=2)}, "sampling.top_logprobs"),
    ({"response_format_json": '{"type":"grammar"}'}, "response_format_json"),
    ({"response_format_json": '{"type":"json_schema"}'}, "response_format_json"),
    ({"raw": True, "tools_json": "[]"}, "tools_json"),
    ({"content": Chat((ChatMessage("user", ((True, '{"type":"input_audio"}'),)),))}, "chat.messages[0].content"),
    (
        {"content": Chat((ChatMessage("user", ((True, '{"type":"image_url","image_url":{"url":"http://x/y"}}'),)),))},
        "chat.messages[0].content",
    ),
    (
        {"content": Chat((ChatMessage("assistant", (), (ToolCall("a", "f", "not json"),)),))},
        "chat.messages[0].tool_calls",
    ),
]


@pytest.mark.parametrize(("given", "field"), BAD)
def test_what_ollama_cannot_do_is_refused(given: dict[str, Any], field: str) -> None:
    """What Ollama cannot do is refused by the field's name, never left out silently."""
    with pytest.raises(BackendError) as raised:
        body_of(**given)
    assert (raised.value.reason, raised.value.field, raised.value.retryable) == (Reason.UNSUPPORTED, field, False)


def test_conversation() -> None:
    """Messages take Ollama's shape: images apart, arguments as objects, a tool's answer under the tool's name."""
    image = '{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD"}}'
    chat = Chat(
        (
            ChatMessage("developer", ((False, "be brief"),)),
            ChatMessage("user", ((False, "look"), (True, image), (True, '{"type":"text","text":"here"}'))),
            ChatMessage("assistant", (), (ToolCall("c1", "f", '{"x": 40.0}'),)),
            ChatMessage("tool", ((False, "42"),), tool_call_id="c1"),
        )
    )
    body = body_of(chat, tools_json="[ ]")
    assert b'"arguments":{"x": 40.0}' in body
    assert b'"tools":[ ]' in body
    assert orjson.loads(body)["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "look\nhere", "images": ["QUJD"]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"x": 40.0}}}],
        },
        {"role": "tool", "content": "42", "tool_call_id": "c1", "tool_name": "f"},
    ]
