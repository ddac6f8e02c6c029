"""Coverage-guided fuzzing: parsers with atheris, the core with cargo-fuzz; `make fuzz` installs both and runs all.

python -m tests.fuzz [--seconds 60] [TARGET ...]     each target in a process of its own, for its share of the time
python -m tests.fuzz TARGET --input FILE             one input again, as a failed run left it

What was found interesting stays in `.fuzz/TARGET/`, where the next run begins; an input that fails is written beside.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

from tests.fuzz.core import CORE_TARGETS, build, core_fuzzed, core_replayed
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run what was asked for; returns the exit status."""
    known = [*TARGETS, *CORE_TARGETS]
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz parsers, answers and the core.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(known))
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together; default 60")
    parser.add_argument("--input", type=Path, help="run the target on this file only")
    asked = parser.parse_args()
    names = asked.targets or known
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(known)}")
    if asked.input is not None:
        return not all(replayed(name, asked.input) for name in names)
    if any(name in CORE_TARGETS for name in names) and not build():
        return 1
    if any(name in TARGETS for name in names) and importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: make fuzz, or pip install 'atheris>=3.0'")
    share = max(1, asked.seconds // len(names))
    failed = [name for name in names if not fuzzed(name, share)]
    if failed:
        print(f"failed: {', '.join(failed)}; the inputs are in .fuzz/", flush=True)  # noqa: T201
    return bool(failed)


def replayed(name: str, path: Path) -> bool:
    """Whether a target holds for one input; one in Python raises what it found."""
    if name in CORE_TARGETS:
        return core_replayed(name, path)
    TARGETS[name](path.read_bytes())
    return True


def fuzzed(name: str, seconds: int) -> bool:
    """Whether a target held for so long. libFuzzer ends its process, so each has its own."""
    print(f"{name}: {seconds} s", flush=True)  # noqa: T201 - what this command is for
    if name in CORE_TARGETS:
        return core_fuzzed(name, seconds)
    return subprocess.run([sys.executable, "-m", "tests.fuzz.guided", name, str(seconds)], check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
