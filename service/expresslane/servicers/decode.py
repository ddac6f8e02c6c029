"""Requests into plain values: every field checked, everything copied out, so that the message's memory can go."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from expresslane.backends.openai_request import colliding_keys, typed_keys
from expresslane.errors import FieldViolation, Reason
from expresslane.prompts import (
    Chat,
    ChatMessage,
    Deadlines,
    Prompt,
    PromptClass,
    RequestOptions,
    Sampling,
    ToolCall,
)
from expresslane.servicers.content_urls import foreign_address, foreign_reference, tool_server
from expresslane.tokens import characters, text_bytes, utf8_bytes
from expresslane.v1 import types_pb2

if TYPE_CHECKING:
    from google.protobuf import duration_pb2

__all__ = ["Decoded", "PromptDecoder", "duration_ns"]

MAX_ID_BYTES = 256
MAX_STOPS = 16
MAX_KEPT_OPTIONS = 1_024
MAX_KEPT_BYTES = 16 * 1024 * 1024
MAX_JSON_DEPTH = 128
DAY_NS = 24 * 3600 * 10**9
ROLES = ("system", "developer", "user", "assistant", "tool")

_CLASSES = {
    types_pb2.PROMPT_CLASS_INTERACTIVE: PromptClass.INTERACTIVE,
    types_pb2.PROMPT_CLASS_STANDARD: PromptClass.STANDARD,
    types_pb2.PROMPT_CLASS_BATCH: PromptClass.BATCH,
}
_RANGES: tuple[tuple[str, float, float, str], ...] = (
    ("max_tokens", 1, 1_000_000, "1 to 1,000,000"),
    ("temperature", 0, 2, "0 to 2"),
    ("top_p", math.nextafter(0, 1), 1, "above 0, at most 1"),
    ("top_k", -1, 2**31 - 1, "at least 1, or -1 for off"),
    ("presence_penalty", -2, 2, "-2 to 2"),
    ("frequency_penalty", -2, 2, "-2 to 2"),
    ("top_logprobs", 0, 20, "0 to 20"),
    ("n", 1, 1, "1: several choices are not supported yet"),
)
_ADDRESS = "names {!r}, where the backend would go; send the content itself, as a data: URL or base64"
Report = Callable[[str, str, Reason], None]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A prompt that can be run, with its size, or what is wrong with it."""

    prompt: Prompt | None
    size_bytes: int
    violations: tuple[FieldViolation, ...] = ()


def duration_ns(duration: duration_pb2.Duration) -> int:
    """A protobuf duration in nanoseconds."""
    return duration.seconds * 10**9 + duration.nanos


