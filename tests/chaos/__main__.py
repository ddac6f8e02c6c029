"""`python -m tests.chaos [storm|overload|soak|session]`: progress on standard error, one JSON object on the other."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import orjson

from tests.bench.report import conditions
from tests.chaos.overload import Overload
from tests.chaos.session import LongSession
from tests.chaos.soak import Soak
from tests.chaos.storm import Storm
from tests.chaos.verdict import missed
from tests.chaos.world import say

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for. Exit code 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("what", nargs="?", default="storm", choices=["storm", "overload", "soak", "session"])
    parser.add_argument("--prompts", type=int, default=100_000, help="storm, session: how many")
    parser.add_argument("--misbehave", type=rate, default=0.01, help="storm: part of the callers that leave or cancel")
    parser.add_argument("--cancel-after", type=float, metavar="S", help="storm: when they do; default: as results come")
    parser.add_argument("--seconds", type=float, default=40, help="overload: how long at each load")
    parser.add_argument("--minutes", type=float, default=30, help="soak: how long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the object to this file")
    given = parser.parse_args(arguments)
    result = finished(run(given), given.seed)
    text = orjson.dumps(result).decode()
    if given.json is not None:
        given.json.write_text(text + "\n")
    sys.stdout.write(text + "\n")
    return 1 if result["missed"] else 0


def run(given: argparse.Namespace) -> dict[str, Any]:
    """The experiment that is asked for."""
    match given.what:
        case "overload":
            return Overload(given.seconds, given.seed).run()
        case "soak":
            return Soak(given.minutes, given.seed).run()
        case "session":
            return LongSession(given.prompts, given.seed).run()
        case _:
            return Storm(given.prompts, given.seed, given.misbehave, given.cancel_after).run()


def rate(text: str) -> float:
    """A part of the callers, of whom as many again read slowly. Raises ValueError."""
    if not 0 <= (value := float(text)) <= 0.5:
        raise ValueError(text)
    return value


def finished(result: dict[str, Any], seed: int) -> dict[str, Any]:
    """With the verdict and with where and how the numbers came about."""
    failed = missed(result)
    for line in failed:
        say(f"MISSED: {line}")
    about = conditions(seed, {"loop": "uvloop", **result["conditions"]})
    return {**result, "missed": failed, "conditions": about}


if __name__ == "__main__":
    sys.exit(main())
