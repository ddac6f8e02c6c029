"""Garbage collector and C allocator, told what only a long-running service knows about its objects."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Collections", "Ebb", "give_back", "resident_bytes", "settle", "usable_bytes"]

# CPython's 700 is passed several times by one turn of the loop under load, each time for nothing: what a prompt needs
# holds no cycles and goes by reference counts. Seldom is enough for the few cycles of failed attempts.
YOUNG_OBJECTS = 10_000

# glibc raises its own threshold when a large block is freed, and keeps the next ones: a batch's message would stay.
MMAP_THRESHOLD_BYTES = 65_536
_M_MMAP_THRESHOLD = -3
_CONTAINER_LIMITS = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of cgroup v2 and v1."""
_STATM = Path("/proc/self/statm")

LOOK_EVERY_S = 5.0
GROWN_BYTES = 16 * 2**20
"""Less is not worth the page faults of the next load."""
FEW = 100
COLLECTION_S = 0.05
"""Longest that a full collection may stop the service, which does nothing else meanwhile: it holds the GIL."""

log = structlog.get_logger(__name__)


class Collections:
    """Full collections of garbage, of processor time that grows with the objects there are, garbage or not.

    After one that took more than `COLLECTION_S` over objects that stay, there is no other until so many have gone that
    it would take less. What garbage adds is paid once, and worth it. CPython's own collections go on: each waits for a
    quarter more objects than its last one left.
    """

    def __init__(
        self,
        *,
        collect: Callable[[], object] = gc.collect,
        blocks: Callable[[], int] = sys.getallocatedblocks,
        processor_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._collect = collect
        self._blocks = blocks  # objects are not counted anywhere, and counting them takes long
        self._processor_s = processor_s
        self._settled_blocks = blocks()
        """Of what is never looked at again."""
        self._s_per_block = 0.0

    def try_one(self) -> bool:
        """Collect if that is short; returns whether it was done. Blocks."""
        blocks = max(1, self._blocks() - self._settled_blocks)
        if self._s_per_block * blocks > COLLECTION_S:
            return False
        begun_s = self._processor_s()
        self._collect()
        took_s = self._processor_s() - begun_s
        left = max(0, self._blocks() - self._settled_blocks)
        s_per_block = took_s / blocks
        self._s_per_block = s_per_block if s_per_block * left > COLLECTION_S else 0.0
        return True


class Ebb:
    """Gives memory back to the system once a flood is over.

    After thousands of calls at once glibc keeps what they took in the arenas of gRPC's threads, and what the calls left
    in reference cycles (each has a few) waits for a full collection, which comes late. `held` says how many calls and
    prompts are open: it is over when that is `FEW`, or a tenth of the most that was seen since the last time. Then
    garbage is collected, unless that takes long for what is held; free memory goes back in any case.

    What stays are arenas of Python's own allocator, of 1 MiB each and nearly empty, which free lists of uvloop, asyncio
    and gRPC keep: about a thousand objects, however many floods. The next one uses them.
    """

    def __init__(self, held: Callable[[], int]) -> None:
        self._held = held
        self._most_held = 0
        self._last_held = 0
        self._left_bytes = 0
        """Least resident since the last time, when what stayed was in use: not tried again before there is more."""

    async def run(self) -> None:
        """Look every 5 s until cancelled; where there is no glibc, return at once."""
        if not _is_glibc():
            return
        self.gave_back(resident_bytes())
        collections = Collections()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self.is_due(before := resident_bytes()):
                collected = await asyncio.to_thread(give_back, collections)
                after = resident_bytes()
                self.gave_back(after)
                log.info("memory given back", before_mib=before >> 20, after_mib=after >> 20, collected=collected)

    def is_due(self, now_bytes: int) -> bool:
        """Whether memory has grown since the last time, and little is open now, no less than at the last look."""
        held, before = self._held(), self._last_held
        self._last_held = held
        self._most_held = max(self._most_held, held)
        self._left_bytes = min(self._left_bytes, now_bytes)
        few = max(FEW, self._most_held // 10)
        return now_bytes >= self._left_bytes + GROWN_BYTES and before <= held <= few

    def gave_back(self, left_bytes: int) -> None:
        """Go by what is left from now on."""
        self._left_bytes = left_bytes
        self._most_held = 0


def give_back(collections: Collections) -> bool:
    """Collect garbage if that is short, let go of names, and let glibc return what is free, without the GIL.

    Returns whether garbage was collected. Blocks. Linux with glibc only.
    """
    collected = collections.try_one()
    _forget_names()
    ctypes.CDLL(None).malloc_trim(0)
    return collected


def _forget_names() -> None:
    """Empty CPython's cache of looked-up attributes, which holds on to each name.

    C code that looks up one by a string made just then (protobuf does for every map field) puts one more there each
    time. A few hundred of them, spread over what a flood took, keep tens of MiB: an arena of Python's allocator goes
    back whole or not at all. The cache fills again at the next look-ups.
    """
    empty = getattr(sys, "_clear_internal_caches", None) or getattr(sys, "_clear_type_cache", None)
    if empty is not None:  # the first from CPython 3.13 on, the second before
        empty()


def resident_bytes() -> int:
    """Of this process; Linux only."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _is_glibc() -> bool:
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


def settle() -> None:
    """Call once everything is built: what lives until the end is never looked at again, new objects seldom.

    On Linux with glibc, blocks of 64 KiB and more go back to the system when they are freed.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    if _is_glibc():
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


def usable_bytes() -> int:
    """Memory of the machine, or of the container where that is less; 0 where it cannot be known."""
    known = []
    with suppress(OSError, ValueError):
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in _CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # where there is none: v2 says "max", v1 more than any machine has
            known.append(int(limit.read_text()))
    return min(known, default=0)
