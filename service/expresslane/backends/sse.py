"""An incremental parser of server-sent events: bytes in, data payloads out."""

from __future__ import annotations

import re

from expresslane.backends.malformed import malformed
from expresslane.errors import BackendError, Reason

__all__ = ["SseParser"]

_BOM = b"\xef\xbb\xbf"
_FIELD_NAME = re.compile(rb"[A-Za-z_-]{1,32}\Z")


class SseParser:
    """Splits one stream into the data of its events, whatever the chunks it comes in.

    Comments and events without data give nothing. Bytes are not decoded here, so a character may be cut by a chunk.
    What stands before a line that is no field counts, and what follows it does not: `check` after the payloads of each
    chunk raises the error of such a line.
    """

    __slots__ = ("_after_cr", "_fault", "_first", "_limit", "_tail")

    def __init__(self, max_event_bytes: int) -> None:
        self._limit = max_event_bytes
        self._tail = bytearray()
        self._after_cr = False
        self._first = True
        self._fault: BackendError | None = None

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads of all events that this chunk completes, up to a line that is no field."""
        if self._fault is not None:
            return []
        if self._after_cr or b"\r" in chunk:
            chunk = self._with_line_feeds(chunk)
        tail = self._tail
        if tail:
            searched = len(tail) - 1
            tail += chunk
            if tail.find(b"\n\n", searched) < 0:
                self._check_size(tail)
                return []
            chunk = bytes(tail)
            tail.clear()
        complete, _, rest = chunk.rpartition(b"\n\n")
        payloads = complete[6:].split(b"\n\ndata: ")
        # Nearly every event is one line `data: {...}`: then these are the payloads, and no line feed is left in them.
        if complete.startswith(b"data: ") and complete.count(b"\n") == 2 * len(payloads) - 2:
            self._first = False
        else:
            *events, rest = chunk.split(b"\n\n")
            payloads = []
            for event in events:
                self._take_lines(event, payloads)
                self._first = False
                if self._fault is not None:
                    return payloads
        if rest:
            tail += rest
            self._check_size(tail)
        return payloads

    def check(self) -> None:
        """Raise BackendError if a line was no field."""
        if self._fault is not None:
            raise self._fault

    def finish(self) -> list[bytes]:
        """What was left at the end of the stream: some servers leave out the last blank line. Then `check`."""
        payloads: list[bytes] = []
        if self._tail:
            event = bytes(self._tail)
            self._tail.clear()
            before, end, last = event.rpartition(b"\n")
            # Without a colon the last line is cut, not wrong: the stream broke off there.
            self._take_lines(event if b":" in last else before + end, payloads)
        return payloads

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        """The chunk with every line end as a line feed. A pair that is cut by the chunk's end counts once."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_cr = False
        if chunk:
            self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _take_lines(self, event: bytes, payloads: list[bytes]) -> None:
        if self._first:
            event = event.removeprefix(_BOM)
        data: list[bytes] = []
        for line in event.split(b"\n"):
            if not line or line.startswith(b":"):
                continue
            name, colon, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                data.append(value)
            elif name == b"error":
                # Older llama-servers put an error object into a field of its own.
                data.append(b'{"error":' + value + b"}")
            elif not _FIELD_NAME.match(name) or not colon:
                # The standard would skip such a line; from a model's server it is lost text or a lost error.
                self._fault = malformed("a line of the event stream is no field", line)
                return
        if data:
            payloads.append(b"\n".join(data) if len(data) > 1 else data[0])

    def _check_size(self, tail: bytearray) -> None:
        if len(tail) > self._limit:
            raise BackendError(Reason.ANSWER_OVER_LIMIT, f"an event of the answer is longer than {self._limit} bytes")
