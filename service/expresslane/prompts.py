"""Prompts as the service holds them: plain values copied out of the request, so that its memory can go."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum

__all__ = ["Chat", "ChatMessage", "Deadlines", "Prompt", "PromptClass", "RequestOptions", "Sampling", "ToolCall"]


class PromptClass(IntEnum):
    """Scheduling class, by the number the core uses: a lower one is released first."""

    INTERACTIVE = 0
    STANDARD = 1
    BATCH = 2


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model made: `arguments` is whatever text the model wrote, usually a JSON object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a conversation. `parts`: (is_json, text) pairs; JSON parts go to the backend byte for byte."""

    role: str
    parts: tuple[tuple[bool, str], ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation for the model's chat template, oldest message first."""

    messages: tuple[ChatMessage, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters; None (and an empty `stop`) means: not sent, the backend's own default holds."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Deadlines of one prompt in nanoseconds; 0: the configured one holds.

    `ttft_target_ns` is no deadline that ends anything: within which time from acceptance the first token is wanted.
    """

    queue_ns: int = 0
    first_token_ns: int = 0
    idle_ns: int = 0
    attempt_ns: int = 0
    ttft_target_ns: int = 0


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What prompts of a batch usually have in common, interned so that equal options are held once.

    `template_bytes`: size of what the model reads of them. `other_bytes`: size of the rest that goes to the backend.
    """

    sampling: Sampling = field(default_factory=Sampling)
    extra_json: str = ""
    tools_json: str = ""
    response_format_json: str = ""
    deadlines: Deadlines = field(default_factory=Deadlines)
    template_bytes: int = field(default=0, compare=False)
    other_bytes: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt to run.

    `content` is the user's text (`str` with `raw` false), an untemplated completion (`str` with `raw` true) or a Chat.
    `model` is the name that callers use, already resolved to one that is served. `sequential`: it starts when all
    earlier prompts of its batch have ended, and later ones wait for its end.
    """

    custom_id: str
    model: str
    content: str | Chat
    raw: bool = False
    prompt_class: PromptClass = PromptClass.STANDARD
    options: RequestOptions = field(default_factory=RequestOptions)
    sequential: bool = False

    @property
    def is_text(self) -> bool:
        """Whether all of its content is text."""
        if isinstance(self.content, str):
            return True
        return not any(is_json for message in self.content.messages for is_json, _ in message.parts)

    def with_model(self, model: str) -> Prompt:
        """The same prompt for another model name."""
        return replace(self, model=model)
