"""The log's way out of the process: a thread of its own writes, so that nobody waits for whoever should be reading."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["LogStream"]


class LogStream:
    """Writes lines to `stream` from a thread. What nobody reads is kept up to `LIMIT_CHARS`, then left out and counted.

    A reader that has gone (a closed pipe, a full disk) costs lines, never a call. Start it in the process that logs.
    """

    LIMIT_CHARS = 4 * 1024 * 1024
    CLOSE_S = 1.0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._chars = 0
        self._lost = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Take a line; never waits, never fails. The thread's own line, which tells what was lost, always has room."""
        with self._changed:
            full = self._chars + len(text) > self.LIMIT_CHARS
            if self._closed or (full and threading.current_thread() is not self._thread):
                self._lost += 1
            else:
                self._waiting.append(text)
                self._chars += len(text)
                self._changed.notify()
        return len(text)

    def flush(self) -> None:
        """Nothing to do: the thread flushes what it writes."""

    def isatty(self) -> bool:
        """Whether a person reads along."""
        return self._stream.isatty()

    def close(self) -> None:
        """Write what waits, for at most `CLOSE_S`; lines after that are lost."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(self.CLOSE_S)

    def _run(self) -> None:
        while lines := self._take():
            try:
                self._stream.write(lines)
                self._stream.flush()
            except (OSError, ValueError):  # the reader has gone; ValueError: the stream is closed
                with self._changed:
                    self._lost += lines.count("\n")
                continue
            with self._changed:
                lost, self._lost = self._lost, 0
            if lost:
                structlog.get_logger("expresslane.telemetry").warning(
                    "log lines were lost: nobody read them", lost=lost
                )

    def _take(self) -> str:
        """What waits, as soon as there is something; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            lines = "".join(self._waiting)
            self._waiting.clear()
            self._chars = 0
            return lines
