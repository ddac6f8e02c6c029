"""The service as its users run it: a process of its own, configured by the environment alone."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["ServiceProcess"]

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.05


class ServiceProcess:
    """`async with ServiceProcess(folder, {...}) as service: ... service.address`; its log is `service.log`.

    Leaving the block sends SIGTERM and waits for the orderly end, which flushes telemetry.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.log = folder / "service.log"
        self._ready = folder / "address"
        mine = {"EXPRESSLANE_LISTEN": "127.0.0.1:0", "EXPRESSLANE_READY_FILE": str(self._ready)}
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("EXPRESSLANE_", "OTEL_"))
        }
        self._environment = {**inherited, **mine, **environment}
        self._process: asyncio.subprocess.Process
        self.address = ""

    async def __aenter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "expresslane", "serve", stdout=log, stderr=log, env=self._environment
            )
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not self.address:
                assert self._process.returncode is None, self.log.read_text()
                await asyncio.sleep(POLL_S)
                self.address = self._ready.read_text() if self._ready.is_file() else ""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        async with asyncio.timeout(STOP_TIMEOUT_S):
            code = await self._process.wait()
        assert code == 0 or kind is not None, self.log.read_text()
