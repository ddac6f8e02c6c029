"""`expresslane demo` as a new user runs it: its own service, its own batch, nothing left behind (O04)."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


async def demo(folder: Path, **environ: str) -> asyncio.subprocess.Process:
    """Start the command in an empty folder, its temporary files in there too."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)  # noqa: PTH100, ASYNC240
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "expresslane", "demo"),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths, "TMPDIR": str(folder)} | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


def labels(text: str) -> list[str]:
    """What the lines of the summary are about, up to their first figure."""
    lines = text[text.index(" prompts succeeded") :].splitlines()[1:]
    named = [re.match(r" *([a-z][a-z(),\- ]*?)(  |,? queue wait included$)", line) for line in lines]
    found = [match[1] for match in named if match]
    return found[: found.index("long") + 1]


async def test_the_demo_shows_every_result_and_cleans_up(tmp_path: Path) -> None:
    """24 results with their times, stamped SIMULATED (G22), the short ones first, whatever backends are configured.

    README shows the same lines.
    """
    process = await demo(
        tmp_path, EXPRESSLANE_BACKENDS__REAL__KIND="openai", EXPRESSLANE_BACKENDS__REAL__URL="http://x"
    )
    out, _ = await process.communicate()
    text = out.decode()
    assert process.returncode == 0, text
    rows = re.findall(r"^ *(\d+)  (short|middle|long)-\d+ .* m?s ", text, re.MULTILINE)
    assert len(rows) == 24
    assert (rows[0][1], rows[-1][1]) == ("short", "long")
    assert "SIMULATED" in text
    assert "24 of 24 prompts succeeded" in text
    assert "what to try next" in text
    assert labels(text) == labels(README.read_text())
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - one look


async def test_an_interrupted_demo_stops_its_service(tmp_path: Path) -> None:
    """Ctrl-C ends the demo in good order; its temporary folder is gone, so its service is too."""
    process = await demo(tmp_path)
    assert process.stdout is not None
    while b"the longest first" not in (line := await process.stdout.readline()):
        assert line
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 130
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - one look
