"""Where the prompts without success go, so that they can be run again (A30): kept true, never lost to another run."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from expresslane.cli.prompt_lines import custom_id_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["add_failures", "failures_path", "is_special", "new_failures", "replace_failures"]

_END = ".failed.jsonl"


def failures_path(source: str, output: str | None) -> Path:
    """`<name>.failed.jsonl` next to the output, or else next to the input; the name is without its own `.jsonl`."""
    if output is None and source == "-":
        return Path(f"expresslane{_END}")
    base = Path(output if output is not None else source)
    if not base.name:  # `.` or `/`: no file, as opening it will say
        return Path(f"expresslane{_END}")
    return base.with_name(f"{base.name.removesuffix('.jsonl').removesuffix('.failed')}{_END}")


def new_failures(path: Path, lines: Iterable[bytes]) -> Path:
    """Write the lines to a file of their own, and return which. Raises OSError.

    It is `path`, or the first of `<name>.2.failed.jsonl`, `<name>.3.failed.jsonl` and so on that is free.
    """
    if is_special(path):
        replace_failures(path, lines)
        return path
    for name in _names(path):
        with suppress(FileExistsError), _locked(name, os.O_EXCL) as claimed:
            _put(name, claimed, lines)
            return name
    raise AssertionError("names do not run out")


def replace_failures(path: Path, lines: Iterable[bytes]) -> None:
    """Write the lines in the place of what the file holds, which may be where they come from. Raises OSError."""
    if is_special(path):
        with path.open("wb") as file:
            file.writelines(lines)
    else:
        with _locked(path) as earlier:
            _put(path, earlier, lines)


def add_failures(path: Path, lines: Iterable[bytes], ended: Iterable[str | None]) -> bool:
    """Write the lines after those that the file has of other prompts than those with a new end, by their custom_ids.

    A file in which nothing is left goes; returns whether it has. Raises OSError.
    """
    if is_special(path):
        replace_failures(path, lines)
        return False
    with _locked(path) as earlier:
        again = {custom_id_of(line) for line in earlier}.intersection(ended)
        again.discard(None)  # what is no prompt is left as it is
        earlier.seek(0)
        return not _put(path, earlier, _whole_lines(earlier, again), lines)


def is_special(path: Path) -> bool:
    """Whether it is there and no file, such as /dev/null: that is written to, and not replaced."""
    return path.exists() and not path.is_file()


def _whole_lines(earlier: Iterable[bytes], again: set[str | None]) -> Iterator[bytes]:
    return (line if line.endswith(b"\n") else line + b"\n" for line in earlier if custom_id_of(line) not in again)


def _names(path: Path) -> Iterator[Path]:
    yield path
    for number in count(2):
        name = f"{path.name.removesuffix(_END)}.{number}{_END}" if path.name.endswith(_END) else f"{path.name}.{number}"
        yield path.with_name(name)


@contextmanager
def _locked(path: Path, flags: int = 0) -> Iterator[BinaryIO]:
    """The file of this name, made where there is none, which no other run changes meanwhile. Raises OSError."""
    while True:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CREAT | flags, 0o666), "rb") as file:
            with suppress(OSError):  # a file system may know no locks: better without than lines that are lost
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(path, file):  # else another run has replaced or removed it before the lock was ours
                yield file
                return


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _put(path: Path, locked: BinaryIO, *parts: Iterable[bytes]) -> bool:
    """Replace the locked file, or remove it where no line is left; returns whether there is any.

    The new one is written beside it and takes its name once it is complete: lines may come from the old one.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            with suppress(OSError):  # a file system may know no modes
                os.fchmod(handle, stat.S_IMODE(os.fstat(locked.fileno()).st_mode))
            for lines in parts:
                file.writelines(lines)
            any_left = file.tell() > 0
        if any_left:
            draft.replace(path)
        else:
            path.unlink()
    finally:
        draft.unlink(missing_ok=True)
    return any_left
