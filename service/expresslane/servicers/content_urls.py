"""URLs inside requests: a backend would fetch them from where it stands, which callers must not choose (SSRF).

Chats carry images and the like as JSON parts (`image_url`, `file_url`, ...), and extra_json and tools_json pass to the
backend as they are. Engines fetch http, https and, depending on their flags, files of their own machine. Content goes
inside the request, as a `data:` URL, unless the operator says otherwise.
"""

from __future__ import annotations

import json
import re

__all__ = ["foreign_url", "tool_server"]

SHOWN_CHARS = 40

_URL_KEY = re.compile(r".*ur[li]s?", re.IGNORECASE | re.DOTALL)
_MAY_HOLD_ONE = re.compile(r"ur[li]|\\u", re.IGNORECASE)


class _Object(tuple[tuple[str, object], ...]):
    """A JSON object as its pairs: of a key that stands there twice, a backend may take the other one."""

    __slots__ = ()


def foreign_url(text: str) -> str:
    """The first value under a key that ends in url or uri that is no `data:` URL, cut to 40 characters; else empty.

    Text that is no JSON, or nested too deep, holds none: it is refused for that.
    """
    stack = [_pairs(text)]
    while stack:
        one = stack.pop()
        if isinstance(one, list):
            stack += one
        elif isinstance(one, _Object):
            for key, child in one:
                for value in child if isinstance(child, list) else (child,):
                    if isinstance(value, str) and _URL_KEY.fullmatch(key) and not _is_data(value):
                        return value[:SHOWN_CHARS] or "(empty)"
                stack.append(child)
    return ""


def tool_server(text: str) -> str:
    """The address of a server that a tool names for the backend to call, cut to 40 characters; else empty.

    Only the tools themselves are looked at: their parameters are schemas, in which anything may be called a URL.
    """
    tools = _pairs(text)
    for tool in tools if isinstance(tools, list) else ():
        for key, value in tool if isinstance(tool, _Object) else ():
            if key == "server_url":
                return str(value)[:SHOWN_CHARS] or "(empty)"
    return ""


def _pairs(text: str) -> object:
    if not _MAY_HOLD_ONE.search(text):
        return None
    try:
        value: object = json.loads(text, object_pairs_hook=_Object)
    except (ValueError, RecursionError):
        return None
    return value


def _is_data(text: str) -> bool:
    return text[:5].lower() == "data:"
