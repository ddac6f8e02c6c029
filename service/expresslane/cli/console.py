"""What all commands share of the terminal: consoles, exit codes, errors with a way out, text that cannot do harm."""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from enum import IntEnum
from typing import TYPE_CHECKING, TextIO

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CommandError", "Exit", "json_text", "one_line", "output", "problem", "report"]


_PIPE_WIDTH = 160


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    PROMPTS_FAILED = 1
    USAGE = 2
    SERVICE = 3
    INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot go on. `hints` say what to do, one a line."""

    def __init__(self, message: str, *hints: str, code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.hints = hints
        self.code = code


def output() -> Console:
    """Standard output, for what a command is asked for. NO_COLOR is honoured; nothing is taken for markup."""
    return _console(sys.stdout)


def report() -> Console:
    """Standard error, for everything else."""
    return _console(sys.stderr)


def _console(file: TextIO) -> Console:
    # A pipe has no width: tables are not squeezed into the 80 columns that rich would assume.
    width = None if file.isatty() or os.environ.get("COLUMNS") else _PIPE_WIDTH
    return Console(file=file, markup=False, highlight=False, emoji=False, width=width)


def problem(error: CommandError) -> Exit:
    """Print what went wrong and what to do; returns the exit code."""
    console = report()
    console.print(f"expresslane: {block(error.message)}", style="red", soft_wrap=True)
    for hint in error.hints:
        console.print(f"  {block(hint)}", soft_wrap=True)
    return error.code


def one_line(text: str, width_max: int = 0) -> str:
    """Text from outside for a line of a terminal: no control characters, no line ends, cut to a width (0: not cut)."""
    cut = bool(width_max) and len(text) > width_max
    shown = "".join(_visible(character) for character in (text[: width_max - 1] if cut else text))
    return f"{shown}…" if cut else shown


def block(text: str) -> str:
    """Text from outside for a terminal, line ends kept."""
    return "\n".join(map(one_line, text.split("\n")))


def json_text(value: object) -> str:
    """One line of JSON that a terminal shows and does not obey: what the JSON rules let through is escaped too."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", json.dumps(value, ensure_ascii=False))


def joined(parts: Iterable[str]) -> str:
    """Parts of a line, empty ones left out."""
    return " · ".join(part for part in parts if part)


_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


def _visible(character: str) -> str:
    if character == "\n":
        return "⏎"
    if character < " ":
        return chr(0x2400 + ord(character))
    if character == "\x7f":
        return "␡"
    return "�" if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or _UNSAFE.match(character) else character
