"""Where results go line by line, and which prompts have no success yet (A30)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from expresslane.cli.console import CommandError
from expresslane.cli.result_lines import result_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from expresslane_client import Result

    from expresslane.cli.prompt_file import PromptFile

__all__ = ["ResultFile", "count_lines", "open_output"]

_PENDING, _SUCCEEDED, _FAILED, _BEFORE = range(4)


class ResultFile:
    """Writes each result as it comes and remembers which prompts have succeeded."""

    def __init__(self, prompts: PromptFile, output: str | None, *, mode: str) -> None:
        self._prompts = prompts
        self._ends = bytearray(len(prompts))
        self._file: BinaryIO = sys.stdout.buffer if output is None else open_output(Path(output), mode)
        self.succeeded = 0
        self.failed = 0

    def take_whole(self) -> None:
        """From now on results are those of all lines; of prompts that have succeeded before they are passed over.

        Only before the first result.
        """
        self._prompts.take_whole()
        self._ends = bytearray(len(self._prompts))
        for index in self._prompts.done:
            self._ends[index] = _BEFORE

    @property
    def unfinished(self) -> int:
        """Prompts without a result."""
        return self._ends.count(_PENDING)

    def write(self, result: Result) -> bool:
        """Write a result at once, so that nothing is lost when the process is killed. Raises OSError.

        Returns whether it is new: a prompt that has succeeded before keeps that result.
        """
        if result.index < len(self._ends) and self._ends[result.index] == _BEFORE:
            return False
        self._file.write(result_line(result).encode() + b"\n")
        self._file.flush()
        if result.index >= len(self._ends) or self._ends[result.index] != _PENDING:
            raise CommandError(f"the service sent a result that nobody asked for ({result.custom_id!r})")
        self._ends[result.index] = _SUCCEEDED if result.ok else _FAILED
        if result.ok:
            self.succeeded += 1
        else:
            self.failed += 1
        return True

    @property
    def left(self) -> int:
        """Prompts without success."""
        return sum(end not in (_SUCCEEDED, _BEFORE) for end in self._ends)

    def left_lines(self) -> Iterator[bytes]:
        """The original lines of all prompts without success, in the input's order."""
        left = (index for index, end in enumerate(self._ends) if end not in (_SUCCEEDED, _BEFORE))
        return map(self._prompts.line, left)

    def close(self) -> None:
        """Close the output file."""
        if self._file is not sys.stdout.buffer:
            self._file.close()


def open_output(path: Path, mode: str, *, add: str = "--append") -> BinaryIO:
    """Open the output. A file with results in it is not overwritten unless that was asked for: they were paid for.

    `add` is the option that adds to them.
    """
    if path.is_dir():
        raise CommandError(f"cannot write {path}: it is a folder", "name a file: --output results.jsonl")
    if mode == "refuse" and path.exists() and path.stat().st_size:
        raise CommandError(
            f"{path} already holds results",
            f"add to them:        {add}",
            "throw them away:    --overwrite",
        )
    try:
        return path.open("ab" if mode == "append" else "wb")
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from None


def count_lines(path: Path) -> int:
    """How many whole lines a file has. Raises OSError."""
    with path.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)
