"""The example script against a running service."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.e2e.served import Served

SCRIPT = Path(__file__).parents[2] / "examples" / "one_or_many_at_once.sh"
_LINE = re.compile(r"(one at a time|side by side) +(first|second) +waited +(\d+) ms, done after +(\d+) ms")


async def test_one_or_many_at_once(tmp_path: Path) -> None:
    """One at a time, the second prompt waits for the first; side by side it does not (O04, O15)."""
    async with Served(tmp_path) as served:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        script = await asyncio.create_subprocess_exec(
            "bash",
            str(SCRIPT),
            cwd=tmp_path,
            env=os.environ | {"PATH": path, "EXPRESSLANE_ADDRESS": served.address},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await script.communicate()
    assert script.returncode == 0, errors.decode()
    shown = {(how, which): (int(waited), int(done)) for how, which, waited, done in _LINE.findall(output.decode())}
    assert len(shown) == 4, output.decode()
    took_ms = shown["one at a time", "first"][1]
    assert took_ms > 0
    assert shown["one at a time", "second"][0] > 0.7 * took_ms
    assert shown["side by side", "second"][0] < 0.3 * took_ms
