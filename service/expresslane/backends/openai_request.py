"""The body of a request in the OpenAI dialect, built as bytes from a prompt."""

from __future__ import annotations

import orjson

from expresslane.backends.json_splice import array, members, splice
from expresslane.errors import BackendError, Reason
from expresslane.prompts import Chat, ChatMessage, Prompt, RequestOptions, Sampling

__all__ = ["OWN_KEYS", "build_body", "colliding_keys", "typed_keys"]

OWN_KEYS = frozenset({"messages", "model", "n", "prompt", "stream", "stream_options"})
"""Keys that are always the service's own, whatever the prompt sets."""

_SAMPLING_KEYS = (
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


def build_body(prompt: Prompt, model: str, *, stream: bool) -> bytes:
    """The body for chat completions, or for completions when the prompt is raw.

    What the prompt leaves unset is not sent. JSON texts of the caller go in byte for byte. Raises BackendError.
    """
    options = prompt.options
    typed: dict[str, object] = {"model": model}
    raw: list[tuple[str, str | bytes]] = []
    content = prompt.content
    if isinstance(content, Chat):
        raw.append(("messages", array([_message(message) for message in content.messages])))
    elif prompt.raw:
        typed["prompt"] = content
    else:
        typed["messages"] = [{"role": "user", "content": content}]
    _add_sampling(typed, options.sampling, completion=prompt.raw)
    if stream:
        typed["stream"] = True
        typed["stream_options"] = {"include_usage": True}
    if options.tools_json:
        if prompt.raw:
            raise BackendError(Reason.UNSUPPORTED, "a raw prompt cannot offer tools", field="tools_json")
        raw.append(("tools", options.tools_json))
    if options.response_format_json:
        raw.append(("response_format", options.response_format_json))
    return splice(typed, raw, options.extra_json)


def typed_keys(options: RequestOptions) -> frozenset[str]:
    """The keys of the body that the typed fields of these options set, and the service's own."""
    sampling = options.sampling
    keys = {name for name in _SAMPLING_KEYS if getattr(sampling, name) is not None}
    if sampling.stop:
        keys.add("stop")
    if options.tools_json:
        keys.add("tools")
    if options.response_format_json:
        keys.add("response_format")
    return OWN_KEYS | keys


def colliding_keys(options: RequestOptions) -> list[str]:
    """The keys of `extra_json` that would stand twice in the body, sorted. Raises ValueError when it is no object."""
    if not options.extra_json:
        return []
    taken = set(typed_keys(options))
    colliding: set[str] = set()
    for key, _ in members(options.extra_json):
        if key in taken:
            colliding.add(key)
        taken.add(key)
    return sorted(colliding)


def _add_sampling(typed: dict[str, object], sampling: Sampling, *, completion: bool) -> None:
    for name in _SAMPLING_KEYS:
        value = getattr(sampling, name)
        if value is not None:
            typed[name] = value
    if sampling.stop:
        typed["stop"] = sampling.stop
    if completion:
        # Completions have one number where chat has a switch and a number.
        wanted, alternatives = typed.pop("logprobs", False), typed.pop("top_logprobs", None)
        if wanted:
            typed["logprobs"] = alternatives or 1


def _message(message: ChatMessage) -> bytes:
    typed: dict[str, object] = {"role": message.role}
    raw: list[tuple[str, str | bytes]] = []
    parts = message.parts
    if not parts:
        typed["content"] = None if message.tool_calls else ""
    elif len(parts) == 1 and not parts[0][0]:
        typed["content"] = parts[0][1]
    else:
        raw.append(("content", array([_part(is_json, text) for is_json, text in parts])))
    if message.name:
        typed["name"] = message.name
    if message.tool_call_id:
        typed["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        typed["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return splice(typed, raw)


def _part(is_json: bool, text: str) -> bytes:
    return text.encode() if is_json else orjson.dumps({"type": "text", "text": text})
