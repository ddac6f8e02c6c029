"""JSON taken apart without re-writing its values."""

from __future__ import annotations

import json

import pytest
from expresslane.cli.raw_json import JsonError, elements, members
from hypothesis import given
from hypothesis import strategies as st

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))


@given(st.dictionaries(st.text(), VALUES, max_size=6), st.sampled_from([None, 2]), st.booleans())
def test_each_member_is_the_text_that_stands_there(
    value: dict[str, object], indent: int | None, ascii_only: bool
) -> None:
    """Whatever the spacing and escaping, every value's text is a slice of the input and has the value."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    found = members(f" {text}\r\n")
    assert {name: json.loads(raw) for name, raw in found.items()} == value
    assert all(raw in text for raw in found.values())


@given(st.lists(VALUES, max_size=6))
def test_each_element_is_the_text_that_stands_there(value: list[object]) -> None:
    """The same for lists."""
    assert [json.loads(raw) for raw in elements(json.dumps(value))] == value


def test_numbers_keep_their_spelling() -> None:
    """1.10 stays 1.10, and integers beyond 2^53 are not rounded."""
    assert members('{"a": 1.10, "b":9007199254740993 ,"c":{"d" : 1e2}}') == {
        "a": "1.10",
        "b": "9007199254740993",
        "c": '{"d" : 1e2}',
    }


BAD = {
    "": 0,
    "[]": 0,
    "{": 1,
    '{"a"}': 4,
    '{"a":}': 5,
    '{"a":1,}': 7,
    '{"a":1 "b":2}': 7,
    '{"a":1} x': 8,
    "{'a':1}": 1,
    '{"a":NaN}': 5,
    '{"a":"\x01"}': 6,
    '{"a":1,"a":2}': 7,
    '{"a":' + "[" * 100_000: 5,
}


@pytest.mark.parametrize(("text", "position"), BAD.items(), ids=[text[:16] for text in BAD])
def test_what_is_not_an_object_is_placed(text: str, position: int) -> None:
    """The error names the character at which it stops making sense."""
    with pytest.raises(JsonError) as caught:
        members(text)
    assert caught.value.position == position
