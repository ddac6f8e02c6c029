"""A caller that stops reading until the service holds its batch, and what it can prove of that from outside."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from expresslane_client import Client, Snapshot

__all__ = ["OUTBOX_BYTES", "SIZE", "SlowReader", "Stall"]

OUTBOX_BYTES = 1024 * 1024
"""What the service is told to hold a batch at: five long answers."""
SIZE = 100
"""Prompts of its call. gRPC takes about twenty long answers (4 MB) before anything stays in the service, the outbox
five more, and what is in flight then still comes."""
BESIDE = 300
"""Results to others in which a tenant with prompts that could run has its turn more than once: a turn of each of the
storm's twenty others is four prompts."""
IDLE_LOOKS = 2
LOOK_S = 0.25
PATIENCE_S = 60.0
READ_S = 0.03
"""Between two results, once it reads on."""


@dataclass(slots=True)
class Stall:
    """Judges by one look at the service after another whether the only call of a tenant is held by its reader.

    It is held when more is unread than its outbox takes and nothing of it runs although prompts of it wait: not while
    BESIDE results come to other callers, or not although nobody else has anything to do.
    """

    tenant: str
    _waiting: int = 0
    _since: int = 0
    _idle: int = 0

    def look(self, now: Snapshot, ended: int) -> bool | None:
        """Whether it is held; None: look again. `ended`: results that other callers have had so far."""
        own = next((one for one in now.tenants if one.tenant == self.tenant), None)
        if own is None or not own.queued:
            return False
        waiting = 0 if own.in_flight or own.holdings.unread_bytes < OUTBOX_BYTES else own.queued
        if not waiting or waiting != self._waiting:
            self._waiting, self._since, self._idle = waiting, ended, 0
            return None
        self._idle = self._idle + 1 if _idle(now) else 0
        return True if ended - self._since >= BESIDE or self._idle >= IDLE_LOOKS else None


def _idle(now: Snapshot) -> bool:
    """Whether nothing runs although a backend would take it, and nothing waits to be tried again."""
    takes = any(one.available and one.limited_by is None for one in now.backends)
    return takes and not now.in_flight and not now.retry_waiting


class SlowReader:
    """The reader of the only call of a tenant. `ended`: asked for the results that other callers have had so far."""

    def __init__(self, client: Client, tenant: str, ended: Callable[[], int]) -> None:
        self._client = client
        self._stall = Stall(tenant)
        self._ended = ended
        self._held: bool | None = None
        self.stopped = asyncio.Event()
        """Set once it has stopped and reads on."""

    async def pause(self) -> bool:
        """Call after each result: reads nothing for a while. Whether the batch has been held.

        After the first one that is until it is held, or nothing of it is left to be held.
        """
        if self._held is None:
            self._held = await self._stop()
            self.stopped.set()
        else:
            await asyncio.sleep(READ_S)
        return self._held

    async def _stop(self) -> bool:
        until = asyncio.get_running_loop().time() + PATIENCE_S
        while (held := self._stall.look(await self._client.get_snapshot(), self._ended())) is None:
            if asyncio.get_running_loop().time() > until:
                return False
            await asyncio.sleep(LOOK_S)
        return held
