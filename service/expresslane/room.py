"""Who waits for room among the prompts that are held: sessions, whose prompts are kept back and not refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Admit", "Room"]

Admit: TypeAlias = Callable[[], int]
"""Takes in what there is room for now; returns how much that was."""


class Room:
    """Waiters by tenant. Both take turns: whoever got room goes behind the others.

    One tenant's first waiter that finds no room keeps only its own tenant's others waiting, as that may be the tenant's
    own bound.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, dict[Admit, None]] = {}

    def wait(self, tenant: str, admit: Admit) -> None:
        """Call `admit` whenever there may be room; again and again, until it leaves."""
        self._waiting.setdefault(tenant, {}).setdefault(admit)

    def leave(self, tenant: str, admit: Admit) -> None:
        """It need not be called any more."""
        waiting = self._waiting.get(tenant, {})
        waiting.pop(admit, None)
        if not waiting:
            self._waiting.pop(tenant, None)

    def freed(self) -> None:
        """Prompts may have been released or have ended."""
        for tenant in list(self._waiting):
            while waiting := self._waiting.get(tenant):
                admit = next(iter(waiting))
                if not admit():
                    break
                if admit in waiting:
                    waiting[admit] = waiting.pop(admit)
                    self._waiting[tenant] = self._waiting.pop(tenant)
