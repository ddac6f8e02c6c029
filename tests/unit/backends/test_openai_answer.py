"""Answers in the OpenAI dialect, read into an Answer."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from expresslane.backends.base import Answer
from expresslane.backends.openai_answer import TOOL_CALL_BYTES, AnswerReader
from expresslane.prompts import ToolCall
from expresslane.results import FinishReason, Usage


def read(*events: dict[str, Any]) -> Answer:
    """The answer that these chunks make."""
    answer = Answer()
    reader = AnswerReader(answer)
    for event in events:
        reader.take_chunk(event)
    reader.close()
    return answer


def delta(**fields: Any) -> dict[str, Any]:
    """One chunk of a chat."""
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


NO_FIRST_TOKEN: list[dict[str, Any]] = [
    delta(role="assistant", content=""),
    delta(role="assistant", content=None),
    delta(content=""),
    delta(reasoning_content=None, content=None),
    delta(tool_calls=[]),
    delta(),
    {"choices": []},
    {"choices": [{"text": "", "finish_reason": None}]},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}},
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}], "prompt_progress": {"processed": 5}},
]

FIRST_TOKEN: list[dict[str, Any]] = [
    delta(content=" "),
    delta(role="assistant", content="x"),
    delta(reasoning_content="hm"),
    delta(reasoning="hm"),
    delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]),
    delta(refusal="no"),
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"choices": [{"text": "x", "finish_reason": None}]},
    {"choices": [{"text": "", "finish_reason": "length"}]},
]


@pytest.mark.parametrize("event", NO_FIRST_TOKEN, ids=lambda event: orjson.dumps(event).decode())
def test_no_first_token(event: dict[str, Any]) -> None:
    """A role-only, empty or counting chunk is not the first token: an engine sends it before it has generated."""
    assert not read(event).started


@pytest.mark.parametrize("event", FIRST_TOKEN, ids=lambda event: orjson.dumps(event).decode())
def test_first_token(event: dict[str, Any]) -> None:
    """The first token is the first content, reasoning, tool call or finish reason."""
    assert read(event).started


def test_first_token_is_told_once() -> None:
    """The first token is told once, before its delta is."""
    seen: list[str] = []
    answer = Answer(lambda: seen.append("first"), lambda text, _: seen.append(text))
    reader = AnswerReader(answer)
    for text in ("", "a", "b"):
        reader.take_chunk(delta(content=text))
        reader.flush()
    assert seen == ["first", "a", "b"]


def test_what_comes_together_is_one_piece() -> None:
    """Chunks between two flushes are one piece of the answer, text and reasoning each in order; no text is none."""
    seen: list[tuple[str, str]] = []
    answer = Answer(on_delta=lambda text, reasoning: seen.append((text, reasoning)))
    reader = AnswerReader(answer)
    for fields in ({"reasoning": "h"}, {"reasoning": "m"}, {"content": "a"}, {"content": "b", "reasoning": "!"}):
        reader.take_chunk(delta(**fields))
    reader.flush()
    reader.take_chunk(delta(content=""))
    reader.flush()
    reader.take_chunk(delta(content="c"))
    reader.flush()
    assert seen == [("ab", "hm!"), ("c", "")]
    assert (answer.text, answer.reasoning, answer.bytes) == ("abc", "hm!", 6)


def test_text_before_a_bad_chunk_is_kept() -> None:
    """What was gathered before a chunk that is wrong belongs to the partial answer."""
    answer = Answer()
    reader = AnswerReader(answer)
    reader.take_chunk(delta(content="a"))
    with pytest.raises(TypeError):
        reader.take_chunk(delta(content=1))
    reader.close()
    assert answer.text == "a"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("function_call", FinishReason.TOOL_CALLS),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("abort", FinishReason.OTHER),
    ],
)
def test_finish_reason(raw: str, reason: FinishReason) -> None:
    """Each finish reason has its meaning and keeps its own word."""
    answer = read({"choices": [{"delta": {}, "finish_reason": raw}]})
    assert (answer.finish_reason, answer.finish_reason_raw) == (reason, raw)


def test_tool_calls_gather_by_index() -> None:
    """Pieces of tool calls find together by their index, in order."""
    answer = read(
        delta(tool_calls=[{"index": 1, "id": "b", "function": {"name": "g", "arguments": ""}}]),
        delta(tool_calls=[{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x'}}]),
        delta(
            tool_calls=[{"index": 1, "function": {"arguments": "{}"}}, {"index": 0, "function": {"arguments": '":1}'}}]
        ),
    )
    assert answer.tool_calls == [ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", "{}")]


def test_tool_calls_without_index() -> None:
    """Where a server leaves the index out, an id begins a new call."""
    answer = read(
        delta(tool_calls=[{"id": "a", "function": {"name": "f", "arguments": "{"}}]),
        delta(tool_calls=[{"function": {"arguments": "}"}}]),
        delta(tool_calls=[{"id": "b", "function": {"name": "g", "arguments": "{}"}}]),
    )
    assert answer.tool_calls == [ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}")]


def test_empty_tool_calls_count() -> None:
    """Calls without a word in them have a size too: a stream of nothing else meets the limit of an answer."""
    answer = read(*(delta(tool_calls=[{"index": index}]) for index in range(100)))
    assert answer.bytes >= 100 * TOOL_CALL_BYTES


def test_logprobs_are_one_object() -> None:
    """The log probabilities of all chunks are one object as the backend wrote its entries."""
    answer = read(
        {
            "choices": [
                {"delta": {"content": "a"}, "logprobs": {"content": [{"token": "a", "logprob": -0.5}], "refusal": None}}
            ]
        },
        {
            "choices": [
                {"delta": {"content": "b"}, "logprobs": {"content": [{"token": "b", "logprob": -1.5}], "refusal": None}}
            ]
        },
    )
    assert orjson.loads(answer.logprobs_json) == {
        "content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}],
        "refusal": None,
    }


def test_usage() -> None:
    """Token counts come with what was cached; without a report there are none."""
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}}
    assert read({"choices": [], "usage": usage}).usage == Usage(9, 8, 2)
    assert read({"choices": [], "usage": {"prompt_tokens": 9, "prompt_tokens_details": None}}).usage == Usage(9, 0, 0)
    assert read(delta(content="x")).usage is None


@pytest.mark.parametrize(
    "event",
    [
        delta(content=["x"]),
        delta(content=7),
        delta(reasoning={"a": 1}),
        delta(tool_calls=[{"index": "0"}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": {"x": 1}}}]),
        delta(tool_calls=7),
        {"choices": {"a": 1}},
        {"choices": ["x"]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {}, "finish_reason": 7}]},
        {"choices": [], "usage": {"prompt_tokens": "many"}},
        {"choices": [], "usage": 7},
        {"choices": [], "usage": {"prompt_tokens": -1}},
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": -(2**31)}},
        {"choices": [], "usage": {"prompt_tokens": 2**31}},
        {"choices": [], "usage": {"prompt_tokens": 1e30}},
    ],
    ids=lambda event: orjson.dumps(event).decode(),
)
def test_wrong_types_are_noticed(event: dict[str, Any]) -> None:
    """A value of the wrong type raises; it never gets into an answer."""
    with pytest.raises((TypeError, AttributeError, LookupError, ValueError)):
        read(event)


def test_bytes_are_utf8() -> None:
    """The size of an answer counts its UTF-8 bytes."""
    assert read(delta(content="漢"), delta(reasoning="é"), delta(content="x")).bytes == 6
