"""Files that are read again when they change: certificates and keys."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from expresslane.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Reloader"]

LOOK_EVERY_S = 5.0

log = structlog.get_logger(__name__)

Stamp = tuple[tuple[int, int, int] | None, ...]


class Reloader:
    """Looks every 5 s, and at once when told to, whether files are still the ones that were read.

    `load` blocks, so it runs in a thread. What it refuses (ConfigError) is logged, and what was read before holds on.
    """

    def __init__(self, sources: Sequence[tuple[str, Sequence[str], Callable[[], None]]]) -> None:
        self._sources = [(name, tuple(files), load) for name, files, load in sources if files]
        self._stamps: dict[str, Stamp] = {}
        self._now = asyncio.Event()

    def load(self) -> None:
        """Read everything for the first time; blocking. Raises ConfigError."""
        for name, files, load in self._sources:
            self._stamps[name] = _stamp(files)
            load()

    def look(self) -> None:
        """Look now."""
        self._now.set()

    async def run(self) -> None:
        """Look until cancelled."""
        if not self._sources:
            return
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._now.wait()
            except TimeoutError:
                pass
            self._now.clear()
            await asyncio.to_thread(self.check)

    def check(self) -> None:
        """Read again what has changed; blocking."""
        for name, files, load in self._sources:
            stamp = _stamp(files)
            if stamp == self._stamps.get(name):
                continue
            self._stamps[name] = stamp
            try:
                load()
            except ConfigError as error:
                log.warning("changed files cannot be used, the earlier ones hold on", what=name, error=str(error))
            else:
                log.info("read again", what=name)


def _stamp(files: Sequence[str]) -> Stamp:
    """What tells a file from the one it was; None for one that is not there."""
    stamps: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            status = Path(file).stat()
            stamps.append((status.st_mtime_ns, status.st_size, status.st_ino))
        except OSError:
            stamps.append(None)
    return tuple(stamps)
