"""Addresses inside requests: a backend would go there from where it stands, which callers must not choose (SSRF).

Chats carry images and the like as JSON parts (`image_url`, `file_url`, ...), and extra_json, tools_json and
response_format_json pass to the backend as they are. Engines fetch http, https and, depending on their flags, files of
their own machine; some take peers, ports or paths (`kv_transfer_params`, `bootstrap_host`, `lora_path`), and a schema
may refer to another one. Engines also take lists in lists where one value would do (a list of images for each prompt),
and a schema as text (`guided_json`, `json_schema`): both are looked through like the plain form. Content goes inside
the request, as a `data:` URL or as base64, unless the operator says otherwise.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["foreign_address", "foreign_reference", "tool_server"]

SHOWN_CHARS = 40
MAX_TEXT_DEPTH = 4
"""How deep JSON may lie in texts of JSON. Each one doubles the backslashes before its quotes: nobody means more."""

_URL_KEY = re.compile(r".*ur[li]s?", re.IGNORECASE | re.DOTALL)
_MEDIA_KEY = re.compile(r"(input_)?(image|video|audio|media|file)s?(_data)?", re.IGNORECASE)
_PLACE_KEY = re.compile(r".*_(host|port|path)s?", re.IGNORECASE | re.DOTALL)
_ROUTES = frozenset({"kv_transfer_params", "lora_request"})
"""How engines of a cluster find each other's caches and adapters."""
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_JPEG = "/9j/"
_PATH_CHARS_MAX = 4_096
"""Longer ones no system opens."""
_MAY_HOLD_ONE = re.compile(
    r"ur[li]|image|video|audio|media|file|_host|_port|_path|_params|lora|ref|\$schema|\\u", re.IGNORECASE
)
_SCHEMA_KEY = re.compile(
    r".*(json|schema|grammar|structural_tag|structured_outputs?|format|parameters|value)s?", re.IGNORECASE | re.DOTALL
)
"""Where engines take a JSON schema, or what holds one, as text too."""
_JSON_TEXT = re.compile(r"[\s\ufeff]*[{\[]")
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})
_KNOWN_SCHEMAS = re.compile(r"https?://json-schema\.org/|#", re.IGNORECASE)
"""What `$schema` may name: validators have the drafts themselves, and fetch any other."""
_SCHEMAS = frozenset({"parameters", "input_schema", "function"})
"""Parts of a tool in which anything may be called a URL."""


class _Object(tuple[tuple[str, object], ...]):
    """A JSON object as its pairs: of a key that stands there twice, a backend may take the other one."""

    __slots__ = ()


# A whole number of thousands of digits is no error here, as it is to int().
_DECODER = json.JSONDecoder(object_pairs_hook=_Object, parse_int=float)


def foreign_address(text: str) -> str:
    """The first place that content or extra_json would send a backend to, cut to 40 characters; else empty.

    That is: text under a key that ends in url or uri and is no `data:` URL; text under image, video, audio, media or
    file that is neither `data:` nor base64 (in fours of characters, and no absolute path); text or a number under a key
    that ends in _host, _port or _path; anything under `kv_transfer_params` or `lora_request`; a reference that leaves
    its schema. A key counts for all in the lists under it. Text that is no JSON, or nested too deep, holds none: it is
    refused for that. Where it stands for a schema nobody else looks, so what cannot be read there is told by its key.
    """
    return _first(_pairs(text))


def foreign_reference(text: str) -> str:
    """The first reference that leaves its schema, cut to 40 characters; else empty.

    `$ref`, `$dynamicRef` and `$recursiveRef` to anything but the schema's own parts, `$schema` but for json-schema.org.
    """
    return _first(_pairs(text), only_references=True)


