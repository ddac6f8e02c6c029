"""The core's own targets (`scheduler_rs/fuzz`) under cargo-fuzz: stable Rust, so without a sanitizer.

An input that fails is left in `.fuzz/`; `python -m tests.fuzz TARGET --input FILE` runs it again. What is mended stays
as a seed, which `cargo test` plays.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import deque
from pathlib import Path

__all__ = ["CORE_TARGETS", "build", "core_fuzzed", "core_replayed"]

CORE_TARGETS = {"core-events": "events", "core-laws": "laws"}
"""Name: binary. Any bytes as calls of the core; and traces of the adversaries against the naive model."""
ROOT = Path(__file__).resolve().parents[2]
CRATE = ROOT / "scheduler_rs/fuzz"
FOLDER = ROOT / ".fuzz"
LONGEST_BYTES = {"events": 2_000, "laws": 400}
SLOWEST_S = 10
MEMORY_MIB = 1_024
LINES_KEPT = 80
_PROGRESS = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+)")


def build() -> bool:
    """Build the targets, from the committed lock file alone."""
    locked = subprocess.run(
        ["cargo", "fetch", "--quiet", "--locked", "--manifest-path", CRATE / "Cargo.toml"], check=False
    )
    return not locked.returncode and not subprocess.run([*_cargo_fuzz("build")], check=False).returncode


def core_fuzzed(name: str, seconds: int) -> bool:
    """Whether a target held for so long; prints executions and edges covered, and what libFuzzer says of a failure."""
    target = CORE_TARGETS[name]
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": seconds,
        "max_len": LONGEST_BYTES[target],
        # Long inputs from the beginning: a sequence of three calls breaks nothing.
        "len_control": 0,
        "timeout": SLOWEST_S,
        "rss_limit_mb": MEMORY_MIB,
        "artifact_prefix": f"{FOLDER}/{name}-",
    }
    command = [*_cargo_fuzz("run"), target, corpus, CRATE / "seeds" / target]
    command += ["--", *(f"-{key}={value}" for key, value in options.items())]
    runs = edges = 0
    last: deque[str] = deque(maxlen=LINES_KEPT)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as fuzzer:
        assert fuzzer.stderr is not None
        for line in fuzzer.stderr:
            if seen := _PROGRESS.match(line):
                runs, edges = int(seen[1]), int(seen[2])
            else:
                last.append(line)
    print(f"{name}: {runs:,} executions, {edges:,} edges covered", flush=True)  # noqa: T201 - what this command is for
    if fuzzer.returncode:
        sys.stderr.writelines(last)
        print(f"{name} failed; again: python -m tests.fuzz {name} --input FILE (see above)", flush=True)  # noqa: T201
    return not fuzzer.returncode


def core_replayed(name: str, path: Path) -> bool:
    """Whether a target holds for one input."""
    return not subprocess.run([*_cargo_fuzz("run"), CORE_TARGETS[name], path], check=False).returncode


def _cargo_fuzz(verb: str) -> list[str | Path]:
    beside = shutil.which("cargo-fuzz", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("cargo-fuzz")
    if found is None:
        raise SystemExit("cargo-fuzz is not installed: make fuzz, or cargo install cargo-fuzz")
    return [found, "fuzz", verb, "--sanitizer", "none", "--fuzz-dir", CRATE, "--target-dir", ROOT / "target/fuzz"]
