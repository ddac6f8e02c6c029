"""Garbage collector and C allocator, told what only a long-running service knows about its objects."""

from __future__ import annotations

import ctypes
import gc
import sys

__all__ = ["settle"]

# CPython's 700 is passed several times by one turn of the loop under load, each time for nothing: what a prompt needs
# holds no cycles and goes by reference counts. Seldom is enough for the few cycles of failed attempts.
YOUNG_OBJECTS = 10_000

# glibc raises its own threshold when a large block is freed, and keeps the next ones: a batch's message would stay.
MMAP_THRESHOLD_BYTES = 65_536
_M_MMAP_THRESHOLD = -3


def settle() -> None:
    """Call once everything is built: what lives until the end is never looked at again, new objects seldom.

    On Linux with glibc, blocks of 64 KiB and more go back to the system when they are freed.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
