"""What a run prints: progress, tables, and the JSON object at the end."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

__all__ = ["TARGETS", "conditions", "finish", "say", "table"]

TARGETS = {
    "cpu_ratio_batch": 1.8,
    "cpu_ratio_stream": 1.4,  # the worse of the two that follow
    "cpu_ratio_stream_5_segments": 1.4,
    "cpu_ratio_stream_segment_per_event": 1.4,
    "rss_bytes_per_queued_prompt": 3_000,
    "core_cycle_ns_100k": 1_000,
    "poll_ns_per_decision_1000": 1_000,
}
_PACKAGES = ("expresslane", "aiohttp", "grpcio", "protobuf", "uvloop", "orjson", "opentelemetry-sdk")
_ROOT = Path(__file__).parents[2]
_console = Console(highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """A line of progress."""
    _console.print(line)


def table(title: str, rows: dict[str, object]) -> None:
    """A table of names and values."""
    drawn = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows.items():
        drawn.add_row(name, _shown(value))
    _console.print(drawn)


def finish(result: dict[str, Any]) -> None:
    """The summary against the targets, then the JSON object, alone on the last line."""
    rows: dict[str, object] = {}
    for name, target in TARGETS.items():
        if name in result:
            verdict = "met" if result[name] <= target else "MISSED"
            rows[name] = f"{result[name]:,} (at most {target:,}: {verdict})"
    table("targets", rows)
    for name, message in result["failures"].items():
        say(f"NOT MEASURED: {name}: {message}")
    sys.stdout.write(orjson.dumps(result).decode() + "\n")


def conditions(seed: int, settings: dict[str, object]) -> dict[str, object]:
    """Where and with what these numbers came about."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD") + ("+changes" if _git("status", "--porcelain", "-uno") else ""),
        "python": platform.python_version(),
        "loop": "uvloop, in the service and in the bare loop",
        "versions": {name: _version(name) for name in _PACKAGES},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "seed": seed,
        **settings,
    }


def _shown(value: object) -> str:
    if isinstance(value, list) and len(value) == 3:
        low, middle, high = value
        return f"{middle:,} (min {low:,}, max {high:,})"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_shown(part)}" for name, part in value.items())
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if not done.returncode else "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
