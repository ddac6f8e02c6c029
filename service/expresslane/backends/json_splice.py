"""JSON texts put together byte for byte: what a caller wrote reaches the backend as it was written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["array", "members", "splice"]

_SPACE = " \t\n\r"
_decoder = json.JSONDecoder()


def splice(typed: dict[str, object], raw: Iterable[tuple[str, str | bytes]] = (), extra_json: str = "") -> bytes:
    """One JSON object of typed values, then members whose values are JSON text already, then the members of an object.

    `extra_json` is one JSON object as text, or empty.
    """
    parts = [orjson.dumps(typed)[1:-1]] if typed else []
    for key, value in raw:
        parts.append(orjson.dumps(key) + b":" + (value if isinstance(value, bytes) else value.encode()))
    if extra_json:
        # Never JSON white space inside the outer braces only; what is between the members stays.
        inner = extra_json.strip(_SPACE)[1:-1]
        if inner.strip(_SPACE):
            parts.append(inner.encode())
    return b"{" + b",".join(parts) + b"}"


def array(items: Iterable[bytes]) -> bytes:
    """One JSON array of values that are JSON text already."""
    return b"[" + b",".join(items) + b"]"


def members(object_json: str) -> list[tuple[str, str]]:
    """The members of one JSON object as (key, value's own text), in order, duplicates included.

    Raises ValueError when the text is no JSON object, or one that is nested too deeply to be read.
    """
    try:
        return _members(object_json)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _members(object_json: str) -> list[tuple[str, str]]:
    text = object_json.strip(_SPACE)
    if not text.startswith("{") or not isinstance(json.loads(text), dict):
        raise ValueError("not a JSON object")
    found: list[tuple[str, str]] = []
    at = _skip(text, 1)
    while text[at] != "}":
        key, at = _decoder.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, end = _decoder.raw_decode(text, start)
        found.append((key, text[start:end]))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
