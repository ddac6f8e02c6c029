"""The parser of server-sent events."""

from __future__ import annotations

from itertools import pairwise

import pytest
from expresslane.backends.sse import SseParser
from expresslane.errors import BackendError, Reason
from hypothesis import given
from hypothesis import strategies as st

LIMIT = 1_000_000


def parse(*chunks: bytes) -> list[bytes]:
    """The payloads of a stream that comes in these chunks."""
    parser = SseParser(LIMIT)
    payloads = [payload for chunk in chunks for payload in parser.feed(chunk)] + parser.finish()
    parser.check()
    return payloads


STREAMS: dict[str, tuple[bytes, list[bytes]]] = {
    "one event": (b"data: {}\n\n", [b"{}"]),
    "no space after the colon": (b"data:{}\n\n", [b"{}"]),
    "only one space is stripped": (b"data:  x\n\n", [b" x"]),
    "carriage returns": (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    "carriage return and line feed": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "mixed line ends": (b"data: a\r\n\ndata: b\n\r\ndata: c\r\r\n", [b"a", b"b", b"c"]),
    "data on several lines": (b"data: a\ndata: b\n\n", [b"a\nb"]),
    "comments and keep-alives": (b": ping\n\n:\n\ndata: a\n: in between\n\n", [b"a"]),
    "other fields": (b"event: message\nid: 7\nretry: 10\ndata: a\n\nevent: end\n\n", [b"a"]),
    "more blank lines": (b"\n\n\ndata: a\n\n\n\ndata: b\n\n", [b"a", b"b"]),
    "a byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    "no blank line at the end": (b"data: a\n\ndata: [DONE]", [b"a", b"[DONE]"]),
    "an empty payload": (b"data:\n\n", [b""]),
    "text beyond ASCII": ("data: žluť 漢 🙂\n\n".encode(), ["žluť 漢 🙂".encode()]),
    "an error field": (b'error: {"code":500}\n\n', [b'{"error":{"code":500}}']),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("name", STREAMS)
def test_stream_whole(name: str) -> None:
    """Every way to write a stream gives the payloads that the standard says."""
    stream, expected = STREAMS[name]
    assert parse(stream) == expected


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(0, 80)))
def test_any_chunking_gives_the_same_events(name: str, cuts: list[int]) -> None:
    """Where a stream is cut, be it inside a character or a line's end, changes nothing."""
    stream, expected = STREAMS[name]
    ends = [0, *sorted(cut for cut in cuts if cut <= len(stream)), len(stream)]
    assert parse(*(stream[a:b] for a, b in pairwise(ends))) == expected


@given(st.lists(st.tuples(st.binary(max_size=30), st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=8), st.data())
def test_events_survive_any_writing(events: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """What a server puts into events comes out again, whatever its line ends and chunks."""
    payloads = [payload.replace(b"\r", b"").replace(b"\n", b"") for payload, _ in events]
    stream = b"".join(b"data: " + payload + end + end for payload, (_, end) in zip(payloads, events, strict=True))
    parser = SseParser(LIMIT)
    found: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += parser.feed(stream[:size])
        stream = stream[size:]
    assert found + parser.finish() == payloads


def test_event_is_given_out_with_its_last_byte() -> None:
    """A complete event does not wait for the next one, also where lines end in a carriage return."""
    parser = SseParser(LIMIT)
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\n") == [b"a"]
    assert parser.feed(b"data: b\r\r") == [b"b"]
    assert parser.feed(b"\ndata: c\r\n\r\n") == [b"c"]


@pytest.mark.parametrize("line", [b'{"error":"boom"}', b"<html>", b"garbage", b"\xff\xfe: x"])
def test_line_that_is_no_field_is_refused(line: bytes) -> None:
    """A line that is no field is an error with an excerpt, never skipped text."""
    with pytest.raises(BackendError, match="no field") as raised:
        parse(b"data: a\n\n" + line + b"\n\n")
    assert raised.value.reason is Reason.BACKEND_MALFORMED
    assert not raised.value.retryable


@pytest.mark.parametrize("cut", range(1, 24))
def test_what_stands_before_a_bad_line_counts(cut: int) -> None:
    """Where a stream is cut does not decide what of it counts: a complete answer is not lost to rubbish behind it."""
    stream = b"data: a\n\ngarbage\n\ndata: b\n\n"
    parser = SseParser(LIMIT)
    assert parser.feed(stream[:cut]) + parser.feed(stream[cut:]) + parser.finish() == [b"a"]
    with pytest.raises(BackendError, match="no field"):
        parser.check()


@pytest.mark.parametrize("rest", [b"d", b"data", b"id: 7\ndat", b"\xef\xbb"])
def test_stream_cut_inside_a_name(rest: bytes) -> None:
    """A stream that ends inside a field's name is cut, not malformed."""
    assert parse(b"data: a\n\n" + rest) == [b"a"]


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_event_without_end_is_bounded(size: int) -> None:
    """An event that never ends is refused at the limit of an answer, as one that is too large, whatever the chunks."""
    parser = SseParser(max_event_bytes=1000)
    for _ in range(1000 // size):
        parser.feed(b"x" * size)
    with pytest.raises(BackendError, match="longer than 1000 bytes") as raised:
        parser.feed(b"x" * size)
    assert raised.value.reason is Reason.ANSWER_OVER_LIMIT
