"""Lines of a prompts file: what each form becomes, and what is said of each mistake."""

from __future__ import annotations

import json

import pytest
from expresslane.cli.line_error import LineError
from expresslane.cli.prompt_lines import parse_line
from expresslane.cli.prompt_options import Defaults
from expresslane_client import Prompt, PromptClass

NONE = Defaults()


def parse(line: str, defaults: Defaults = NONE) -> Prompt:
    """The prompt of a line."""
    return parse_line(line.encode(), defaults)


def test_our_own_form() -> None:
    """Known keys have their meaning, unknown ones go on byte for byte."""
    prompt = parse(
        '{"custom_id": "a", "prompt": "Hi", "model": "m", "max_tokens": 5, "temperature": 0, "stop": "END", '
        '"class": "batch", "tools": [ ], "logprobs": true, "min_p": 1.10, "x y": {"b":1,  "a":9007199254740993}}'
    )
    message = prompt.to_proto()
    assert (message.text, message.model, message.sampling.max_tokens, message.sampling.temperature) == ("Hi", "m", 5, 0)
    assert (list(message.sampling.stop), message.tools_json, message.sampling.logprobs) == (["END"], "[ ]", True)
    assert prompt.prompt_class is PromptClass.BATCH
    assert message.extra_json == '{"min_p":1.10,"x y":{"b":1,  "a":9007199254740993}}'


def test_raw_prompts_and_conversations() -> None:
    """raw_prompt has no template; a part that is no text keeps its spelling."""
    assert parse('{"custom_id": "a", "raw_prompt": "The sky"}').to_proto().raw_prompt == "The sky"
    part = '{"type": "image_url", "image_url": {"url": "u", "n": 1.10}}'
    content = f'[{{"type": "text", "text": "Hi"}}, {part}]'
    message = parse(f'{{"custom_id": "a", "messages": [{{"role": "user", "content": {content}}}]}}').to_proto()
    assert [one.text or one.json for one in message.chat.messages[0].content] == ["Hi", part]


def test_openai_batch_input() -> None:
    """Chat and completion lines of OpenAI's batch format, with what only matters to their server left out."""
    chat = parse(
        '{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "stream": true, '
        '"n": 1, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": null, "user": "u", "seed": 7}}'
    ).to_proto()
    assert (chat.model, chat.chat.messages[0].content[0].text, chat.extra_json) == ("m", "Hi", '{"user":"u"}')
    assert (chat.sampling.HasField("max_tokens"), chat.sampling.seed) == (False, 7)
    completion = parse(
        '{"custom_id": "b", "url": "/v1/completions", "body": {"prompt": "x", "logprobs": 5}}'
    ).to_proto()
    assert (completion.raw_prompt, completion.extra_json) == ("x", '{"logprobs":5}')


def test_the_line_goes_before_the_command_line() -> None:
    """Model, max_tokens and class of the command are for prompts that do not say theirs."""
    defaults = Defaults("d", 9, PromptClass.INTERACTIVE)
    mine = parse('{"custom_id": "a", "prompt": "x", "model": "m", "max_tokens": 1, "class": "batch"}', defaults)
    assert (mine.model, mine.max_tokens, mine.prompt_class) == ("m", 1, PromptClass.BATCH)
    other = parse('{"custom_id": "a", "prompt": "x", "model": null}', defaults)
    assert (other.model, other.max_tokens, other.prompt_class) == ("d", 9, PromptClass.INTERACTIVE)


