"""What the engine's own log says of its slots: a witness that nobody in between can influence."""

import re
from typing import TYPE_CHECKING

from .llama_server import LlamaServer

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EngineLog"]

LAUNCH = re.compile(r"slot +launch_slot_: id +\d+ \| task (\d+) \| processing task")
RELEASE = re.compile(r"slot +release: id +\d+ \| task (\d+) \|")


class EngineLog:
    """The lines that an engine writes from now on."""

    def __init__(self, server: LlamaServer) -> None:
        self._path: Path = server.process.log_path
        self._start = self._path.stat().st_size

    def busiest(self) -> int:
        """The most slots that worked at once."""
        working: set[str] = set()
        most = 0
        for line in self._path.read_text(errors="replace")[self._start :].splitlines():
            if launched := LAUNCH.search(line):
                working.add(launched[1])
                most = max(most, len(working))
            elif released := RELEASE.search(line):
                working.discard(released[1])
        return most