class PromptDecoder:
    """Decodes prompts of one call; equal options are checked and held once.

    A class above `max_class` is refused rather than lowered: who asks for it should know that it will wait. A prompt
    that asks for none gets STANDARD, or `max_class` where that is lower; one of at least `batch_class_from_chars`
    characters BATCH, which is never above `max_class` (A24; 0: none does).
    """

    def __init__(
        self,
        max_prompt_bytes: int,
        max_class: PromptClass = PromptClass.INTERACTIVE,
        *,
        any_urls: bool = False,
        batch_class_from_chars: int = 0,
    ) -> None:
        self._max_prompt_bytes = max_prompt_bytes
        self._any_urls = any_urls
        self._max_class = max_class
        self._batch_class_from_chars = batch_class_from_chars
        self._classes = {types_pb2.PROMPT_CLASS_UNSPECIFIED: max(PromptClass.STANDARD, max_class), **_CLASSES}
        self._options: dict[tuple[bytes, str, str, str, bytes], RequestOptions] = {}
        self._kept_bytes = 0

    def decode(self, message: types_pb2.Prompt, path: str, *, id_required: bool = True) -> Decoded:
        """Decode one prompt; `path` names it in violations (`prompts[3]`)."""
        violations: list[FieldViolation] = []

        def report(field: str, description: str, reason: Reason = Reason.INVALID_FIELD) -> None:
            violations.append(FieldViolation(f"{path}.{field}" if field else path, description, reason))

        custom_id = message.custom_id
        if not custom_id and id_required:
            report("custom_id", "required: 1 to 256 bytes", Reason.MISSING_CUSTOM_ID)
        elif len(custom_id.encode()) > MAX_ID_BYTES:
            report("custom_id", f"{len(custom_id.encode()):,} bytes; at most {MAX_ID_BYTES}")
        if len(message.model.encode()) > MAX_ID_BYTES:
            report("model", f"at most {MAX_ID_BYTES} bytes")
        content, raw = _content(message, report)
        if type(content) is Chat and not self._any_urls:
            _check_parts(content, report)
        prompt_class = self._decode_class(message, content, report)
        options = self._decode_options(message, report)
        size = utf8_bytes(content) + options.template_bytes + options.other_bytes
        if size > self._max_prompt_bytes:
            description = f"a prompt of {size:,} bytes in all; this service takes at most {self._max_prompt_bytes:,}"
            report(_largest_part(message, content, options), description, Reason.PROMPT_TOO_LARGE)
        if violations or prompt_class is None:
            return Decoded(None, size, tuple(violations))
        sequential = message.sequential
        return Decoded(Prompt(custom_id, message.model, content, raw, prompt_class, options, sequential), size)

    def _decode_class(self, message: types_pb2.Prompt, content: str | Chat, report: Report) -> PromptClass | None:
        asked = getattr(message, "class")
        prompt_class = self._classes.get(asked)
        if prompt_class is None:
            report("class", f"{asked} is no PromptClass", Reason.INVALID_FIELD)
        elif prompt_class < self._max_class:
            description = f"{prompt_class.name}: this tenant may use {self._max_class.name} and below"
            report("class", description, Reason.CLASS_NOT_ALLOWED)
        elif asked == types_pb2.PROMPT_CLASS_UNSPECIFIED and 0 < self._batch_class_from_chars <= characters(content):
            prompt_class = PromptClass.BATCH
        return prompt_class

    def _decode_options(self, message: types_pb2.Prompt, report: Report) -> RequestOptions:
        sampling = message.sampling.SerializeToString(deterministic=True) if message.HasField("sampling") else b""
        deadlines = message.deadlines.SerializeToString(deterministic=True) if message.HasField("deadlines") else b""
        extra, tools, form = message.extra_json, message.tools_json, message.response_format_json
        key = (sampling, extra, tools, form, deadlines)
        known = self._options.get(key)
        if known is not None:
            return known
        faults = 0

        def count(field: str, description: str, reason: Reason = Reason.INVALID_FIELD) -> None:
            nonlocal faults
            faults += 1
            report(field, description, reason)

        template_bytes = text_bytes(tools) + text_bytes(form)
        other_bytes = text_bytes(extra) + sum(map(text_bytes, message.sampling.stop))
        options = RequestOptions(
            sampling=_sampling(message.sampling, count) if sampling else Sampling(),
            extra_json=_json(extra, "extra_json", dict, count),
            tools_json=_json(tools, "tools_json", list, count),
            response_format_json=_json(form, "response_format_json", dict, count),
            deadlines=_deadlines(message.deadlines, count) if deadlines else Deadlines(),
            template_bytes=template_bytes,
            other_bytes=other_bytes,
        )
        if not faults:
            taken = typed_keys(options)
            for collision in colliding_keys(options):
                why = ", which a typed field or the service sets" if collision in taken else " twice"
                count("extra_json", f"sets {collision[:80]!r}{why}", Reason.COLLIDING_KEY)
        if not (faults or self._any_urls):
            _check_options(options, count)
        if not faults:
            # A session may run for days, each prompt with a seed of its own.
            self._kept_bytes += template_bytes + other_bytes
            if len(self._options) >= MAX_KEPT_OPTIONS or self._kept_bytes > MAX_KEPT_BYTES:
                self._options.clear()
                self._kept_bytes = template_bytes + other_bytes
            self._options[key] = options
        return options


def _check_parts(chat: Chat, report: Report) -> None:
    for number, message in enumerate(chat.messages):
        for position, (is_json, part) in enumerate(message.parts):
            if is_json and (address := foreign_address(part)):
                report(
                    f"chat.messages[{number}].content[{position}].json", _ADDRESS.format(address), Reason.INVALID_FIELD
                )


def _check_options(options: RequestOptions, report: Report) -> None:
    for field, address in (
        ("extra_json", foreign_address(options.extra_json)),
        ("tools_json", tool_server(options.tools_json)),
        ("response_format_json", foreign_reference(options.response_format_json)),
    ):
        if address:
            report(field, _ADDRESS.format(address), Reason.INVALID_FIELD)


def _largest_part(message: types_pb2.Prompt, content: str | Chat, options: RequestOptions) -> str:
    """The field that makes a prompt as large as it is."""
    sizes = {
        message.WhichOneof("input") or "": utf8_bytes(content),
        "extra_json": len(options.extra_json),
        "tools_json": len(options.tools_json),
        "response_format_json": len(options.response_format_json),
        "sampling.stop": sum(map(len, options.sampling.stop)),
    }
    return max(sizes, key=lambda field: sizes[field])


