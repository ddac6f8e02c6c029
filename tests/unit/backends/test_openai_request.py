"""Bodies of requests in the OpenAI dialect."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from expresslane.backends.openai_request import OWN_KEYS, build_body, colliding_keys, typed_keys
from expresslane.errors import BackendError, Reason
from expresslane.prompts import Chat, ChatMessage, Prompt, RequestOptions, Sampling, ToolCall

ODD = '{"z": 40.0, "big":9007199254740993,"a":1e2, "text":"\\u00e9 é"}'


def body_of(content: str | Chat, *, raw: bool = False, stream: bool = False, **options: Any) -> bytes:
    """The body for one prompt with these options."""
    prompt = Prompt("c", "m", content, raw=raw, options=RequestOptions(**options))
    return build_body(prompt, "own-name", stream=stream)


def test_only_what_is_set_is_sent() -> None:
    """A09: a plain prompt is the model, one user message, and nothing else."""
    assert body_of("hi") == b'{"model":"own-name","messages":[{"role":"user","content":"hi"}]}'


def test_stream_asks_for_usage() -> None:
    """A stream is asked for with its token counts."""
    assert orjson.loads(body_of("hi", stream=True)) == {
        "model": "own-name",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_raw_prompt() -> None:
    """A raw prompt is a completion's prompt, with a completion's kind of logprobs."""
    sampling = Sampling(logprobs=True, top_logprobs=3, max_tokens=5)
    assert orjson.loads(body_of("Once", raw=True, sampling=sampling)) == {
        "model": "own-name",
        "prompt": "Once",
        "max_tokens": 5,
        "logprobs": 3,
    }
    assert orjson.loads(body_of("x", raw=True, sampling=Sampling(logprobs=True)))["logprobs"] == 1
    assert "logprobs" not in orjson.loads(body_of("x", raw=True, sampling=Sampling(logprobs=False)))


def test_every_sampling_parameter() -> None:
    """A09: every sampling parameter goes out under its name, zero and false included."""
    sampling = Sampling(0, 0.0, 0.5, -1, 0.0, -2.0, -(2**63), ("a", "b"), logprobs=False, top_logprobs=0)
    assert orjson.loads(body_of("hi", sampling=sampling)) == {
        "model": "own-name",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 0,
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": -1,
        "presence_penalty": 0.0,
        "frequency_penalty": -2.0,
        "seed": -(2**63),
        "stop": ["a", "b"],
        "logprobs": False,
        "top_logprobs": 0,
    }


def test_json_goes_in_byte_for_byte() -> None:
    """A09: no number, order, space or escape of a caller's JSON is changed on the way."""
    chat = Chat((ChatMessage("user", ((False, "look"), (True, ODD))),))
    body = body_of(chat, extra_json=f' {ODD[:-1]}, "more":[ ]}} ', tools_json=f"[{ODD}]", response_format_json=ODD)
    assert body.count(ODD[1:-1].encode()) == 4
    assert b'"tools":[' + ODD.encode() + b"]" in body
    assert b'"response_format":' + ODD.encode() in body
    assert body.endswith(b', "more":[ ]}')
    assert orjson.loads(body)["messages"][0]["content"][0] == {"type": "text", "text": "look"}


def test_conversation() -> None:
    """A conversation keeps roles, names, calls and their answers."""
    chat = Chat(
        (
            ChatMessage("system", ((False, "be brief"),)),
            ChatMessage("user", ((False, "a"), (False, "b")), name="ann"),
            ChatMessage("assistant", (), (ToolCall("c1", "f", '{"x": 40.0}'),)),
            ChatMessage("tool", ((False, "42"),), tool_call_id="c1"),
            ChatMessage("assistant"),
        )
    )
    assert orjson.loads(body_of(chat))["messages"] == [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "name": "ann",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 40.0}'}}],
        },
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "assistant", "content": ""},
    ]


def test_raw_prompt_has_no_tools() -> None:
    """A raw prompt that offers tools is refused by the field's name, not sent without them."""
    with pytest.raises(BackendError) as raised:
        body_of("x", raw=True, tools_json="[]")
    assert (raised.value.reason, raised.value.field) == (Reason.UNSUPPORTED, "tools_json")


@pytest.mark.parametrize(
    ("extra", "colliding"),
    [
        ("", []),
        ("{}", []),
        ('{"min_p":0.1,"top_p":1}', []),
        ('{"temperature":1}', ["temperature"]),
        (
            '{"temperature":1,"stop":[],"tools":[],"response_format":{}}',
            ["response_format", "stop", "temperature", "tools"],
        ),
        ('{"a":1,"a":2}', ["a"]),
        ('{"temp\\u0065rature":1}', ["temperature"]),
        *((f'{{"{key}":null}}', [key]) for key in sorted(OWN_KEYS)),
    ],
)
def test_colliding_keys(extra: str, colliding: list[str]) -> None:
    """A key that a typed field or the service sets, or that stands twice, is found, however it is written."""
    options = RequestOptions(Sampling(temperature=0.5, stop=("x",)), extra, "[]", "{}")
    assert colliding_keys(options) == colliding


def test_typed_keys_are_the_body() -> None:
    """The keys that are said to be taken are those of the body, and the service's own."""
    sampling = Sampling(1, 1.0, 1.0, 1, 1.0, 1.0, 1, ("x",), logprobs=True, top_logprobs=1)
    options = RequestOptions(sampling, "", "[]", "{}")
    body = orjson.loads(build_body(Prompt("c", "m", "hi", options=options), "m", stream=True))
    assert typed_keys(options) == set(body) | OWN_KEYS