def tool_server(text: str) -> str:
    """The address of a server that a tool names for the backend to call, cut to 40 characters; else empty.

    The parameters of tools are schemas, in which anything may be called a URL: there only references count.
    """
    stack = [_pairs(text)]
    while stack:
        tool = stack.pop()
        if isinstance(tool, list):
            stack.extend(reversed(tool))
        elif isinstance(tool, _Object):
            own = _Object((key, value) for key, value in tool if key not in _SCHEMAS)
            schemas = _Object((key, value) for key, value in tool if key in _SCHEMAS)
            if found := _first(own) or _first(schemas, only_references=True):
                return found
    return ""


def _first(value: object, *, only_references: bool = False) -> str:
    stack = [_members("", [value], 0)]
    while stack:
        for key, one, text_depth in stack[-1]:
            if isinstance(one, list):
                stack.append(_members(key, one, text_depth))
                break
            if _refers(key, one) or (not only_references and _leads_away(key, one)):
                return (one if isinstance(one, str) else key)[:SHOWN_CHARS] or "(empty)"
            if isinstance(one, _Object):
                stack.append(_members("", one, text_depth))
                break
            if isinstance(one, str) and _is_schema_text(key, one):
                inner = _read(one) if text_depth < MAX_TEXT_DEPTH else None
                if inner is None:
                    return f"{key[:SHOWN_CHARS]} (unreadable)"
                stack.append(_members(key, [inner], text_depth + 1))
                break
        else:
            stack.pop()
    return ""


def _members(key: str, value: list[object] | _Object, text_depth: int) -> Iterator[tuple[str, object, int]]:
    """What is in an object, or in a list and the lists in it under its key; one at a time, for a list may be long."""
    if isinstance(value, _Object):
        return ((name, child, text_depth) for name, child in value)
    counts = _counts(key)
    return ((key, item, text_depth) for item in _unnested(value) if counts or isinstance(item, _Object))


def _unnested(items: list[object]) -> Iterator[object]:
    stack = [iter(items)]
    while stack:
        for item in stack[-1]:
            if isinstance(item, list):
                stack.append(iter(item))
                break
            yield item
        else:
            stack.pop()


def _counts(key: str) -> bool:
    """Whether text or a number under a key may lead away."""
    return (
        key in _ROUTES
        or key in _REFERENCES
        or key == "$schema"
        or any(rule.fullmatch(key) for rule in (_URL_KEY, _MEDIA_KEY, _PLACE_KEY, _SCHEMA_KEY))
    )


def _refers(key: str, value: object) -> bool:
    if not isinstance(value, str):
        return False
    return (key in _REFERENCES and not value.startswith("#")) or (key == "$schema" and not _KNOWN_SCHEMAS.match(value))


def _leads_away(key: str, value: object) -> bool:
    if isinstance(value, str) and not _is_data(value):
        if _URL_KEY.fullmatch(key):
            return True
        if _MEDIA_KEY.fullmatch(key) and not _is_base64(value):
            return True
    if key in _ROUTES:
        return value is not None
    scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
    return scalar and _PLACE_KEY.fullmatch(key) is not None


def _is_base64(text: str) -> bool:
    """Whether it can be: paths are made of the same characters. Of all common formats only JPEG begins with a slash."""
    packed = "".join(text.split())
    if len(packed) % 4 or not _BASE64.fullmatch(packed):
        return False
    return not packed.startswith("/") or packed.startswith(_JPEG) or len(packed) > _PATH_CHARS_MAX


def _is_schema_text(key: str, text: str) -> bool:
    """Whether text stands for a schema, and might refer to something."""
    return bool(_JSON_TEXT.match(text) and _SCHEMA_KEY.fullmatch(key) and _MAY_HOLD_ONE.search(text))


def _pairs(text: str) -> object:
    return _read(text) if _MAY_HOLD_ONE.search(text) else None


def _read(text: str) -> object:
    """The JSON value that a text begins with: what follows it, some parsers do not look at. None: there is none."""
    try:
        value, _ = _DECODER.raw_decode(text.lstrip(" \t\r\n\ufeff"))
    except (ValueError, RecursionError):
        return None
    return value


def _is_data(text: str) -> bool:
    return text[:5].lower() == "data:"
