"""Prompts as a caller writes them, and their way into the contract's messages."""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypedDict, Unpack

from expresslane_client.chats import chat_message
from expresslane_client.errors import InputError
from expresslane_client.units import duration
from expresslane_client.v1 import types_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Deadlines", "Prompt", "PromptClass", "PromptLike", "PromptOptions", "prompt_message", "prompt_messages"]


class PromptClass(StrEnum):
    """Scheduling class: of prompts that could be released now, a higher class goes first."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"


_CLASSES = {
    PromptClass.INTERACTIVE: types_pb2.PROMPT_CLASS_INTERACTIVE,
    PromptClass.STANDARD: types_pb2.PROMPT_CLASS_STANDARD,
    PromptClass.BATCH: types_pb2.PROMPT_CLASS_BATCH,
}


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Deadlines of one prompt in seconds, each at most 24 h; None: the service's configuration holds.

    `ttft_target_s` ends nothing: within which time the first token is wanted, for the policies lars and edf.
    """

    queue_s: float | None = None
    first_token_s: float | None = None
    idle_s: float | None = None
    attempt_s: float | None = None
    ttft_target_s: float | None = None


class PromptOptions(TypedDict, total=False):
    """The keyword arguments of `Prompt` that say how to answer, not what."""

    model: str
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None
    stop: Sequence[str]
    logprobs: bool | None
    top_logprobs: int | None
    extra: str | Mapping[str, object]
    tools: str | Sequence[object]
    response_format: str | Mapping[str, object]
    prompt_class: PromptClass | None
    sequential: bool
    deadlines: Deadlines | None


_SAMPLING = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "logprobs",
    "top_logprobs",
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: `Prompt("a", "Why is the sky blue?")`, or `Prompt.chat("b", [{"role": "user", "content": "Hi"}])`.

    `text` is sent as one user message, or as it is with `raw=True` (a completion without a chat template). A sampling
    parameter left at None is not sent: the backend's own default holds. `extra`, `tools` and `response_format`
    are JSON text, passed to the backend byte for byte, or values that `json.dumps` understands. `sequential`: it starts
    when all earlier prompts of its batch have ended, and later ones wait for its end.
    """

    custom_id: str
    text: str = ""
    _: KW_ONLY
    raw: bool = False
    messages: Sequence[Mapping[str, object]] = ()
    model: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: Sequence[str] = ()
    logprobs: bool | None = None
    top_logprobs: int | None = None
    extra: str | Mapping[str, object] = ""
    tools: str | Sequence[object] = ""
    response_format: str | Mapping[str, object] = ""
    prompt_class: PromptClass | None = None
    sequential: bool = False
    deadlines: Deadlines | None = None

    @classmethod
    def chat(cls, custom_id: str, messages: Sequence[Mapping[str, object]], **options: Unpack[PromptOptions]) -> Prompt:
        """A conversation, in OpenAI's form: mappings with role, content, tool_calls, tool_call_id, name."""
        return cls(custom_id, messages=messages, **options)

    def to_proto(self) -> types_pb2.Prompt:
        """The contract's message. Raises InputError naming the field that cannot be sent."""
        if self.text and self.messages:
            raise InputError("has text and messages: give one of them", field="text", custom_id=self.custom_id)
        message = types_pb2.Prompt()
        fields: dict[str, object] = {"custom_id": self.custom_id, "model": self.model}
        fields |= {} if self.messages else {"raw_prompt" if self.raw else "text": self.text}
        for name, value in fields.items():
            self._set(message, name, value)
        if self.messages:
            self._add_messages(message)
        self._add_sampling(message)
        self._add_json(message)
        if self.prompt_class is not None:
            setattr(message, "class", _CLASSES[PromptClass(self.prompt_class)])
        message.sequential = self.sequential
        if self.deadlines is not None:
            _add_deadlines(message, self.deadlines)
        return message

    def _set(self, message: object, name: str, value: object, path: str = "") -> None:
        try:
            setattr(message, name, value)
        except (TypeError, ValueError) as error:
            raise InputError(_why(value, error), field=path or name, custom_id=self.custom_id) from None

    def _add_messages(self, message: types_pb2.Prompt) -> None:
        for position, one in enumerate(self.messages):
            try:
                message.chat.messages.append(chat_message(one, f"messages[{position}]"))
            except InputError as error:
                raise InputError(error.message, field=error.field, custom_id=self.custom_id) from None

    def _add_sampling(self, message: types_pb2.Prompt) -> None:
        for name in _SAMPLING:
            value = getattr(self, name)
            if value is not None:
                self._set(message.sampling, name, value, f"sampling.{name}")
        if isinstance(self.stop, str):
            raise InputError("is a string: give a list of strings", field="stop", custom_id=self.custom_id)
        if self.stop:
            message.sampling.stop.extend(self.stop)

    def _add_json(self, message: types_pb2.Prompt) -> None:
        for name in ("extra", "tools", "response_format"):
            value = getattr(self, name)
            if value:
                self._set(message, f"{name}_json", value if isinstance(value, str) else json.dumps(value), name)


PromptLike = Prompt | types_pb2.Prompt | str
"""What every call takes for a prompt; a plain string gets its position as custom_id."""


def prompt_message(prompt: PromptLike, position: int = 0) -> types_pb2.Prompt:
    """The contract's message for any way to write a prompt."""
    if isinstance(prompt, str):
        prompt = Prompt(str(position), prompt)
    return prompt if isinstance(prompt, types_pb2.Prompt) else prompt.to_proto()


def prompt_messages(prompts: Iterable[PromptLike]) -> list[types_pb2.Prompt]:
    """The contract's messages for a whole batch."""
    return [prompt_message(prompt, position) for position, prompt in enumerate(prompts)]


def _add_deadlines(message: types_pb2.Prompt, deadlines: Deadlines) -> None:
    for name in ("queue", "first_token", "idle", "attempt", "ttft_target"):
        seconds = getattr(deadlines, f"{name}_s")
        if seconds is not None:
            getattr(message.deadlines, name).CopyFrom(duration(seconds))


def _why(value: object, error: Exception) -> str:
    if isinstance(value, str) and isinstance(error, ValueError):
        return "is not valid Unicode text (a lone surrogate): remove it or replace it by U+FFFD"
    return f"cannot be {value!r} ({error})"
