"""Sessions that are read: how many may be at once, whose turn it is, and which idle one goes while others wait.

A session is read all the time, so that cancels arrive, and gRPC takes all of a message that it has begun to read. So
any session may have the largest message on its way at any time, and no reading can be taken back: each has the place of
such a message from its beginning to its end. Until it has one it is not read.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from expresslane import memory
from expresslane.arrivals import Arrivals
from expresslane.clock import Clock, monotonic_ns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from expresslane.errors import RefusedError
    from expresslane.settings import Settings

__all__ = ["Holder", "SessionPlaces", "sessions_limit_bytes"]

LOOK_S = 1.0
"""How often idle sessions are looked for at the least, while others wait and only then."""
LOOK_LEAST_S = 0.001
GOING_S = LOOK_S / 2
"""For so long one that was told to go is counted on. It may take any time, where its caller does not read."""


def sessions_limit_bytes(settings: Settings) -> int:
    """Memory for what may arrive in sessions: as it is set, else half of what there is."""
    return settings.sessions_limit_bytes or memory.usable_bytes() // 2 or settings.arriving_limit_bytes


class Holder(Protocol):
    """A session that has a place."""

    def idle_s(self) -> float:
        """For how long it has said nothing and been owed nothing; 0.0 while something of it is unfinished."""
        ...

    def give_way(self, refusal: RefusedError) -> None:
        """End, with this refusal."""
        ...


class SessionPlaces:
    """So many `places`. Who finds none waits for `timeout_s`, in turn by tenant.

    While any wait, sessions that have been idle for half as long give way, one for each that waits: first those of the
    tenant that has most, of these the one that has been idle longest. Nothing of theirs is lost.
    """

    def __init__(self, places: int, timeout_s: float, *, setting: str = "", clock: Clock = monotonic_ns) -> None:
        self.places = places
        self._idle_s = timeout_s / 2  # so that who comes to an idle one need not wait in vain
        self._turns = Arrivals(places, timeout_s, setting=setting, what="sessions are read", clock=clock)
        self._holders: dict[Holder, str] = {}
        self._going: dict[Holder, float] = {}
        """Those that were told to go, and when, in seconds of the loop."""
        self._timer: asyncio.Handle | None = None

    @property
    def taken(self) -> int:
        """Sessions that are read."""
        return self._turns.taken

    @property
    def waiting(self) -> int:
        """Sessions that are not read yet."""
        return self._turns.waiting

    @asynccontextmanager
    async def hold(self, holder: Holder, whose: str) -> AsyncIterator[None]:
        """A place, from when there is one to the end of the context. Raises RefusedError (ARRIVING_FULL)."""
        if self.taken >= self.places and self._timer is None:
            self._timer = asyncio.get_running_loop().call_soon(self._look)  # once it waits
        async with self._turns.hold(whose):
            self._holders[holder] = whose
            try:
                yield
            finally:
                del self._holders[holder]
                self._going.pop(holder, None)

    def _look(self) -> None:
        """Let idle sessions go, as many as wait; again while any do."""
        self._timer = None
        if not self.waiting:
            return
        loop = asyncio.get_running_loop()
        idle: dict[str, list[tuple[float, Holder]]] = {}
        most: dict[str, int] = {}
        again_s = LOOK_S
        for holder, whose in self._holders.items():
            most[whose] = most.get(whose, 0) + 1
            if holder in self._going or not (idle_s := holder.idle_s()):
                continue
            if idle_s >= self._idle_s:
                idle.setdefault(whose, []).append((idle_s, holder))
            else:
                again_s = min(again_s, self._idle_s - idle_s)
        for ones in idle.values():
            ones.sort(key=lambda one: one[0])
        soon_free = sum(loop.time() - told_s < GOING_S for told_s in self._going.values())
        for _ in range(self.waiting - soon_free):
            if not idle:
                break
            whose = max(idle, key=lambda one: most[one])
            _, holder = idle[whose].pop()
            if not idle[whose]:
                del idle[whose]
            most[whose] -= 1
            self._going[holder] = loop.time()
            holder.give_way(self._turns.full("this one has been idle, and others wait"))
        self._timer = loop.call_later(max(again_s, LOOK_LEAST_S), self._look)
