"""The command as a process: how it ends before and after it does anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from expresslane import __version__
from expresslane.cli import main

if TYPE_CHECKING:
    from pathlib import Path

INTERRUPTED_IN_AN_IMPORT = """
import importlib.abc, os, signal, sys

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "expresslane.cli.parser":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from expresslane.cli import main
sys.exit(main(["version"]))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run Python, with our modules."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)  # noqa: PTH100
    environ = os.environ | {"PYTHONPATH": paths}
    return subprocess.run([sys.executable, *arguments], env=environ, capture_output=True, check=False)


def test_an_interrupt_while_modules_load() -> None:
    """Ctrl-C right after the start ends with exit code 130 and without a word."""
    done = run("-c", INTERRUPTED_IN_AN_IMPORT)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_the_handler_is_put_back(capsys: pytest.CaptureFixture[str]) -> None:
    """Once everything is imported Ctrl-C is the command's own again; --version is short."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"expresslane {__version__}\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_an_output_that_nobody_reads(tmp_path: Path) -> None:
    """`| head` ends a command without a word on standard error."""
    script = tmp_path / "closed.py"
    script.write_text(
        "import os, sys\n"
        "read, write = os.pipe()\n"
        "os.close(read)\n"
        "os.dup2(write, 1)\n"
        "from expresslane.cli import main\n"
        "sys.exit(main(['config', '--reference']))\n"
    )
    done = run(str(script))
    assert (done.returncode, done.stderr) == (1, b"")
