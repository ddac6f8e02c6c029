"""A prompts file: checked as a whole before anything is sent, then read lazily, so that any length is possible."""

from __future__ import annotations

import re
import sys
import tempfile
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from expresslane.cli.console import CommandError
from expresslane.cli.earlier_results import custom_id_digest
from expresslane.cli.line_error import EXAMPLE, LineError
from expresslane.cli.prompt_lines import custom_id_of, parse_line

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from expresslane_client import Prompt

    from expresslane.cli.prompt_options import Defaults

__all__ = ["Complaint", "InputFileError", "PromptFile"]

COMPLAINTS_MAX = 20
ANSWER_BYTES = 2_048
"""What any answer counts for beside the bytes of its prompt: a few hundred tokens, each dearer than one of a prompt."""
_PROMPT_PATH = re.compile(r"prompts\[(\d+)\]\.?")
_LINE_BYTES_MAX = 64 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong, and where: `file:line` or `file:line:column`."""

    where: str
    error: LineError

    def __str__(self) -> str:
        field = f"{self.error.field}: " if self.error.field else ""
        return f"{self.where}: {field}{self.error.message}"


class InputFileError(Exception):
    """A prompts file that cannot be sent. Nothing was. `count` may be more than the complaints listed."""

    def __init__(self, complaints: list[Complaint], count: int) -> None:
        super().__init__("\n".join(map(str, complaints)))
        self.complaints = complaints
        self.count = count


class PromptFile:
    """An open prompts file. A pipe is copied into a temporary file first, for it is read twice.

    Its prompts are those of all lines, or, after `leave_out_done`, those that have not succeeded before.
    """

    def __init__(self, file: BinaryIO, label: str, defaults: Defaults) -> None:
        self.label = label
        self.size = 0
        self._file = file
        self._defaults = defaults
        self._offsets = array("Q")
        self._line_numbers = array("Q")
        self._sizes = array("Q")
        self._whole = self._offsets, self._line_numbers, self._sizes
        self._done: list[int] = []

    @classmethod
    def open(cls, path: str, defaults: Defaults) -> Self:
        """Open a file, or standard input for `-`. Raises OSError."""
        if path == "-":
            return cls(_copied(sys.stdin.buffer), "<stdin>", defaults)
        file: BinaryIO = Path(path).open("rb")  # noqa: SIM115  # closed by close()
        if not file.seekable():
            with file as pipe:
                file = _copied(pipe)
        return cls(file, path, defaults)

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def done(self) -> Sequence[int]:
        """Which of all lines' prompts have succeeded before, counted from 0."""
        return self._done

    def leave_out_done(self) -> None:
        """Be the prompts that have not succeeded before."""
        done = set(self._done)
        self._offsets, self._line_numbers, self._sizes = (
            array("Q", (value for index, value in enumerate(values) if index not in done)) for values in self._whole
        )

    def take_whole(self) -> None:
        """Be the prompts of all lines again."""
        self._offsets, self._line_numbers, self._sizes = self._whole

    def check(self, succeeded: Container[bytes] = ()) -> None:
        """Read every line. `succeeded` has the digests of custom_ids that have succeeded before.

        Raises InputFileError that lists what is wrong, at most 20 lines of it.
        """
        complaints: list[Complaint] = []
        count = 0
        seen: dict[bytes, int] = {}
        for offset, number, line in self._lines():
            try:
                prompt = self._parse(line)
                digest = self._refuse_duplicate(prompt.custom_id, number, seen)
            except LineError as error:
                count += 1
                if count <= COMPLAINTS_MAX:
                    column = f":{error.column}" if error.column else ""
                    complaints.append(Complaint(f"{self.label}:{number}{column}", error))
                continue
            if digest in succeeded:
                self._done.append(len(self._offsets))
            self._offsets.append(offset)
            self._line_numbers.append(number)
            self._sizes.append(len(line))
        if not self._offsets and not complaints:
            wrong = LineError("has no prompts: put one JSON object on each line")
            complaints = [Complaint(self.label, wrong)]
        if complaints:
            raise InputFileError(complaints, count)

    def prompts(self) -> Iterator[Prompt]:
        """Every prompt in the file's order, read as it is asked for. Only after check(). Raises CommandError."""
        for index in range(len(self)):
            try:
                yield self._parse(self.line(index))
            except LineError as error:
                raise CommandError(f"{self.where(index)} changed while it was read: {error.message}") from None

    def custom_ids(self) -> Iterator[str | None]:
        """Of the prompts of all lines, those that have succeeded before too."""
        return (custom_id_of(line) for _, _, line in self._lines())

    def line(self, index: int) -> bytes:
        """The very bytes of the line that a prompt came from, with a line end."""
        self._file.seek(self._offsets[index])
        line = self._file.readline(_LINE_BYTES_MAX)
        return line if line.endswith(b"\n") else line + b"\n"

    def work(self, index: int) -> int:
        """About how much work a prompt is, to compare it with others of the file: its bytes and those of an answer."""
        return self._sizes[index] + ANSWER_BYTES if index < len(self) else 0

    def where(self, index: int) -> str:
        """`file:line` of a prompt."""
        return f"{self.label}:{self._line_numbers[index]}" if index < len(self) else self.label

    def renamed(self, text: str) -> str:
        """`prompts[3].model` as `prompts.jsonl:4: model`, wherever it stands in a text."""
        return _PROMPT_PATH.sub(lambda match: f"{self.where(int(match.group(1)))}: ", text)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Offset, number from 1 and bytes of every line that is not blank."""
        self._file.seek(0)
        offset, number = 0, 0
        while line := self._file.readline(_LINE_BYTES_MAX):
            number += 1
            start = len(_BOM) if offset == 0 and line.startswith(_BOM) else 0
            if line[start:].strip():
                yield offset + start, number, line[start:]
            offset += len(line)
        self.size = offset

    def _parse(self, line: bytes) -> Prompt:
        if len(line) >= _LINE_BYTES_MAX:
            raise LineError(f"is longer than {_LINE_BYTES_MAX // 1024 // 1024} MiB")
        return parse_line(line, self._defaults)

    @staticmethod
    def _refuse_duplicate(custom_id: str, number: int, seen: dict[bytes, int]) -> bytes:
        digest = custom_id_digest(custom_id)
        first = seen.setdefault(digest, number)
        if first != number:
            example = EXAMPLE.replace('"a"', f'"{custom_id[:40]}-2"', 1)
            raise LineError(f"{custom_id[:80]!r} is taken by line {first}", field="custom_id", example=example)
        return digest


def _copied(source: BinaryIO) -> BinaryIO:
    copy = tempfile.TemporaryFile()  # noqa: SIM115  # closed by PromptFile.close()
    while block := source.read(1024 * 1024):
        copy.write(block)
    copy.seek(0)
    return copy