BODY = '{{"custom_id": "a", "url": "/v1/chat/completions", "body": {}}}'
BAD = {
    "prompt and messages": ('{"custom_id": "a", "prompt": "x", "messages": []}', "prompt", "together with messages"),
    "text and messages": (
        '{"custom_id": "a", "text": "x", "messages": [{"role": "user", "content": "Hi"}]}',
        "text",
        "write prompt",
    ),
    "text alone": ('{"custom_id": "a", "text": "x"}', "text", "write prompt"),
    "chat": ('{"custom_id": "a", "chat": {"messages": []}}', "chat", "write messages"),
    "tools_json": ('{"custom_id": "a", "prompt": "x", "tools_json": "[]"}', "tools_json", "write tools"),
    "response_format_json": (
        '{"custom_id": "a", "prompt": "x", "response_format_json": "{}"}',
        "response_format_json",
        "write response_format",
    ),
    "extra_json": ('{"custom_id": "a", "prompt": "x", "extra_json": "{}"}', "extra_json", "a key of its own"),
    "sampling": ('{"custom_id": "a", "prompt": "x", "sampling": {}}', "sampling", "a key of its own"),
    "no input": ('{"custom_id": "a"}', "prompt, raw_prompt or messages", "is missing"),
    "no custom_id": ('{"prompt": "x"}', "custom_id", "is missing"),
    "empty custom_id": ('{"custom_id": "", "prompt": "x"}', "custom_id", "is empty"),
    "custom_id a number": ('{"custom_id": 7, "prompt": "x"}', "custom_id", "a number, not a string"),
    "long custom_id": (f'{{"custom_id": "{"é" * 129}", "prompt": "x"}}', "custom_id", "258 bytes"),
    "empty prompt": ('{"custom_id": "a", "prompt": ""}', "prompt", "is empty"),
    "prompt a list": ('{"custom_id": "a", "prompt": ["x"]}', "prompt", "a list, not a string"),
    "empty messages": ('{"custom_id": "a", "messages": []}', "messages", "is empty"),
    "messages a string": ('{"custom_id": "a", "messages": "x"}', "messages", "not a list of objects"),
    "message a string": ('{"custom_id": "a", "messages": ["x"]}', "messages", "not a list of objects"),
    "no role": ('{"custom_id": "a", "messages": [{"content": "x"}]}', "messages[0].role", "is missing"),
    "lone surrogate": ('{"custom_id": "a", "prompt": "\\ud800"}', "prompt", "Unicode"),
    "text for a number": ('{"custom_id": "a", "prompt": "x", "max_tokens": "5"}', "max_tokens", 'cannot be "5"'),
    "fraction": ('{"custom_id": "a", "prompt": "x", "top_k": 1.5}', "top_k", "whole number"),
    "true for a number": ('{"custom_id": "a", "prompt": "x", "temperature": true}', "temperature", "number"),
    "huge number": ('{"custom_id": "a", "prompt": "x", "max_tokens": 99999999999}', "max_tokens", "cannot be"),
    "unknown class": ('{"custom_id": "a", "prompt": "x", "class": "urgent"}', "class", "interactive, standard, batch"),
    "stop of numbers": ('{"custom_id": "a", "prompt": "x", "stop": [1]}', "stop", "cannot be [1]"),
    "tools an object": ('{"custom_id": "a", "prompt": "x", "tools": {}}', "tools", "an object"),
    "several choices": ('{"custom_id": "a", "prompt": "x", "n": 2}', "n", "only one choice"),
    "other endpoint": ('{"custom_id": "a", "url": "/v1/embeddings", "body": {}}', "url", "/v1/chat/completions or"),
    "body without url": ('{"custom_id": "a", "body": {}}', "url", "is missing"),
    "url without body": ('{"custom_id": "a", "url": "/v1/completions"}', "body", "not an object"),
    "GET": ('{"custom_id": "a", "method": "GET", "url": "/v1/completions", "body": {}}', "method", "only be POST"),
    "beside the body": (
        '{"custom_id": "a", "url": "/v1/completions", "body": {}, "model": "m"}',
        "model",
        "inside body",
    ),
    "prompt for chat": (BODY.format('{"prompt": "x"}'), "body.messages", "is missing"),
    "bad value in body": (
        BODY.format('{"messages": [{"role": "user", "content": "x"}], "top_p": "x"}'),
        "body.top_p",
        "a number",
    ),
    "bad message in body": (
        BODY.format('{"messages": [{"role": "user", "content": 5}]}'),
        "body.messages[0].content",
        "list",
    ),
}


@pytest.mark.parametrize(("line", "field", "reason"), BAD.values(), ids=BAD.keys())
def test_every_mistake_is_named_with_an_example_that_is_right(line: str, field: str, reason: str) -> None:
    """Field, reason, and a line that could stand there instead (P39)."""
    with pytest.raises(LineError) as caught:
        parse(line)
    assert caught.value.field == field
    assert reason in caught.value.message
    parse(caught.value.example)


def test_a_line_that_is_no_json_or_no_utf8_is_placed_by_column() -> None:
    """The column counts from 1."""
    with pytest.raises(LineError) as caught:
        parse('{"custom_id": "a" "prompt": "x"}')
    assert caught.value.column == 19
    with pytest.raises(LineError, match="byte 0xff is not valid UTF-8") as caught:
        parse_line(b'{"custom_id": "\xff"}', NONE)
    assert caught.value.column == 16


def test_examples_are_json() -> None:
    """An example can be copied into a file as it is."""
    with pytest.raises(LineError) as caught:
        parse('{"custom_id": 7, "prompt": "x"}')
    assert json.loads(caught.value.example)["custom_id"] == "7"
