"""The command line as a user runs it: a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Done", "Shell", "numbered"]


@dataclass
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Shell:
    """Runs commands in a folder against the service, with `environ` on top of this process's environment."""

    folder: Path
    address: str
    environ: dict[str, str] = field(default_factory=dict)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start a command."""
        pipe = asyncio.subprocess.PIPE
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)  # noqa: PTH100, ASYNC240
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "expresslane", *arguments),
            cwd=self.folder,
            env=os.environ | {"EXPRESSLANE_ADDRESS": self.address, "PYTHONPATH": paths} | self.environ,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )

    async def run(self, *arguments: str, stdin: bytes = b"") -> Done:
        """Run a command to its end."""
        process = await self.start(*arguments)
        out, err = await process.communicate(stdin)
        return Done(process.returncode or 0, out.decode(), err.decode())

    def write(self, name: str, *prompts: dict[str, object]) -> list[bytes]:
        """Write a prompts file; returns its lines."""
        lines = [json.dumps(prompt).encode() + b"\n" for prompt in prompts]
        (self.folder / name).write_bytes(b"".join(lines))
        return lines


def numbered(count: int) -> list[dict[str, object]]:
    """That many prompts."""
    return [{"custom_id": f"p{number}", "prompt": f"text {number}"} for number in range(count)]
