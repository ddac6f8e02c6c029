"""The figures of docs/scheduling.md against the simulator: runs the commands that stand with them and compares.

Two kinds of comments in the document, which readers do not see, say what to run:

    <!-- figures: COMMAND | name=value ... -->   below a paragraph or an item of a list, in which each value must stand
    <!-- table: COMMAND -->                      above a table of workloads, a column for each figure

COMMAND is what follows `expresslane-sim`. A figure is the last policy's over the first one's; `s:` before its name
makes it the last one's own, in its unit. It is right when it is the simulator's, rounded to as many decimals as it has.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[1]
_POLICIES = "passthrough,hrrn"
_COLUMNS = {
    "mean": "ttft_mean_s",
    "median": "ttft_p50_s",
    "p99": "ttft_p99_s",
    "short-p99": "short_ttft_p99_s",
    "long-p99": "long_ttft_p99_s",
    "long-max": "long_ttft_max_s",
    "makespan": "makespan_s",
    "overtakes": "overtakes_max",
}
_HEADINGS = {
    "mean": "mean",
    "mean TTFT": "mean",
    "P99": "p99",
    "P99 up to 4,096 tokens": "short-p99",
    "P99 above": "long-p99",
    "P99 above 4,096": "long-p99",
    "makespan": "makespan",
}


@dataclass(frozen=True)
class Figure:
    """One number of the document, and what it says."""

    line: int
    command: str
    name: str
    printed: str


def figures(text: str, recorded: frozenset[str]) -> Iterator[Figure]:
    """All figures that a command stands with. Raises ValueError for a comment that does not fit what is around it."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if comment := re.fullmatch(r"\s*<!-- figures: (.+) \| (.+) -->", line):
            prose = _above(lines, at)
            for entry in comment[2].split():
                name, _, printed = entry.partition("=")
                if not re.search(rf"(?<![\d.,]){re.escape(printed)}(?![\d]|[.,]\d)", prose):
                    raise ValueError(f"line {at + 1}: {printed} is not in what stands above")
                yield Figure(at + 1, comment[1], name, printed)
        elif comment := re.fullmatch(r"<!-- table: (.+) -->", line):
            yield from _of_table(lines, at + 1, comment[1], recorded)
        elif "<!-- figures" in line or "<!-- table" in line:
            raise ValueError(f"line {at + 1}: this comment cannot be read")


def _above(lines: list[str], at: int) -> str:
    """The paragraph or item of a list that ends above, other comments of it left out."""
    start = at
    while start and lines[start - 1].strip() and not lines[start].startswith("- "):
        start -= 1
    return " ".join(line for line in lines[start:at] if "<!--" not in line)


def _of_table(lines: list[str], at: int, command: str, recorded: frozenset[str]) -> Iterator[Figure]:
    headings = _cells(lines[at])[1:]
    for number in range(at + 2, len(lines)):
        if not lines[number].startswith("|"):
            return
        what, *values = _cells(lines[number])
        name, _, chunks = what.replace("`", "").partition(", chunks of ")
        trace = f"TRACES/{name}.csv" if name in recorded else f"synthetic:{name}"
        threshold = f" --threshold {chunks}" if chunks else ""
        for heading, value in zip(headings, values, strict=True):
            if value != "-":
                yield Figure(number + 1, f"{command} --trace {trace}{threshold}", _HEADINGS[heading], value)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def is_right(printed: str, ours: float) -> bool:
    """Whether a number is ours, rounded as it is written."""
    decimals = len(printed.partition(".")[2])
    return abs(float(printed.replace(",", "")) - ours) <= 0.5 * 10.0**-decimals * (1 + 1e-9)


def simulated(command: str, traces: Path | None) -> dict[str, float]:
    """The simulator's figures by name. Raises CalledProcessError when it refuses."""
    words = shlex.split(command.replace("TRACES/", f"{traces}/"))
    if "--policies" not in words:
        words += ["--policies", _POLICIES]
    start = ["cargo", "run", "--quiet", "--release", "--locked", "-p", "expresslane-sim", "--"]
    done = subprocess.run([*start, *words, "--json"], cwd=_ROOT, capture_output=True, text=True, check=True)
    first, *_, last = json.loads(done.stdout)["rows"]
    return _by_name(first, last)


def _by_name(first: dict[str, Any], last: dict[str, Any]) -> dict[str, float]:
    own = {f"s:{name}": last[column] for name, column in _COLUMNS.items() if last[column] is not None}
    return own | {
        name: last[column] / first[column] for name, column in _COLUMNS.items() if first[column] and f"s:{name}" in own
    }


def main() -> int:
    """Compare all of them; those of recorded workloads only where the folder is given. 1 when one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, help="the folder of the recorded workloads")
    parser.add_argument("--document", type=Path, default=_ROOT / "docs/scheduling.md")
    arguments = parser.parse_args()
    traces = arguments.traces.resolve() if arguments.traces else None
    recorded = frozenset(["azure-2023-conv", "mooncake-synthetic", "vtc-lmsys-arena"])
    known: dict[str, dict[str, float]] = {}
    wrong = skipped = right = 0
    for figure in figures(arguments.document.read_text(encoding="utf-8"), recorded):
        if "TRACES/" in figure.command and traces is None:
            skipped += 1
            continue
        if figure.command not in known:
            known[figure.command] = simulated(figure.command, traces)
        ours = known[figure.command][figure.name]
        if is_right(figure.printed, ours):
            right += 1
            continue
        wrong += 1
        sys.stdout.write(
            f"line {figure.line}: {figure.name} {figure.printed}, simulated {ours:.5g}: {figure.command}\n"
        )
    sys.stdout.write(f"{right} figures are right, {wrong} wrong, {skipped} skipped for want of --traces\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
