"""`python -m expresslane serve` as its own process, its log line by line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Self

import orjson

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Served"]


class Served:
    """`async with Served(tmp_path, EXPRESSLANE_...=...) as served:` waits until the service is ready at `address`."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self._folder = folder
        self.ready_file = folder / "ready"
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("EXPRESSLANE_", "OTEL_"))}
        own = {"EXPRESSLANE_LISTEN": "127.0.0.1:0", "EXPRESSLANE_READY_FILE": str(self.ready_file)}
        self._environ = plain | own | environ
        self.address = ""
        self.log: list[dict[str, Any]] = []
        self.process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        await self.start()
        self.address = str((await self.logged("ready"))["address"])
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()

    async def start(self, stdout: int = asyncio.subprocess.PIPE) -> None:
        """Start the process, in an empty folder so that it is the installed package that runs."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "expresslane", "serve"),
            cwd=self._folder,
            env=self._environ,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )

    async def logged(self, event: str) -> dict[str, Any]:
        """The next log line of that event."""
        while True:
            if (line := await self.next_line(event))["event"] == event:
                return line

    async def next_line(self, wanted: str = "a line") -> dict[str, Any]:
        """The next log line."""
        assert self.process.stdout is not None
        if line := await self.process.stdout.readline():
            self.log.append(orjson.loads(line))
            return self.log[-1]
        _, errors = await self.process.communicate()
        raise AssertionError(f"ended without {wanted!r}: {errors.decode()}")

    async def rest(self) -> None:
        """Read the log to its end, so that a talkative process does not wait for a reader."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.log.append(orjson.loads(line))

    def terminate(self) -> None:
        """Ask it to stop, as an init system does."""
        self.process.send_signal(signal.SIGTERM)

    def resident_bytes(self) -> int:
        """Its resident memory now."""
        with open(f"/proc/{self.process.pid}/statm") as statm:  # noqa: PTH123 - not a file of ours
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")
