"""The commands of docs/security.md, pasted one after the other into one shell."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
PORT = "50443"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the document makes its certificates with openssl")
async def test_what_the_document_says_works(tmp_path: Path) -> None:
    """Keys are made, used, refused and replaced, then certificates; each command ends as the document says."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    blocks = re.findall(r"```bash\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) >= 5
    commands = "\n".join(blocks).replace(PORT, port)
    (tmp_path / "expresslane").write_text(f'#!/bin/sh\nexec {sys.executable} -m expresslane "$@"\n')
    (tmp_path / "expresslane").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EXPRESSLANE_", "OTEL_"))}
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)  # noqa: PTH100, ASYNC240
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{commands}"),
        cwd=tmp_path,
        env=kept | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": paths},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await shell.communicate()
    assert shell.returncode == 0, errors.decode()
    assert output.decode().count('"outcome": "succeeded"') == 2
    assert "does not let us in: no credentials" in errors.decode()
    assert "this service is for administrators" in errors.decode()
    key = (tmp_path / "secured" / "ops.key").read_text().strip()
    assert key.startswith("xlane_")
    assert key not in (tmp_path / "secured" / "log").read_text()
