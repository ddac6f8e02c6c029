"""The garbage collector, told what only a long-running service knows about its objects."""

from __future__ import annotations

import gc

__all__ = ["settle"]

# CPython's 700 is passed several times by one turn of the loop under load, each time for nothing: what a prompt needs
# holds no cycles and goes by reference counts. Seldom is enough for the few cycles of failed attempts.
YOUNG_OBJECTS = 10_000


def settle() -> None:
    """Call once everything is built: what lives until the end is never looked at again, and new objects seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
