"""Bad input: each prompt at fault is refused with the reason and the field, and with nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from expresslane.errors import Reason
from expresslane.prompts import Chat, PromptClass
from expresslane.servicers.decode import PromptDecoder
from expresslane.v1 import types_pb2 as pb
from google.protobuf.duration_pb2 import Duration

LIMIT = 1_000


def message(**fields: Any) -> pb.Prompt:
    """A good prompt but for `fields`."""
    plain: dict[str, Any] = {"custom_id": "a"}
    if not fields.keys() & {"text", "raw_prompt", "chat", "nothing"}:
        plain["text"] = "hi"
    fields.pop("nothing", None)
    return pb.Prompt(**(plain | fields))


def chat(*messages: pb.ChatMessage) -> pb.Prompt:
    """A prompt with a conversation."""
    return message(chat=pb.Chat(messages=messages))


def user(**fields: Any) -> pb.ChatMessage:
    """A good message but for `fields`."""
    return pb.ChatMessage(**({"role": "user", "content": [pb.ContentPart(text="hi")]} | fields))


def sampling(**fields: Any) -> pb.Prompt:
    """A prompt with sampling parameters."""
    return message(sampling=pb.SamplingParams(**fields))


INVALID, JSON = Reason.INVALID_FIELD, Reason.INVALID_JSON
CASES = [
    (message(custom_id=""), "custom_id", Reason.MISSING_CUSTOM_ID),
    (message(custom_id="x" * 257), "custom_id", INVALID),
    (message(custom_id="ü" * 129), "custom_id", INVALID),
    (message(model="x" * 257), "model", INVALID),
    (message(nothing=True), "", INVALID),
    (message(text=""), "text", INVALID),
    (message(raw_prompt=""), "raw_prompt", INVALID),
    (message(text="x" * 1_001), "text", Reason.PROMPT_TOO_LARGE),
    (message(raw_prompt="ü" * 501), "raw_prompt", Reason.PROMPT_TOO_LARGE),
    (chat(user(content=[pb.ContentPart(text="x" * 1_000)])), "chat", Reason.PROMPT_TOO_LARGE),
    (chat(), "chat.messages", INVALID),
    (chat(user(role="robot")), "chat.messages[0].role", INVALID),
    (chat(user(), user(role="")), "chat.messages[1].role", INVALID),
    (chat(user(content=[])), "chat.messages[0].content", INVALID),
    (chat(user(content=[pb.ContentPart()])), "chat.messages[0].content[0]", INVALID),
    (chat(user(content=[pb.ContentPart(json="{")])), "chat.messages[0].content[0].json", JSON),
    (chat(user(content=[pb.ContentPart(json="[]")])), "chat.messages[0].content[0].json", JSON),
    (chat(user(tool_calls=[pb.ToolCall(name="f")])), "chat.messages[0].tool_calls", INVALID),
    (chat(user(tool_call_id="1")), "chat.messages[0].tool_call_id", INVALID),
    (chat(user(role="tool")), "chat.messages[0].tool_call_id", INVALID),
    (sampling(max_tokens=0), "sampling.max_tokens", INVALID),
    (sampling(max_tokens=-1), "sampling.max_tokens", INVALID),
    (sampling(max_tokens=2**31 - 1), "sampling.max_tokens", INVALID),
    (sampling(temperature=-0.1), "sampling.temperature", INVALID),
    (sampling(temperature=float("nan")), "sampling.temperature", INVALID),
    (sampling(temperature=float("inf")), "sampling.temperature", INVALID),
    (sampling(top_p=0), "sampling.top_p", INVALID),
    (sampling(top_p=1.1), "sampling.top_p", INVALID),
    (sampling(top_k=0), "sampling.top_k", INVALID),
    (sampling(top_k=-2), "sampling.top_k", INVALID),
    (sampling(presence_penalty=2.1), "sampling.presence_penalty", INVALID),
    (sampling(frequency_penalty=-2.1), "sampling.frequency_penalty", INVALID),
    (sampling(logprobs=True, top_logprobs=21), "sampling.top_logprobs", INVALID),
    (sampling(top_logprobs=2), "sampling.top_logprobs", INVALID),
    (sampling(n=2), "sampling.n", INVALID),
    (sampling(n=0), "sampling.n", INVALID),
    (sampling(stop=[""]), "sampling.stop", INVALID),
    (sampling(stop=["x"] * 17), "sampling.stop", INVALID),
    (message(extra_json="{"), "extra_json", JSON),
    (message(extra_json="[]"), "extra_json", JSON),
    (message(extra_json='{"a": NaN}'), "extra_json", JSON),
    (message(extra_json="[" * 900), "extra_json", JSON),
    (message(extra_json='{"a":' + "[" * 128 + "]" * 128 + "}"), "extra_json", JSON),
    (message(tools_json="[" * 129 + "]" * 129), "tools_json", JSON),
    (message(response_format_json='{"a":' * 129 + "1" + "}" * 129), "response_format_json", JSON),
    (
        chat(user(content=[pb.ContentPart(json='{"a":' * 129 + "1" + "}" * 129)])),
        "chat.messages[0].content[0].json",
        JSON,
    ),
    (message(extra_json='{"a":"' + "x" * 1_000 + '"}'), "extra_json", Reason.PROMPT_TOO_LARGE),
    (message(tools_json='["' + "x" * 1_000 + '"]'), "tools_json", Reason.PROMPT_TOO_LARGE),
    (message(response_format_json='{"a":"' + "x" * 1_000 + '"}'), "response_format_json", Reason.PROMPT_TOO_LARGE),
    (sampling(stop=["x" * 500, "y" * 500]), "sampling.stop", Reason.PROMPT_TOO_LARGE),
    (chat(user(name="x" * 1_000)), "chat", Reason.PROMPT_TOO_LARGE),
    (chat(user(role="tool", tool_call_id="x" * 1_000)), "chat", Reason.PROMPT_TOO_LARGE),
    (message(tools_json="{}"), "tools_json", JSON),
    (message(response_format_json="3"), "response_format_json", JSON),
    (message(extra_json='{"stream": true}'), "extra_json", Reason.COLLIDING_KEY),
    (message(extra_json='{"model": "other"}'), "extra_json", Reason.COLLIDING_KEY),
    (message(extra_json='{"\\u006dodel": "other"}'), "extra_json", Reason.COLLIDING_KEY),
    (
        message(extra_json='{"temperature": 1}', sampling=pb.SamplingParams(temperature=0)),
        "extra_json",
        Reason.COLLIDING_KEY,
    ),
    (message(**{"class": 9}), "class", INVALID),
    (message(deadlines=pb.Deadlines(queue=Duration(seconds=-1))), "deadlines.queue", INVALID),
    (message(deadlines=pb.Deadlines(idle=Duration(nanos=-1))), "deadlines.idle", INVALID),
    (message(deadlines=pb.Deadlines(attempt=Duration(seconds=86_401))), "deadlines.attempt", INVALID),
    (message(deadlines=pb.Deadlines(first_token=Duration(seconds=2**62))), "deadlines.first_token", INVALID),
]


@pytest.mark.parametrize(("bad", "field", "reason"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_bad_prompt(bad: pb.Prompt, field: str, reason: Reason) -> None:
    """The one field at fault is named by its path in the call, with the reason."""
    decoded = PromptDecoder(LIMIT).decode(bad, "prompts[3]")
    assert decoded.prompt is None
    path = f"prompts[3].{field}" if field else "prompts[3]"
    assert [(fault.field, fault.reason) for fault in decoded.violations] == [(path, reason)]
    assert 0 < len(decoded.violations[0].description) < 300


GOOD = [
    message(custom_id="x" * 256, text="x" * LIMIT),
    sampling(max_tokens=1, temperature=0, top_p=1, top_k=-1, seed=-(2**63), stop=["x"] * 16, n=1),
    sampling(max_tokens=1_000_000, temperature=2, presence_penalty=-2, logprobs=True, top_logprobs=20),
    message(extra_json='{"min_p": 0.1, "big": 9007199254740993}', tools_json="[]", response_format_json="{}"),
    message(deadlines=pb.Deadlines(queue=Duration(seconds=86_400))),
    chat(user(role="assistant", content=[], tool_calls=[pb.ToolCall(name="f")]), user(role="tool", tool_call_id="1")),
    message(extra_json='{"temperature": 1}'),
    message(extra_json='{"a":' + "[" * 127 + "]" * 127 + "}", tools_json="[" + "[]," * 200 + "[]]"),
]


@pytest.mark.parametrize("good", GOOD)
def test_good_prompt(good: pb.Prompt) -> None:
    """Everything at the edge of its range is taken."""
    decoded = PromptDecoder(LIMIT).decode(good, "p")
    assert decoded.violations == ()
    assert decoded.prompt is not None


def test_copies_byte_for_byte() -> None:
    """Text, JSON and parameters come out as they went in; what is unset stays unset."""
    extra = '{ "a":9007199254740993 ,"b":40}'
    decoded = PromptDecoder(LIMIT).decode(message(extra_json=extra, sampling=pb.SamplingParams(temperature=0)), "p")
    assert decoded.prompt is not None
    options = decoded.prompt.options
    assert options.extra_json == extra
    assert (options.sampling.temperature, options.sampling.top_p, options.sampling.logprobs) == (0, None, None)
    assert decoded.prompt.prompt_class is PromptClass.STANDARD
    assert (decoded.prompt.raw, decoded.size_bytes) == (False, 2 + len(extra))
    assert (options.template_bytes, options.other_bytes) == (0, len(extra))


LENGTHS = [
    (message(text="x" * 99), PromptClass.STANDARD),
    (message(text="x" * 100), PromptClass.BATCH),
    (message(text="ü" * 99), PromptClass.STANDARD),
    (message(raw_prompt="ü" * 100), PromptClass.BATCH),
    (chat(user(content=[pb.ContentPart(text="x" * 50)]), user(content=[pb.ContentPart(text="x" * 49)])), 1),
    (chat(user(content=[pb.ContentPart(text="x" * 50)]), user(content=[pb.ContentPart(text="x" * 50)])), 2),
    (chat(user(content=[pb.ContentPart(json='{"a":"%s"}' % ("x" * 91))])), 1),
    (chat(user(content=[pb.ContentPart(json='{"a":"%s"}' % ("x" * 92))])), 2),
    (message(text="x", extra_json='{"a":"%s"}' % ("x" * 200)), PromptClass.STANDARD),
    (message(text="x" * 100, **{"class": pb.PROMPT_CLASS_INTERACTIVE}), PromptClass.INTERACTIVE),
    (message(text="x" * 100, **{"class": pb.PROMPT_CLASS_STANDARD}), PromptClass.STANDARD),
]


@pytest.mark.parametrize(("prompt", "expected"), LENGTHS)
def test_a_class_by_length(prompt: pb.Prompt, expected: PromptClass) -> None:
    """From 100 characters on a prompt that asks for no class gets batch, whatever their bytes (A24: 99 and 100)."""
    decoded = PromptDecoder(LIMIT, batch_class_from_chars=100).decode(prompt, "p").prompt
    assert decoded is not None
    assert decoded.prompt_class == expected
    without = PromptDecoder(LIMIT).decode(message(text="x" * 100), "p").prompt
    assert without is not None
    assert without.prompt_class is PromptClass.STANDARD


@pytest.mark.parametrize("highest", PromptClass)
@pytest.mark.parametrize("length", [99, 100])
def test_length_never_raises_a_class(highest: PromptClass, length: int) -> None:
    """With the threshold a tenant's prompt is never above what it is without, nor above the tenant's highest (A24)."""
    prompt = message(text="x" * length)
    by_length = PromptDecoder(LIMIT, highest, batch_class_from_chars=100).decode(prompt, "p").prompt
    without = PromptDecoder(LIMIT, highest).decode(prompt, "p").prompt
    assert by_length is not None
    assert without is not None
    assert by_length.prompt_class == (PromptClass.BATCH if length == 100 else without.prompt_class)
    assert by_length.prompt_class >= max(highest, without.prompt_class)


def test_equal_options_are_held_once() -> None:
    """A thousand prompts with the same options share them, and a bad one is never remembered as good."""
    decoder = PromptDecoder(LIMIT)
    decoded = [decoder.decode(sampling(max_tokens=7), "p").prompt for _ in range(3)]
    assert decoded[0] is not None
    assert all(one is not None and one.options is decoded[0].options for one in decoded)
    for _ in range(2):
        assert decoder.decode(sampling(max_tokens=0), "p").prompt is None


def test_different_options_are_not_kept_for_ever() -> None:
    """A session in which every prompt has a seed of its own holds a bounded number of them."""
    decoder = PromptDecoder(LIMIT)
    for seed in range(5_000):
        decoder.decode(sampling(seed=seed), "p")
    assert len(decoder._options) <= 1_024


def test_large_options_are_not_kept_for_ever() -> None:
    """Options that are large each are held for reuse up to a bound of bytes, not only of numbers."""
    decoder = PromptDecoder(10_000_000)
    for number in range(8):
        decoder.decode(message(extra_json=f'{{"a":"{number}{"x" * 5_000_000}"}}'), "p")
        assert sum(len(key[1]) for key in decoder._options) <= 16 * 1024 * 1024


@pytest.mark.parametrize(
    ("extra", "what"),
    [('{"a":1,"a":2}', "sets 'a' twice"), ('{"model":"x"}', "sets 'model', which a typed field or the service sets")],
)
def test_what_a_colliding_key_is_told(extra: str, what: str) -> None:
    """A key that stands twice is told apart from one that a typed field or the service sets."""
    (fault,) = PromptDecoder(LIMIT).decode(message(extra_json=extra), "p").violations
    assert fault.description == what


def test_conversation() -> None:
    """A conversation keeps its order, roles, parts and calls."""
    decoded = PromptDecoder(LIMIT).decode(
        chat(
            user(role="system"),
            user(content=[pb.ContentPart(text="look"), pb.ContentPart(json='{"type":"image_url"}')], name="eve"),
        ),
        "p",
    )
    assert decoded.prompt is not None
    assert isinstance(decoded.prompt.content, Chat)
    system, other = decoded.prompt.content.messages
    assert (system.role, system.parts) == ("system", ((False, "hi"),))
    assert (other.name, other.parts) == ("eve", ((False, "look"), (True, '{"type":"image_url"}')))
