"""The core's own cycle, measured in Rust by the simulator's core-bench."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, cast

from tests.bench.processes import BenchError

__all__ = ["measure"]

ROOT = Path(__file__).parents[2]
COMMAND = "cargo run --quiet --release --locked -p expresslane-sim -- core-bench --plain"


def measure() -> dict[str, Any]:
    """What core-bench reports for the plain case. Raises BenchError with what cargo said."""
    try:
        done = subprocess.run(COMMAND.split(), cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BenchError("cargo is not there; the core is measured from Rust") from None
    if done.returncode:
        raise BenchError(f"{COMMAND}: exit {done.returncode}\n{done.stderr[-2_000:]}")
    return cast("dict[str, Any]", json.loads(done.stdout.strip().splitlines()[-1]))
