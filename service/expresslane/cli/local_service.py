"""A service in a process of its own, on a free port and the simulated backend, for as long as a command needs it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from expresslane.cli.console import CommandError, Exit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["local_service"]

_START_S, _STOP_S, _LOOK_EVERY_S = 30.0, 10.0, 0.05
_LOG_LINES = 20


@asynccontextmanager
async def local_service() -> AsyncIterator[str]:
    """Start a service, yield its address, stop it. Raises CommandError with its log if it does not start."""
    with tempfile.TemporaryDirectory(prefix="expresslane-") as folder:
        ready, log = Path(folder, "address"), Path(folder, "log")
        with log.open("wb") as sink:  # noqa: ASYNC230 - nothing else runs yet
            # A session of its own: Ctrl-C is for us, and we stop it in order.
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "expresslane", "serve"),
                env=_environment(ready),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield await _address(process, ready, log)
        finally:
            await _stop(process)


def _environment(ready: Path) -> dict[str, str]:
    """Ours without any configuration: whatever backends are configured, they get nothing from a demonstration."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("EXPRESSLANE_")}
    own = {"LISTEN": "127.0.0.1:0", "READY_FILE": str(ready), "LOG_LEVEL": "warning", "LOG_FORMAT": "text"}
    return kept | {f"EXPRESSLANE_{name}": value for name, value in own.items()}


async def _address(process: asyncio.subprocess.Process, ready: Path, log: Path) -> str:
    """What the service writes into the file that it was given, as soon as it serves."""
    try:
        async with asyncio.timeout(_START_S):
            while process.returncode is None:
                with suppress(OSError):
                    if address := ready.read_text():  # noqa: ASYNC240 - a few bytes
                        return address
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        wrong = f"the service did not start within {_START_S:g} s"
    else:
        wrong = f"the service ended with exit code {process.returncode} instead of starting"
    text = log.read_text(errors="replace")  # noqa: ASYNC240 - a few lines, and all is over
    lines = text.splitlines()[-_LOG_LINES:]
    raise CommandError(wrong, *(lines or ["it said nothing"]), code=Exit.SERVICE)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()
