"""The body of a request in Ollama's own dialect, built as bytes from a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from expresslane.backends.json_splice import array, members, splice
from expresslane.errors import BackendError, Reason
from expresslane.prompts import Chat

if TYPE_CHECKING:
    from expresslane.prompts import ChatMessage, Prompt, RequestOptions, Sampling

__all__ = ["build_body"]

_OPTION_NAMES = {
    "max_tokens": "num_predict",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
}
_DATA_URL_MARK = ";base64,"


def build_body(prompt: Prompt, model: str, *, stream: bool) -> bytes:
    """The body for /api/chat, or for /api/generate when the prompt is raw.

    What the prompt leaves unset is not sent. Raises BackendError, which names the field, for what Ollama cannot do.
    """
    options = prompt.options
    typed: dict[str, object] = {"model": model, "stream": stream}
    raw: list[tuple[str, str | bytes]] = []
    content = prompt.content
    if isinstance(content, Chat):
        raw.append(("messages", _messages(content)))
    elif prompt.raw:
        typed |= {"prompt": content, "raw": True}
    else:
        typed["messages"] = [{"role": "user", "content": content}]
    if options.tools_json:
        if prompt.raw:
            raise _unsupported("tools_json", "a raw prompt cannot offer tools")
        raw.append(("tools", options.tools_json))
    if options.response_format_json and (form := _format(options.response_format_json)):
        raw.append(("format", form))
    sampling = _sampling(options.sampling)
    extra = _extra(options, {*typed, *(key for key, _ in raw)}, sampling)
    own_options = splice(sampling, (), extra.pop("options", ""))
    if own_options != b"{}":
        raw.append(("options", own_options))
    return splice(typed, [*raw, *extra.items()])


def _sampling(sampling: Sampling) -> dict[str, object]:
    if sampling.logprobs:
        raise _unsupported("sampling.logprobs", "Ollama's own interface reports no log probabilities")
    if sampling.top_logprobs is not None:
        raise _unsupported("sampling.top_logprobs", "Ollama's own interface reports no log probabilities")
    found: dict[str, object] = {}
    for name, option in _OPTION_NAMES.items():
        value = getattr(sampling, name)
        if value is not None:
            found[option] = value
    if sampling.stop:
        found["stop"] = sampling.stop
    return found


def _extra(options: RequestOptions, taken: set[str], sampling: dict[str, object]) -> dict[str, str]:
    """The members of extra_json. Raises BackendError where one would stand twice in the body."""
    if not options.extra_json:
        return {}
    extra = dict(members(options.extra_json))
    doubled = sorted(taken & extra.keys())
    try:
        doubled += sorted(f"options.{key}" for key, _ in members(extra.get("options", "{}")) if key in sampling)
    except ValueError:
        raise BackendError(
            Reason.INVALID_JSON, "extra_json: `options` is not a JSON object", field="extra_json"
        ) from None
    if doubled:
        raise BackendError(
            Reason.COLLIDING_KEY,
            f"extra_json sets {', '.join(doubled)}, which the service sets for Ollama",
            field="extra_json",
        )
    return extra


def _format(response_format_json: str) -> str:
    """Ollama's `format` for an OpenAI `response_format`; the schema byte for byte. Empty: none."""
    parts = dict(members(response_format_json))
    kind = parts.get("type", "")
    if kind == '"text"':
        return ""
    if kind == '"json_object"':
        return '"json"'
    if kind == '"json_schema"':
        try:
            return dict(members(parts.get("json_schema", "")))["schema"]
        except (ValueError, LookupError):
            raise _unsupported("response_format_json", "a json_schema without a schema") from None
    raise _unsupported("response_format_json", f"a response format of type {kind or 'none'}")


def _messages(chat: Chat) -> bytes:
    """The messages; a tool's answer is given the name of the tool, which Ollama wants instead of the call's id."""
    names: dict[str, str] = {}
    built: list[bytes] = []
    for number, message in enumerate(chat.messages):
        names.update((call.id, call.name) for call in message.tool_calls)
        built.append(_message(message, f"chat.messages[{number}]", names))
    return array(built)


def _message(message: ChatMessage, path: str, names: dict[str, str]) -> bytes:
    text, images = _content(message, path)
    # `developer` is the newer name for the same thing, which Ollama's templates do not know.
    typed: dict[str, object] = {"role": "system" if message.role == "developer" else message.role, "content": text}
    if images:
        typed["images"] = images
    if message.tool_call_id:
        typed["tool_call_id"] = message.tool_call_id
        typed["tool_name"] = message.name or names.get(message.tool_call_id, "")
    raw: list[tuple[str, str | bytes]] = []
    if message.tool_calls:
        calls = []
        for call in message.tool_calls:
            arguments = call.arguments or "{}"
            try:
                members(arguments)
            except ValueError:
                raise _unsupported(f"{path}.tool_calls", "Ollama takes only a JSON object as arguments") from None
            function = splice({"name": call.name}, [("arguments", arguments)])
            calls.append(splice({"id": call.id} if call.id else {}, [("function", function)]))
        raw.append(("tool_calls", array(calls)))
    return splice(typed, raw)


def _content(message: ChatMessage, path: str) -> tuple[str, list[str]]:
    """The text and the images (base64) of a message."""
    texts: list[str] = []
    images: list[str] = []
    for is_json, text in message.parts:
        part = orjson.loads(text) if is_json else {"type": "text", "text": text}
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url" and _DATA_URL_MARK in (url := _image_url(part)):
            images.append(url.partition(_DATA_URL_MARK)[2])
        else:
            raise _unsupported(f"{path}.content", "Ollama takes text and images given as base64 data URLs")
    return "\n".join(texts), images


def _image_url(part: dict[str, object]) -> str:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    return url if isinstance(url, str) and url.startswith("data:") else ""


def _unsupported(field: str, what: str) -> BackendError:
    return BackendError(Reason.UNSUPPORTED, f"{field}: {what}", field=field)
