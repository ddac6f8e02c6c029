"""Credentials in text: found by their place in a URL, or by what they are, in every form they may come back in."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from expresslane.masking import SecretCutter, masked, query_secrets
from expresslane.settings import Settings

SECRET = 'can/ary+"secret=='


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:word@host/v1", "https://********@host/v1"),
        ("see http://h/p?api_key=abc&v=3 there", "see http://h/p?api_key=********&v=3 there"),
        ("url='http://h/p?sig=abc'", "url='http://h/p?sig=********"),
        ("http://host/v1?version=2", "http://host/v1?version=2"),
    ],
)
def test_credentials_have_places_in_urls(text: str, shown: str) -> None:
    """User information, and query values whose names speak of a key."""
    assert masked(text) == shown


def test_secrets_of_a_query() -> None:
    """Only values that are named like a key."""
    assert query_secrets("https://h/v1?api-key=one&v=3&Token=two&secret=") == ("one", "two")


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET)[1:-1].replace("/", "\\/"),
        quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_known_secret_is_cut_in_every_form(form: str) -> None:
    """As it is, inside JSON, inside a URL, in Base64; in text and in bytes."""
    cutter = SecretCutter([SECRET, ""])
    assert cutter.text(f"before {form} after") == "before [secret] after"
    assert cutter.body(f"before {form} after".encode()) == b"before [secret] after"


def test_nothing_is_cut_where_there_is_no_secret() -> None:
    """An empty key is no secret."""
    assert SecretCutter([""]).text("as it was") == "as it was"


def test_a_repr_of_the_settings_holds_no_secret() -> None:
    """What a traceback or a debugger shows of them: neither keys, nor hashes, nor passwords inside URLs."""
    record = f"sha256:abcdefgh:{'c0ffee' * 10}abcd"
    settings = Settings.model_validate(
        {
            "backends": {"a": {"kind": "vllm", "url": "http://me:canary@h/?key=canary", "api_key": "canary"}},
            "tenants": {"acme": {"keys": record}},
        }
    )
    shown = f"{settings!r} {settings} {settings.backends} {settings.backends['a']}"
    assert "canary" not in shown
    assert "c0ffee" not in shown
    assert "http://********@h/?key=********" in shown
