"""An incremental parser of newline-delimited JSON: bytes in, one line's bytes out."""

from __future__ import annotations

from expresslane.errors import BackendError, Reason

__all__ = ["NdjsonParser"]


class NdjsonParser:
    """Splits one stream into its lines, whatever the chunks it comes in; blank lines give nothing."""

    __slots__ = ("_limit", "_tail")

    def __init__(self, max_line_bytes: int) -> None:
        self._limit = max_line_bytes
        self._tail = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes."""
        tail = self._tail
        if tail:
            tail += chunk
            if b"\n" not in chunk:
                self._check_size()
                return []
            chunk = bytes(tail)
            tail.clear()
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if rest:
            tail += rest
            self._check_size()
        # A carriage return before the line feed is white space to JSON: only a line of nothing else must go.
        return [line for line in lines if line and not line.isspace()]

    def finish(self) -> list[bytes]:
        """What was left at the end of the stream: the last line may lack its line feed."""
        rest = bytes(self._tail)
        self._tail.clear()
        return [rest] if rest and not rest.isspace() else []

    def _check_size(self) -> None:
        if len(self._tail) > self._limit:
            raise BackendError(Reason.ANSWER_OVER_LIMIT, f"a line of the answer is longer than {self._limit} bytes")
