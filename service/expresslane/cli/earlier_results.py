"""An output that a run adds to: which prompts have succeeded there, and a last line that was cut off."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["custom_id_digest", "mend_end", "succeeded_in"]


def custom_id_digest(custom_id: str) -> bytes:
    """16 bytes for a custom_id: the same memory for every one, however long that is."""
    return hashlib.blake2b(custom_id.encode(), digest_size=16).digest()


def succeeded_in(path: Path) -> set[bytes]:
    """Digests of the custom_ids with a success in an output; what is no result is passed over. Raises OSError."""
    found: set[bytes] = set()
    if not path.is_file():
        return found
    with path.open("rb") as file:
        for line in file:
            result = _value(line)
            if isinstance(result, dict) and result.get("outcome") == "succeeded":
                custom_id = result.get("custom_id")
                if isinstance(custom_id, str):
                    found.add(custom_id_digest(custom_id))
    return found


def mend_end(path: Path) -> int:
    """Make an output end with a whole line; returns how many bytes of half a line were cut off. Raises OSError.

    A run that was killed may leave half a line, and the next result would be lost in it.
    """
    if not path.is_file():
        return 0
    with path.open("r+b") as file:
        start, last = 0, b""
        for line in file:
            start, last = start + len(last), line
        if not last or last.endswith(b"\n"):
            return 0
        if not last.startswith(b'{"custom_id": ') or _value(last) is not None:
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
            return 0
        file.truncate(start)
        return len(last)


def _value(line: bytes) -> object:
    """The JSON that a line is; None where it is none."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
