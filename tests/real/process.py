"""One external server process: started with its output in a log file, awaited until ready, ended by its own pid."""

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

import aiohttp

READY_POLL_S = 0.05
STOP_TIMEOUT_S = 20.0
LOG_TAIL_LINES = 40


class ServerProcessError(Exception):
    """A server ended too early, did not become ready, or did not stop; the message ends with the tail of its log."""


def free_port() -> int:
    """A loopback TCP port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """A child process that serves HTTP. Blocking calls run in a thread: the event loop of a test is never held up."""

    def __init__(self, command: Sequence[str | Path], log_path: Path, environment: Mapping[str, str]) -> None:
        self.command = [str(word) for word in command]
        self.log_path = log_path
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerProcessError(f"not started: {self.command[0]}")
        return self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self, ready_url: str, timeout_s: float) -> None:
        """Start and wait until `ready_url` answers 200. Raises ServerProcessError, and leaves no process then."""
        self._process = await asyncio.to_thread(self._spawn)
        try:
            await self._wait_ready(ready_url, timeout_s)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the process and reap it. One that ignores SIGTERM is killed, and that is an error."""
        if self._process is not None:
            await asyncio.to_thread(self._end, self._process)

    def log_tail(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("wb") as log:
            return subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise self._error(f"did not stop within {STOP_TIMEOUT_S:g} s of SIGTERM") from None

    async def _wait_ready(self, url: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while time.monotonic() < deadline:
                if not self.is_running():
                    raise await asyncio.to_thread(self._error, "ended before it was ready")
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(url) as response:
                        if response.status == HTTPStatus.OK:
                            return
                await asyncio.sleep(READY_POLL_S)
        raise await asyncio.to_thread(self._error, f"not ready within {timeout_s:g} s")

    def _error(self, what: str) -> ServerProcessError:
        return ServerProcessError(f"{Path(self.command[0]).name} {what}; end of {self.log_path}:\n{self.log_tail()}")
