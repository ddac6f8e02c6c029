"""The parser of newline-delimited JSON."""

from __future__ import annotations

import orjson
import pytest
from expresslane.backends.ndjson import NdjsonParser
from expresslane.errors import BackendError, Reason
from hypothesis import given
from hypothesis import strategies as st

LIMIT = 1_000_000
values = st.recursive(
    st.none() | st.booleans() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@given(st.lists(values, max_size=6), st.sampled_from([b"\n", b"\r\n", b"\n\n"]), st.booleans(), st.data())
def test_any_chunking_gives_the_same_values(sent: list[object], end: bytes, ended: bool, data: st.DataObject) -> None:
    """What a server writes line by line comes out again, whatever its line ends, chunks and last line."""
    stream = end.join(orjson.dumps(value) for value in sent) + (end if ended else b"")
    parser = NdjsonParser(LIMIT)
    found: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += parser.feed(stream[:size])
        stream = stream[size:]
    assert [orjson.loads(line) for line in found + parser.finish()] == sent


def test_line_is_given_out_with_its_line_feed() -> None:
    """A complete line does not wait for the next one."""
    parser = NdjsonParser(LIMIT)
    assert parser.feed(b'{"a":') == []
    assert parser.feed(b'1}\n{"b"') == [b'{"a":1}']
    assert parser.finish() == [b'{"b"']


def test_line_without_end_is_bounded() -> None:
    """A line that never ends is refused at the limit of an answer, as one that is too large."""
    parser = NdjsonParser(max_line_bytes=1000)
    for _ in range(1000):
        parser.feed(b"x")
    with pytest.raises(BackendError, match="longer than 1000 bytes") as raised:
        parser.feed(b"x")
    assert raised.value.reason is Reason.ANSWER_OVER_LIMIT
