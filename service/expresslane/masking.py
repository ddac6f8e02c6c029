"""Credentials inside text made unreadable: those of URLs by their place, known ones by what they are."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from yarl import URL

from expresslane.path_keys import keys_in_path

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MASK", "SecretCutter", "masked", "masked_url", "url_secrets"]

MASK = "********"
CUT = "[secret]"

_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//\S+", re.IGNORECASE)
_URL_START = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
_KEY_NAME = r"key|token|secret|passw|pwd|sig|auth|code|cred"
_NAMED_LIKE_A_KEY = re.compile(_KEY_NAME, re.IGNORECASE)
_SECRET_QUERY = re.compile(rf"([?&][^=&#?]{{0,64}}(?:{_KEY_NAME})[^=&#?]{{0,64}}=)([^&#\s]*)", re.IGNORECASE)
_HARMLESS_NAMES = frozenset({"alt", "api-version", "v", "version"})
_HARMLESS_VALUE = re.compile(r"[\w.-]{1,24}")
# What is shorter, or a word of JSON, stands in many an answer, which would be unreadable without it.
_SECRET_CHARS_MIN = 8
_NAMED_SECRET_CHARS_MIN = 3
_JSON_WORDS = frozenset({"true", "false", "null"})


def masked(text: str) -> str:
    """Text with credentials inside its URLs hidden, and all that stands like a query and is named like a key."""
    return _SECRET_QUERY.sub(rf"\1{MASK}", _URL.sub(lambda url: masked_url(url[0]), text))


def masked_url(url: str) -> str:
    """A URL, or what was meant as one, with all before its last @ hidden, the values of its query, and its fragment.

    A password may hold what ends an address (`/`, `?`), and the scheme may be forgotten: only the @ says where it ends.
    The values of a few names that hold no secret stay, as `api-version`. Of the path what looks like a key is hidden.
    """
    start, user_info, rest = _user_info(url)
    address, hash_sign, fragment = rest.partition("#")
    place, question_mark, query = address.partition("?")
    return "".join(
        (
            start,
            f"{MASK}@" if user_info is not None else "",
            f"{_masked_path(place)}{question_mark}",
            "&".join(map(_masked_item, query.split("&"))),
            f"{hash_sign}{MASK if fragment else ''}",
        )
    )


def url_secrets(url: str) -> tuple[str, ...]:
    """What the URL of a backend holds that nobody else shall see, as it is written there and as it is sent.

    The password with and without its user (who is the secret where there is no password), and the values of the query,
    but for those that `masked_url` shows and those so short that they could be words of any answer; and what looks like
    a key in the path.
    """
    parts = urlsplit(url)
    found: list[str] = []
    if user_info := parts.netloc.rpartition("@")[0]:
        user, _, password = user_info.partition(":")
        found += [f"{unquote(user)}:{unquote(password)}", password or user, unquote(password or user)]
    sent = URL(url).with_query(URL(url).query).raw_query_string
    for item in f"{parts.query}&{sent}".split("&"):
        name, value = _name_and_value(item)
        if not _is_harmless(name, value) and _can_be_cut(name, value):
            found += [value, unquote(value), unquote_plus(value)]
    for segment in _path_keys(parts.path):
        found += [segment, unquote(segment)]
    return tuple(dict.fromkeys(found))


class SecretCutter:
    """Cuts known secrets out of what others say, in each form in which they may come back."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        # The longest first: a form that holds another is cut whole.
        self._forms = sorted(forms, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without any of the secrets."""
        for form in self._forms:
            text = text.replace(form, CUT)
        return text

    def body(self, body: bytes) -> bytes:
        """The same for bytes, before they are cut to a length: half a secret would not be found."""
        for form in self._forms:
            body = body.replace(form.encode(), CUT.encode())
        return body


def _forms(secret: str) -> set[str]:
    """A secret as it is, inside JSON (with and without escaped slashes), inside a URL, and in Base64."""
    inside_json = json.dumps(secret)[1:-1]
    encoded = base64.b64encode(secret.encode()).decode()
    return {secret, inside_json, inside_json.replace("/", "\\/"), quote(secret, safe=""), encoded}


def _user_info(url: str) -> tuple[str, str | None, str]:
    """What stands before the user information, the user information if there is any, what follows its @."""
    start = match[0] if (match := _URL_START.match(url)) else ""
    user_info, at, rest = url[len(start) :].rpartition("@")
    return start, user_info if at else None, rest


def _masked_path(place: str) -> str:
    """The host, if there is one, and the path behind it."""
    segments = place.split("/")
    shown = [MASK if is_key else segment for segment, is_key in zip(segments, keys_in_path(segments), strict=True)]
    return "/".join([segments[0], *shown[1:]])


def _path_keys(path: str) -> list[str]:
    segments = path.split("/")
    return [segment for segment, is_key in zip(segments, keys_in_path(segments), strict=True) if is_key]


def _masked_item(item: str) -> str:
    name, value = _name_and_value(item)
    if not value or _is_harmless(name, value):
        return item
    return f"{name}={MASK}" if name else MASK


def _name_and_value(item: str) -> tuple[str, str]:
    """Of one item of a query; what has nothing behind its = (Base64 may end in some) is a value without a name."""
    name, _, value = item.partition("=")
    return (name, value) if value.strip("=") else ("", item)


def _is_harmless(name: str, value: str) -> bool:
    return name.lower() in _HARMLESS_NAMES and _HARMLESS_VALUE.fullmatch(value) is not None


def _can_be_cut(name: str, value: str) -> bool:
    least = _NAMED_SECRET_CHARS_MIN if _NAMED_LIKE_A_KEY.search(name) else _SECRET_CHARS_MIN
    return len(value) >= least and value.lower() not in _JSON_WORDS
