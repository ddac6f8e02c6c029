"""Where results go line by line, and where the prompts without success go so that they can be run again (A30)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from expresslane.cli.console import CommandError
from expresslane.cli.prompt_lines import custom_id_of
from expresslane.cli.result_lines import result_line

if TYPE_CHECKING:
    from expresslane_client import Result

    from expresslane.cli.prompt_file import PromptFile

__all__ = ["ResultFile", "count_lines", "failures_path", "open_output"]

_PENDING, _SUCCEEDED, _FAILED, _BEFORE = range(4)


def failures_path(source: str, output: str | None) -> Path:
    """`<name>.failed.jsonl` next to the output, or else next to the input; the name is without its own `.jsonl`."""
    if output is None and source == "-":
        return Path("expresslane.failed.jsonl")
    base = Path(output if output is not None else source)
    if not base.name:  # `.` or `/`: no file, as opening it will say
        return Path("expresslane.failed.jsonl")
    return base.with_name(f"{base.name.removesuffix('.jsonl').removesuffix('.failed')}.failed.jsonl")


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

    def write_failures(self, path: Path, *, append: bool) -> int:
        """Write the original lines of all prompts without success, in the input's order; returns how many there are.

        With `append` after the lines that the file has of other prompts: those of this input have a new end.
        """
        indexes = [index for index, end in enumerate(self._ends) if end not in (_SUCCEEDED, _BEFORE)]
        if not indexes:
            return 0
        # The input may be the failures file itself: it is replaced only once the new one is complete.
        draft = path.with_name(f".{path.name}.{os.getpid()}.part")
        with draft.open("wb") as file:
            if append and path.exists():
                self._copy_others(path, file)
            for index in indexes:
                file.write(self._prompts.line(index))
        draft.replace(path)
        return len(indexes)

    def _copy_others(self, path: Path, file: BinaryIO) -> None:
        with path.open("rb") as earlier:
            again = {custom_id_of(line) for line in earlier}.intersection(self._prompts.custom_ids())
            again.discard(None)  # what is no prompt is left as it is
            earlier.seek(0)
            for line in earlier:
                if custom_id_of(line) not in again:
                    file.write(line if line.endswith(b"\n") else line + b"\n")

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