def _content(message: types_pb2.Prompt, report: Report) -> tuple[str | Chat, bool]:
    kind = message.WhichOneof("input")
    if kind == "text":
        if not message.text:
            report("text", "empty", Reason.INVALID_FIELD)
        return message.text, False
    if kind == "raw_prompt":
        if not message.raw_prompt:
            report("raw_prompt", "empty", Reason.INVALID_FIELD)
        return message.raw_prompt, True
    if kind == "chat":
        if not message.chat.messages:
            report("chat.messages", "at least one message", Reason.INVALID_FIELD)
        return Chat(tuple(_messages(message.chat.messages, report))), False
    report("", "one of text, raw_prompt or chat is required", Reason.INVALID_FIELD)
    return "", False


def _messages(messages: Iterable[types_pb2.ChatMessage], report: Report) -> Iterable[ChatMessage]:
    for number, message in enumerate(messages):
        path = f"chat.messages[{number}]"
        if message.role not in ROLES:
            report(f"{path}.role", f"{message.role[:40]!r} is none of {', '.join(ROLES)}", Reason.INVALID_FIELD)
        if message.tool_calls and message.role != "assistant":
            report(f"{path}.tool_calls", "only with the role assistant", Reason.INVALID_FIELD)
        if bool(message.tool_call_id) != (message.role == "tool"):
            report(f"{path}.tool_call_id", "required with, and only with, the role tool", Reason.INVALID_FIELD)
        parts = []
        for position, part in enumerate(message.content):
            which = part.WhichOneof("part")
            if which is None:
                report(f"{path}.content[{position}]", "one of text or json is required", Reason.INVALID_FIELD)
            elif which == "json":
                parts.append((True, _json(part.json, f"{path}.content[{position}].json", dict, report)))
            else:
                parts.append((False, part.text))
        if not message.content and message.role != "assistant":
            report(f"{path}.content", "empty", Reason.INVALID_FIELD)
        calls = tuple(ToolCall(call.id, call.name, call.arguments) for call in message.tool_calls)
        yield ChatMessage(message.role, tuple(parts), calls, message.tool_call_id, message.name)


def _sampling(message: types_pb2.SamplingParams, report: Report) -> Sampling:
    for field, low, high, allowed in _RANGES:
        if message.HasField(field):  # type: ignore[arg-type]
            value = getattr(message, field)
            if not low <= value <= high or (field == "top_k" and value == 0):
                report(f"sampling.{field}", f"{value} is out of range: {allowed}", Reason.INVALID_FIELD)
    if len(message.stop) > MAX_STOPS or not all(message.stop):
        report("sampling.stop", f"at most {MAX_STOPS} sequences, none empty", Reason.INVALID_FIELD)
    if message.HasField("top_logprobs") and not message.logprobs:
        report("sampling.top_logprobs", "needs sampling.logprobs", Reason.INVALID_FIELD)

    def given(field: str) -> bool:
        return message.HasField(field)  # type: ignore[arg-type]

    return Sampling(
        max_tokens=message.max_tokens if given("max_tokens") else None,
        temperature=message.temperature if given("temperature") else None,
        top_p=message.top_p if given("top_p") else None,
        top_k=message.top_k if given("top_k") else None,
        presence_penalty=message.presence_penalty if given("presence_penalty") else None,
        frequency_penalty=message.frequency_penalty if given("frequency_penalty") else None,
        seed=message.seed if given("seed") else None,
        stop=tuple(message.stop),
        logprobs=message.logprobs if given("logprobs") else None,
        top_logprobs=message.top_logprobs if given("top_logprobs") else None,
    )


def _deadlines(message: types_pb2.Deadlines, report: Report) -> Deadlines:
    values = {}
    for field in ("queue", "first_token", "idle", "attempt", "ttft_target"):
        values[field] = value = duration_ns(getattr(message, field))
        if not 0 <= value <= DAY_NS:
            report(f"deadlines.{field}", "0 to 24 h", Reason.INVALID_FIELD)
    return Deadlines(
        queue_ns=values["queue"],
        first_token_ns=values["first_token"],
        idle_ns=values["idle"],
        attempt_ns=values["attempt"],
        ttft_target_ns=values["ttft_target"],
    )


def _json(text: str, field: str, kind: type[dict[str, object] | list[object]], report: Report) -> str:
    if not text:
        return ""
    wanted = "object" if kind is dict else "array"
    try:
        value = orjson.loads(text)
        if not isinstance(value, kind):
            report(field, f"must be one JSON {wanted}", Reason.INVALID_JSON)
        elif text.count("[") + text.count("{") > MAX_JSON_DEPTH and _too_deep(value):
            report(field, f"is nested more than {MAX_JSON_DEPTH} deep", Reason.INVALID_JSON)
    except orjson.JSONDecodeError as error:
        report(field, f"is not JSON: {error}", Reason.INVALID_JSON)
    return text


def _too_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        within = (child for one in level for child in (one.values() if isinstance(one, dict) else _items(one)))
        level = [child for child in within if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []
