"""JSON objects and lists taken apart without re-writing their values, so that these can be passed on byte for byte."""

from __future__ import annotations

import json
import re
from typing import NoReturn

__all__ = ["JsonError", "elements", "is_object", "members", "value"]

_SPACE = re.compile(r"[ \t\n\r]*")


class JsonError(Exception):
    """Text that is not the JSON it should be. `position` counts characters from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def is_object(text: str) -> bool:
    """Whether the text starts like a JSON object."""
    return text.lstrip(" \t\n\r").startswith("{")


def value(text: str) -> object:
    """The value of a whole JSON text."""
    found, end = _scan(text, _skip(text, 0))
    _require_end(text, end)
    return found


def members(text: str) -> dict[str, str]:
    """The members of a JSON object, each value as the very text that stands there. A repeated key is an error."""
    result: dict[str, str] = {}
    position = _expect(text, 0, "{", "an opening brace")
    if text[position : position + 1] == "}":
        _require_end(text, position + 1)
        return result
    while True:
        if text[position : position + 1] != '"':
            raise JsonError("a key in double quotes should stand here", position)
        key, end = _scan(text, position)
        if str(key) in result:
            raise JsonError(f"the key {str(key)!r} appears twice", position)
        start = _expect(text, end, ":", "a colon")
        _, end = _scan(text, start)
        result[str(key)] = text[start:end]
        position = _skip(text, end)
        if text[position : position + 1] == "}":
            _require_end(text, position + 1)
            return result
        position = _expect(text, position, ",", "a comma or a closing brace")


def elements(text: str) -> list[str]:
    """The elements of a JSON list, each as the very text that stands there."""
    result: list[str] = []
    position = _expect(text, 0, "[", "an opening bracket")
    if text[position : position + 1] == "]":
        _require_end(text, position + 1)
        return result
    while True:
        _, end = _scan(text, position)
        result.append(text[position:end])
        position = _skip(text, end)
        if text[position : position + 1] == "]":
            _require_end(text, position + 1)
            return result
        position = _expect(text, position, ",", "a comma or a closing bracket")


def _scan(text: str, position: int) -> tuple[object, int]:
    try:
        found: tuple[object, int] = _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        raise JsonError(error.msg, error.pos) from None
    except RecursionError:
        raise JsonError("nested too deeply", position) from None
    except ValueError as error:
        raise JsonError(str(error), position) from None
    return found


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _expect(text: str, position: int, character: str, name: str) -> int:
    """The position of what follows `character`, which has to come next."""
    position = _skip(text, position)
    if text[position : position + 1] != character:
        raise JsonError(f"{name} should stand here", position)
    return _skip(text, position + 1)


def _require_end(text: str, position: int) -> None:
    position = _skip(text, position)
    if position != len(text):
        raise JsonError("something follows the end of the JSON value", position)
