"""One HTTP exchange as it passes over the wire: its request, and the moments at which parts of its answer went by."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Exchange"]

HEAD_END = b"\r\n\r\n"


@dataclass(eq=False)
class Exchange:
    """A request and its answer; times are `time.monotonic_ns()`, 0 while it has not happened.

    `content_ns` is the first content that is not empty, `silent_events` counts the events before it. `ended_ns` is the
    `[DONE]` event or the end of the answer. `aborted`: the caller hung up before both. `unheard`: the engine closed the
    connection without a word, as it does when the request met the end of a kept connection.
    """

    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    opened_ns: int = field(default_factory=time.monotonic_ns)
    headers_ns: int = 0
    content_ns: int = 0
    ended_ns: int = 0
    status: int = 0
    silent_events: int = 0
    aborted: bool = False
    unheard: bool = False
    complete: bool = False
    _unread: bytes = b""
    _line: bytes = b""
    _chunked: bool = False
    _left: int = 0

    @property
    def prompt(self) -> str:
        """The text that was sent: the raw prompt, or the messages' contents."""
        if "messages" in self.body:
            return "".join(message["content"] for message in self.body["messages"])
        return str(self.body.get("prompt", ""))

    @property
    def tokens(self) -> int:
        """Tokens of the prompt as the service estimates them at one byte a token."""
        return len(self.prompt.encode())

    @property
    def prefill_end_ns(self) -> int:
        """When the prompt stopped being in prefill for whoever reads the answer."""
        return self.content_ns or self.ended_ns

    def feed(self, data: bytes) -> None:
        """Take in bytes of the answer."""
        self._unread += data
        if not self.headers_ns and not self._read_head():
            return
        while self._unread and not self.complete:
            if self._chunked and not self._left:
                size, newline, rest = self._unread.partition(b"\r\n")
                if not newline:
                    return
                # The chunk's own end of line counts with it; the last chunk's ends the answer.
                self._left, self._unread = int(size, 16) + 2, rest
                self.complete = self._left == 2
                continue
            piece, self._unread = self._unread[: self._left], self._unread[self._left :]
            self._left -= len(piece)
            self._read_lines(piece)
            self.complete = not self._chunked and not self._left
        if self.complete:
            self.end()

    def end(self) -> None:
        """The answer is over; only the first call counts."""
        if not self.ended_ns:
            self.ended_ns = time.monotonic_ns()

    def cut_off(self, *, by_caller: bool) -> None:
        """The connection is closed; that means something only when the answer was not over."""
        if not self.ended_ns:
            self.aborted = by_caller
            self.unheard = not by_caller and not self.headers_ns
        self.end()

    def _read_head(self) -> bool:
        head, end, rest = self._unread.partition(HEAD_END)
        if not end:
            return False
        self.headers_ns = time.monotonic_ns()
        self._unread = rest
        status, _, lines = head.decode().partition("\r\n")
        self.status = int(status.split()[1])
        pairs = (line.partition(":") for line in lines.split("\r\n"))
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        self._chunked = headers.get("transfer-encoding") == "chunked"
        self._left = int(headers.get("content-length", 0))
        self.complete = not self._chunked and not self._left
        return True

    def _read_lines(self, piece: bytes) -> None:
        *lines, self._line = (self._line + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data: [DONE]"):
                self.end()
            elif line.startswith(b"data: ") and not self.content_ns:
                self._read_event(json.loads(line[6:]))

    def _read_event(self, event: dict[str, Any]) -> None:
        choices = event.get("choices") or [{}]
        if (choices[0].get("delta") or {}).get("content") or choices[0].get("text"):
            self.content_ns = time.monotonic_ns()
        else:
            self.silent_events += 1
