"""Prompts on their way into the contract's messages."""

from __future__ import annotations

from typing import Any

import pytest
from expresslane_client import Deadlines, InputError, Prompt, PromptClass, RawJson
from expresslane_client.prompts import prompt_messages
from expresslane_client.v1 import types_pb2


def test_only_what_was_given_is_sent() -> None:
    """Parameters that were not given are unset, so that the backend's own defaults hold."""
    message = Prompt("a", "Hi").to_proto()
    assert message == types_pb2.Prompt(custom_id="a", text="Hi")


def test_every_parameter_arrives() -> None:
    """Each keyword has its field, zero included."""
    message = Prompt(
        "a",
        "Hi",
        raw=True,
        model="m",
        max_tokens=5,
        temperature=0,
        top_p=0.5,
        top_k=-1,
        presence_penalty=0.0,
        frequency_penalty=-2,
        seed=2**60,
        stop=["x", "y"],
        logprobs=False,
        top_logprobs=0,
        prompt_class=PromptClass.INTERACTIVE,
        deadlines=Deadlines(queue_s=1.5, idle_s=0.000000001),
    ).to_proto()
    assert message.raw_prompt == "Hi"
    assert message.model == "m"
    sampling = message.sampling
    assert {field.name for field, _ in sampling.ListFields()} == set(
        types_pb2.SamplingParams.DESCRIPTOR.fields_by_name
    ) - {"n"}
    assert sampling.temperature == 0
    assert sampling.seed == 2**60
    assert getattr(message, "class") == types_pb2.PROMPT_CLASS_INTERACTIVE
    assert message.deadlines.queue.ToNanoseconds() == 1_500_000_000
    assert message.deadlines.idle.ToNanoseconds() == 1
    assert not message.deadlines.HasField("attempt")


def test_json_text_is_passed_byte_for_byte() -> None:
    """A number keeps its spelling and keys their order when they come as text; values become JSON."""
    text = '{"z": 1.10,  "a": 9007199254740993}'
    message = Prompt("a", "Hi", extra=text, tools=[{"type": "function"}], response_format={"type": "text"}).to_proto()
    assert message.extra_json == text
    assert message.tools_json == '[{"type": "function"}]'
    assert message.response_format_json == '{"type": "text"}'


def test_a_conversation_in_openai_form() -> None:
    """Roles, text and other parts, tool calls and their answers all arrive."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    message = Prompt.chat(
        "a",
        [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "See"}, {"type": "image_url"}, RawJson('{"n":1.10}')],
            },
            {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
            {"role": "tool", "tool_call_id": "1", "content": "4", "name": "f"},
        ],
        model="m",
    ).to_proto()
    system, user, assistant, tool = message.chat.messages
    assert (system.role, system.content[0].text) == ("system", "Be brief.")
    assert [part.text or part.json for part in user.content] == ["See", '{"type": "image_url"}', '{"n":1.10}']
    assert assistant.tool_calls[0] == types_pb2.ToolCall(id="1", name="f", arguments='{"x":1}')
    assert (tool.tool_call_id, tool.name, tool.content[0].text) == ("1", "f", "4")


def test_strings_are_prompts_named_by_position() -> None:
    """A list of strings is a batch; a ready message passes as it is."""
    ready = types_pb2.Prompt(custom_id="mine", text="x")
    assert [one.custom_id for one in prompt_messages(["a", ready, "b"])] == ["0", "mine", "2"]


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "text and messages": ({"text": "x", "messages": [{"role": "user"}]}, "text", "text and messages"),
    "lone surrogate": ({"text": "\ud800"}, "text", "Unicode"),
    "lone surrogate in a chat": (
        {"messages": [{"role": "user", "content": "\ud800"}]},
        "messages[0].content",
        "Unicode",
    ),
    "huge number": ({"text": "x", "max_tokens": 2**40}, "sampling.max_tokens", "cannot be"),
    "text for a number": ({"text": "x", "temperature": "hot"}, "sampling.temperature", "cannot be"),
    "stop as a string": ({"text": "x", "stop": "END"}, "stop", "list of strings"),
    "no role": ({"messages": [{"content": "x"}]}, "messages[0].role", "missing"),
    "unknown key": ({"messages": [{"role": "user", "audio": {}}]}, "messages[0].audio", "not known"),
    "content a number": ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "not a list"),
    "part a number": ({"messages": [{"role": "user", "content": [5]}]}, "messages[0].content[0]", "neither text"),
    "tool call without function": (
        {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
        "messages[0].tool_calls[0]",
        "function call",
    ),
}


@pytest.mark.parametrize(("arguments", "field", "reason"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_sent_is_named(arguments: dict[str, Any], field: str, reason: str) -> None:
    """The error names the prompt, the field and the reason before anything leaves the process."""
    with pytest.raises(InputError) as caught:
        Prompt("bad", **arguments).to_proto()
    assert (caught.value.custom_id, caught.value.field) == ("bad", field)
    assert reason in str(caught.value)
