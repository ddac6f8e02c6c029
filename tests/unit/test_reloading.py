"""Files that are read again: only when they have changed, at once when told to, and not when they cannot be used."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from expresslane import reloading
from expresslane.errors import ConfigError
from expresslane.reloading import Reloader
from structlog.testing import capture_logs

if TYPE_CHECKING:
    from pathlib import Path


class Source:
    """One file, and how often it was read."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "file"
        self.file.write_text("one")
        self.texts: list[str] = []
        self.read = asyncio.Event()
        self.reloader = Reloader([("it", [str(self.file)], self.load), ("nothing", [], self.load)])

    def load(self) -> None:
        """Read it; `bad` cannot be used."""
        text = self.file.read_text()
        if text == "bad":
            raise ConfigError("it is bad")
        self.texts.append(text)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A file that was read once."""
    made = Source(tmp_path)
    made.reloader.load()
    return made


def test_a_file_that_has_not_changed_is_not_read_again(source: Source) -> None:
    """Nor is a source without files ever read."""
    source.reloader.check()
    source.reloader.check()
    assert source.texts == ["one"]


def test_a_file_that_has_changed_is_read_again(source: Source) -> None:
    """Once for each change."""
    source.file.write_text("number two")
    source.reloader.check()
    source.reloader.check()
    assert source.texts == ["one", "number two"]


def test_a_file_that_cannot_be_used_is_told_once(source: Source) -> None:
    """Then, when it can be used again, it is read; a file that has gone is a change too."""
    with capture_logs() as lines:
        source.file.write_text("bad")
        source.reloader.check()
        source.reloader.check()
    assert [(line["what"], line["error"]) for line in lines] == [("it", "it is bad")]
    source.file.write_text("good again")
    source.reloader.check()
    assert source.texts == ["one", "good again"]


def test_the_first_reading_must_succeed(tmp_path: Path) -> None:
    """A start with what cannot be used is no start."""
    made = Source(tmp_path)
    made.file.write_text("bad")
    with pytest.raises(ConfigError):
        made.reloader.load()


@pytest.mark.parametrize("told", [True, False])
async def test_it_looks_by_itself_and_when_told(source: Source, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    """Every few seconds, or at once."""
    monkeypatch.setattr(reloading, "LOOK_EVERY_S", 3_600 if told else 0.001)
    loop = asyncio.get_running_loop()

    def announce() -> None:
        loop.call_soon_threadsafe(source.read.set)

    source.reloader = Reloader([("it", [str(source.file)], announce)])
    looking = asyncio.ensure_future(source.reloader.run())
    source.file.write_text("changed")
    if told:
        source.reloader.look()
    await source.read.wait()
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking
