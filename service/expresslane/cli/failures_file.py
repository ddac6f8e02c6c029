"""Where the prompts without success go, so that they can be run again (A30): kept true, never lost to another run."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from expresslane.cli.prompt_lines import custom_id_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["add_failures", "failures_path", "new_failures", "remove_failures", "replace_failures"]

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
    if _is_special(path):
        replace_failures(path, lines)
        return path
    draft = _draft(path, lines)
    return next(one for one in _names(path) if _take(draft, one))


def replace_failures(path: Path, lines: Iterable[bytes]) -> None:
    """Write the lines in the place of what the file holds, which may be where they come from. Raises OSError."""
    if _is_special(path):
        with path.open("wb") as file:
            file.writelines(lines)
    else:
        _draft(path, lines).replace(path)


def add_failures(path: Path, lines: Iterable[bytes], ended: Iterable[str | None]) -> None:
    """Write the lines after those that the file has of other prompts than those with a new end, by their custom_ids.

    A file in which nothing is left goes. Raises OSError.
    """
    if not path.is_file():
        replace_failures(path, lines)
        return
    with path.open("rb") as earlier:
        again = {custom_id_of(line) for line in earlier}.intersection(ended)
        again.discard(None)  # what is no prompt is left as it is
        earlier.seek(0)
        draft = _draft(path, _whole_lines(earlier, again), lines)
    if draft.stat().st_size:
        draft.replace(path)
    else:
        draft.unlink()
        path.unlink()


def remove_failures(path: Path) -> None:
    """Nothing of the file is left to run. Raises OSError."""
    if path.is_file():
        path.unlink()


def _whole_lines(earlier: Iterable[bytes], again: set[str | None]) -> Iterator[bytes]:
    return (line if line.endswith(b"\n") else line + b"\n" for line in earlier if custom_id_of(line) not in again)


def _draft(path: Path, *parts: Iterable[bytes]) -> Path:
    """A file beside it: the input may be the failures file itself, which is replaced once the new one is complete."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    with draft.open("wb") as file:
        for lines in parts:
            file.writelines(lines)
    return draft


def _names(path: Path) -> Iterator[Path]:
    yield path
    for number in count(2):
        name = f"{path.name.removesuffix(_END)}.{number}{_END}" if path.name.endswith(_END) else f"{path.name}.{number}"
        yield path.with_name(name)


def _take(draft: Path, path: Path) -> bool:
    """Give the draft this name, unless something has it: another run may be about to take it too."""
    try:
        os.link(draft, path)
    except OSError:  # the name is taken, or there are no links in this file system
        if path.exists() and path.stat().st_size:
            return False
        draft.replace(path)
    else:
        draft.unlink()
    return True


def _is_special(path: Path) -> bool:
    """Whether it is there and no file, such as /dev/null: that is written to, and not replaced."""
    return path.exists() and not path.is_file()
