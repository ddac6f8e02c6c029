"""Log lines leave through a thread: nobody waits for a reader, and what is lost is counted (A35, T13)."""

from __future__ import annotations

import io
import logging
import threading
from typing import TYPE_CHECKING

import pytest
import structlog
from expresslane.telemetry.log_stream import LogStream
from expresslane.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 20.0


class Pipe(io.StringIO):
    """A stream that takes lines only while somebody reads it, and breaks once its reader has gone."""

    def __init__(self, *, gone: bool = False) -> None:
        super().__init__()
        self.entered, self.reader, self.broke, self.told = (threading.Event() for _ in range(4))
        self.gone = gone

    def write(self, text: str) -> int:
        """Wait for the reader, as a full pipe does."""
        self.entered.set()
        if self.gone:
            self.gone = False
            self.broke.set()
            raise BrokenPipeError
        assert self.reader.wait(PATIENCE_S)
        size = super().write(text)
        if "were lost" in text:
            self.told.set()
        return size


@pytest.fixture
def logs() -> Iterator[None]:
    """The process's own logging is put back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_lines_come_out_whole_and_in_order() -> None:
    """What was written before the end is there after it."""
    out = io.StringIO()
    stream = LogStream(out)
    for number in range(1_000):
        stream.write(f"{number}\n")
    stream.close()
    assert out.getvalue().split() == [str(number) for number in range(1_000)]


@pytest.mark.usefixtures("logs")
def test_a_reader_that_stalls_costs_lines_and_nothing_else() -> None:
    """Writers go on at once, the memory is bounded, and the number of lost lines is told when reading goes on."""
    out = Pipe()
    stream = LogStream(out)
    configure_logs("info", "json", stream)
    stream.write("first\n")
    assert out.entered.wait(PATIENCE_S)
    line = "x" * 1_023 + "\n"
    room = LogStream.LIMIT_CHARS // len(line)
    for _ in range(room + 7):
        stream.write(line)
    out.reader.set()
    assert out.told.wait(PATIENCE_S)
    stream.close()
    assert out.getvalue().count("x" * 1_023) == room
    assert '"lost":7' in out.getvalue()


@pytest.mark.usefixtures("logs")
def test_a_reader_that_has_gone() -> None:
    """A broken pipe raises nowhere, and lines that can be written again are written."""
    out = Pipe(gone=True)
    out.reader.set()
    stream = LogStream(out)
    configure_logs("info", "json", stream)
    stream.write("nobody\n")
    assert out.broke.wait(PATIENCE_S)
    stream.write("somebody\n")
    assert out.told.wait(PATIENCE_S)
    stream.close()
    assert out.getvalue().startswith("somebody\n")
    assert '"lost":1' in out.getvalue()
