"""Garbage collector and C allocator, told what only a long-running service knows about its objects."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["settle", "usable_bytes"]

# CPython's 700 is passed several times by one turn of the loop under load, each time for nothing: what a prompt needs
# holds no cycles and goes by reference counts. Seldom is enough for the few cycles of failed attempts.
YOUNG_OBJECTS = 10_000

# glibc raises its own threshold when a large block is freed, and keeps the next ones: a batch's message would stay.
MMAP_THRESHOLD_BYTES = 65_536
_M_MMAP_THRESHOLD = -3
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def settle() -> None:
    """Call once everything is built: what lives until the end is never looked at again, new objects seldom.

    On Linux with glibc, blocks of 64 KiB and more go back to the system when they are freed.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


def usable_bytes() -> int:
    """Memory of the machine, or of the container where that is less; 0 where it cannot be known."""
    known = []
    with suppress(OSError, ValueError):
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):  # "max" where there is no limit
        known.append(int(_CONTAINER_LIMIT.read_text()))
    return min(known, default=0)
