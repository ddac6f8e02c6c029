"""Bytes that should be JSON."""

from __future__ import annotations

import pytest
from expresslane.backends.malformed import excerpt, load, load_object
from expresslane.errors import BackendError, Reason

BAD: dict[bytes, str] = {
    b'{"a":': "not JSON",
    b"": "not JSON",
    b"<html>": "not JSON",
    b"NaN": "not JSON",
    b'"\\ud800"': "not JSON",
    b'{"a":"b\xff"}': "invalid UTF-8 at byte 7",
    b'{"a":"\xe6\xbc"}': "invalid UTF-8 at byte 6",
}


@pytest.mark.parametrize("data", BAD)
def test_bad_bytes_are_named(data: bytes) -> None:
    """What is wrong with an answer's bytes is said, with the offset where the UTF-8 breaks."""
    with pytest.raises(BackendError, match=BAD[data]) as raised:
        load(data)
    assert raised.value.reason is Reason.BACKEND_MALFORMED


@pytest.mark.parametrize("data", [b"[]", b"1", b'"x"', b"null"])
def test_only_an_object_is_an_object(data: bytes) -> None:
    """JSON that is no object is malformed where an object is promised."""
    with pytest.raises(BackendError, match="not a JSON object"):
        load_object(data)


def test_excerpt_is_short_and_printable() -> None:
    """An excerpt of hostile bytes is one short printable line."""
    shown = excerpt(b"a\x1b[31m\n\xff" + b"x" * 10_000)
    assert shown.isprintable()
    assert len(shown) < 200
