"""JSON put together byte for byte."""

from __future__ import annotations

import json

import pytest
from expresslane.backends.json_splice import array, members, splice
from hypothesis import given
from hypothesis import strategies as st

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=4), scalars, max_size=3)
objects = st.dictionaries(st.text(max_size=8), values, max_size=5)


@given(objects, st.sampled_from([None, 1]), st.booleans())
def test_members_are_the_object(value: dict[str, object], indent: int | None, ascii_only: bool) -> None:
    """The members of an object are its keys and its values' own text, however it is written."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert {key: json.loads(raw) for key, raw in members(text)} == value
    assert all(raw in text for _, raw in members(text))


@given(objects, objects)
def test_splice_is_one_object(typed: dict[str, object], extra: dict[str, object]) -> None:
    """Spliced parts make one object with the members of all."""
    strings = {key: str(value) for key, value in typed.items() if key.isascii()}
    body = json.loads(splice(dict(strings), [("raw", b"[1.0]")], json.dumps(extra, indent=2)))
    assert body == {**strings, "raw": [1.0], **extra}


def test_duplicates_are_seen() -> None:
    """A key that stands twice is given twice."""
    assert members('{"a":1,"a":2.0}') == [("a", "1"), ("a", "2.0")]


@pytest.mark.parametrize("extra", ["{}", " { } ", "\n{\n}\n", ""])
def test_nothing_extra(extra: str) -> None:
    """An empty object adds nothing, not even a comma."""
    assert splice({"a": 1}, (), extra) == b'{"a":1}'
    assert splice({}, (), extra) == b"{}"


@pytest.mark.parametrize("text", ["", "[]", "1", "{", '{"a"}', '{"a":1}x', "null"])
def test_no_object(text: str) -> None:
    """What is no object has no members."""
    with pytest.raises(ValueError, match=r".*"):
        members(text)


def test_no_object_that_can_be_read() -> None:
    """An object nested too deeply to be read is refused like text that is none, and nothing breaks."""
    with pytest.raises(ValueError, match="nested too deeply"):
        members('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")


def test_array() -> None:
    """An array holds its values' own text."""
    assert array([b"40.0", b'{"b":1, "a":2}']) == b'[40.0,{"b":1, "a":2}]'
    assert array([]) == b"[]"
