"""Addresses inside requests: a backend would go there from where it stands, which callers must not choose (SSRF).

Chats carry images and the like as JSON parts (`image_url`, `file_url`, ...), and extra_json, tools_json and
response_format_json pass to the backend as they are. Engines fetch http, https and, depending on their flags, files of
their own machine; some take peers, ports or paths (`kv_transfer_params`, `bootstrap_host`, `lora_path`), and a schema
may refer to another one. Content goes inside the request, as a `data:` URL or as base64, unless the operator says
otherwise.
"""

from __future__ import annotations

import json
import re

__all__ = ["foreign_address", "foreign_reference", "tool_server"]

SHOWN_CHARS = 40

_URL_KEY = re.compile(r".*ur[li]s?", re.IGNORECASE | re.DOTALL)
_MEDIA_KEY = re.compile(r"(input_)?(image|video|audio|media|file)s?(_data)?", re.IGNORECASE)
_PLACE_KEY = re.compile(r".*_(host|port|path)s?", re.IGNORECASE | re.DOTALL)
_ROUTES = frozenset({"kv_transfer_params", "lora_request"})
"""How engines of a cluster find each other's caches and adapters."""
_BASE64 = re.compile(r"[A-Za-z0-9+/=_\s-]*")
_MAY_HOLD_ONE = re.compile(r"ur[li]|image|video|audio|media|file|_host|_port|_path|_params|lora|ref|\\u", re.IGNORECASE)
_SCHEMAS = frozenset({"parameters", "input_schema", "function"})
"""Parts of a tool in which anything may be called a URL."""


class _Object(tuple[tuple[str, object], ...]):
    """A JSON object as its pairs: of a key that stands there twice, a backend may take the other one."""

    __slots__ = ()


def foreign_address(text: str) -> str:
    """The first place that content or extra_json would send a backend to, cut to 40 characters; else empty.

    That is: text under a key that ends in url or uri and is no `data:` URL; text under image, video, audio, media or
    file that is neither `data:` nor base64; text or a number under a key that ends in _host, _port or _path; anything
    under `kv_transfer_params` or `lora_request`; a `$ref` that leaves its schema. Text that is no JSON, or nested too
    deep, holds none: it is refused for that.
    """
    return _first(_pairs(text))


def foreign_reference(text: str) -> str:
    """The first `$ref` that leaves its schema, cut to 40 characters; else empty."""
    return _first(_pairs(text), only_references=True)


def tool_server(text: str) -> str:
    """The address of a server that a tool names for the backend to call, cut to 40 characters; else empty.

    The parameters of tools are schemas, in which anything may be called a URL: there only references count.
    """
    tools = _pairs(text)
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, _Object):
            own = _Object((key, value) for key, value in tool if key not in _SCHEMAS)
            schemas = [value for key, value in tool if key in _SCHEMAS]
            if found := _first(own) or _first(schemas, only_references=True):
                return found
    return ""


def _first(value: object, *, only_references: bool = False) -> str:
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, list):
            stack += one
        elif isinstance(one, _Object):
            for key, child in one:
                for leaf in child if isinstance(child, list) else (child,):
                    leaves = _refers(key, leaf) if only_references else _refers(key, leaf) or _leads_away(key, leaf)
                    if leaves:
                        return (leaf if isinstance(leaf, str) else key)[:SHOWN_CHARS] or "(empty)"
                stack.append(child)
    return ""


def _refers(key: str, value: object) -> bool:
    return key == "$ref" and isinstance(value, str) and not value.startswith("#")


def _leads_away(key: str, value: object) -> bool:
    if isinstance(value, str) and not _is_data(value):
        if _URL_KEY.fullmatch(key):
            return True
        if _MEDIA_KEY.fullmatch(key) and not _BASE64.fullmatch(value):
            return True
    if key in _ROUTES:
        return value is not None
    scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
    return scalar and _PLACE_KEY.fullmatch(key) is not None


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
