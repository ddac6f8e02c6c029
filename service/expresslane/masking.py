"""Credentials inside text made unreadable: those of URLs by their place, known ones by what they are."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MASK", "SecretCutter", "masked", "query_secrets"]

MASK = "********"
CUT = "[secret]"

_SECRET_QUERY = re.compile(r"([?&][^=&#]*(?:key|token|secret|password|sig)[^=&#]*=)([^&#\s]*)", re.IGNORECASE)
_USER_INFO = re.compile(r"//[^/?#\s]*@")


def masked(text: str) -> str:
    """Text with credentials inside URLs hidden: user information, and query values named like a key."""
    return _SECRET_QUERY.sub(rf"\1{MASK}", _USER_INFO.sub(f"//{MASK}@", text))


def query_secrets(url: str) -> tuple[str, ...]:
    """The query values of a URL that are named like a key."""
    return tuple(match[2] for match in _SECRET_QUERY.finditer(url) if match[2])


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
