"""Credentials in text: found by their place in a URL, or by what they are, in every form they may come back in."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from expresslane.masking import SecretCutter, masked, masked_url, url_secrets
from expresslane.settings import Settings
from hypothesis import given
from hypothesis import strategies as st

SECRET = 'can/ary+"secret=='


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:word@host/v1", "https://********@host/v1"),
        ("see http://h/p?api_key=abc&v=3 there", "see http://h/p?api_key=********&v=3 there"),
        ("url='http://h/p?sig=abc'", "url='http://h/p?sig=********"),
        ("http://host/v1?version=2", "http://host/v1?version=2"),
        (
            "http://h/?code=abc&auth=def from http://g/?x=y",
            "http://h/?code=********&auth=******** from http://g/?x=********",
        ),
        ("moved to //me:word@host/p", "moved to //********@host/p"),
        ("moved to /login?next=1&token=abc", "moved to /login?next=1&token=********"),
        ("@cf/meta/llama or org/model@2? a=b", "@cf/meta/llama or org/model@2? a=b"),
    ],
)
def test_credentials_have_places_in_urls(text: str, shown: str) -> None:
    """User information and the values of queries; outside of URLs what is named like a key, and no other text."""
    assert masked(text) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("u:canary@h", "********@h"),
        ("u:canary@h:1/v1", "********@h:1/v1"),
        ("http:/u:canary@h", "********@h"),
        ("http://u:can/ary@h/v1", "http://********@h/v1"),
        ("http://u:can?a=ry@h/v1", "http://********@h/v1"),
        ("http://u:can#ary@h", "http://********@h"),
        ("http://u:c@n@ry@h", "http://********@h"),
        ("http://u:can ary@h", "http://********@h"),
        (" ftp://u:canary@h\n", " ftp://********@h\n"),
        ("h/v1?code=canary", "h/v1?code=********"),
        ("http://h/v1?canary", "http://h/v1?********"),
        ("http://h/v1?code=can ary", "http://h/v1?code=********"),
        ("http://h/v1?code=a?can=ary", "http://h/v1?code=********"),
        ("http://h/v1?a=canary#canary", "http://h/v1?a=********#********"),
        ("http://h/v1?version=canary/canary/canary/canary", "http://h/v1?version=********"),
        (
            "https://h/v1?api-version=2024-08-01-preview&alt=sse&",
            "https://h/v1?api-version=2024-08-01-preview&alt=sse&",
        ),
        ("http://h/v1?canary==", "http://h/v1?********"),
        ("http://h/v1?canary=&=canary", "http://h/v1?********&********"),
        ("http://h:1/v1", "http://h:1/v1"),
        ("", ""),
    ],
)
def test_of_what_was_meant_as_a_url_no_credentials_are_left(url: str, shown: str) -> None:
    """However it is written: without a scheme, with a password that ends an address, with a bare value for a query."""
    assert masked_url(url) == shown
    assert "canary" not in shown


@given(
    st.text(st.sampled_from("ab:/?#[]@&=% "), max_size=20),
    st.sampled_from(["", "http://", "http:/", "https://", "//", " http://"]),
)
def test_nothing_before_the_last_at_is_shown(rest: str, start: str) -> None:
    """Whatever stands there and whatever follows."""
    assert "CANARY" not in masked_url(f"{start}me:{rest}CANARY@{rest.replace('@', '')}")


def test_secrets_of_a_url() -> None:
    """Its password with and without the user, all values of its query; as written, decoded, and as they are sent."""
    assert url_secrets("https://h/v1?api-key=one&v=3&Token=two&secret=") == ("one", "two")
    assert set(url_secrets("https://h/?code=a%2Fb+c%2B")) == {"a%2Fb+c%2B", "a/b+c+", "a/b c+", "a/b+c%2B"}
    assert set(url_secrets("https://h/?x=12345678&Y=QUJDRA==&QUJDREU==")) >= {"12345678", "QUJDRA==", "QUJDREU=="}
    assert url_secrets("https://h/?12345678&api-version=2024-08-01") == ("12345678", "12345678=")
    assert url_secrets("https://me:w%40rd@h/") == ("me:w@rd", "w%40rd", "w@rd")
    assert url_secrets("https://key@h/?mail=me@example.org") == ("key:", "key", "me@example.org")
    assert url_secrets("") == ()


def test_what_could_be_a_word_of_any_answer_is_no_secret() -> None:
    """Errors are read after secrets were cut out of them: `true` and `1` must stay in them."""
    assert url_secrets("https://h/?stream=true&use_key=true&beta=1&sig=12&mode=batch") == ()


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
