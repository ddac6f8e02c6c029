"""Chat messages in OpenAI's form, turned into the contract's messages without losing anything silently."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from expresslane_client.errors import InputError
from expresslane_client.v1 import types_pb2

__all__ = ["RawJson", "chat_message"]

_KNOWN = frozenset({"role", "content", "tool_calls", "tool_call_id", "name"})


class RawJson(str):
    """A content part as JSON text, passed to the backend byte for byte (numbers keep their spelling)."""

    __slots__ = ()


def chat_message(message: Mapping[str, object], path: str) -> types_pb2.ChatMessage:
    """The contract's message. Raises InputError with the path of whatever the contract cannot carry."""
    if not isinstance(message, Mapping):
        raise InputError('is not an object; example: {"role": "user", "content": "Hi"}', field=path)
    for key in message.keys() - _KNOWN:
        if message[key] is not None:
            raise InputError(f"is not known; known: {', '.join(sorted(_KNOWN))}", field=f"{path}.{key}")
    result = types_pb2.ChatMessage()
    for key in ("role", "tool_call_id", "name"):
        value = message.get(key)
        if value is not None:
            setattr(result, key, _text(value, f"{path}.{key}"))
    if not result.role:
        raise InputError('is missing; example: "user"', field=f"{path}.role")
    _add_content(result, message.get("content"), f"{path}.content")
    _add_tool_calls(result, message.get("tool_calls"), f"{path}.tool_calls")
    return result


def _add_content(result: types_pb2.ChatMessage, content: object, path: str) -> None:
    if content is None:
        return
    if isinstance(content, str) and not isinstance(content, RawJson):
        result.content.add(text=_text(content, path))
        return
    for position, part in enumerate(_sequence(content, path)):
        result.content.append(_part(part, f"{path}[{position}]"))


def _part(part: object, path: str) -> types_pb2.ContentPart:
    if isinstance(part, RawJson):
        return types_pb2.ContentPart(json=_text(part, path))
    if isinstance(part, str):
        return types_pb2.ContentPart(text=_text(part, path))
    if not isinstance(part, Mapping):
        raise InputError('is neither text nor an object; example: {"type": "text", "text": "Hi"}', field=path)
    if part.keys() == {"type", "text"} and part["type"] == "text":
        return types_pb2.ContentPart(text=_text(part["text"], f"{path}.text"))
    return types_pb2.ContentPart(json=_text(json.dumps(part), path))


def _add_tool_calls(result: types_pb2.ChatMessage, calls: object, path: str) -> None:
    if calls is None:
        return
    for position, call in enumerate(_sequence(calls, path)):
        here = f"{path}[{position}]"
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(call, Mapping) or not isinstance(function, Mapping):
            raise InputError(
                'is not a function call; example: {"id": "1", "function": {"name": "f", "arguments": "{}"}}', field=here
            )
        result.tool_calls.add(
            id=_text(call.get("id") or "", f"{here}.id"),
            name=_text(function.get("name") or "", f"{here}.function.name"),
            arguments=_text(function.get("arguments") or "", f"{here}.function.arguments"),
        )


def _sequence(value: object, path: str) -> Sequence[object]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError("is not a list", field=path)
    return value


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"is {type(value).__name__}, not a string", field=path)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError("is not valid Unicode text (a lone surrogate)", field=path) from None
    return str(value)
