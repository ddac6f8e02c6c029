"""What the service holds for its callers: prompts that were accepted and have no result yet, in all and by tenant."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from expresslane.variables import environment_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Amount", "Bounds", "Held", "Shortage"]


@dataclass(slots=True)
class Amount:
    """So many, of so many bytes together."""

    count: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that may be held, so many and so many bytes together; 0: no such bound."""

    count: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why more does not fit. `places`: prompts, of any tenant, that must end first; None: it will never fit."""

    message: str
    places: int | None


@dataclass(slots=True)
class Held:
    """Counts what is held. A prompt is one of at least one byte."""

    total: Amount = field(default_factory=Amount)
    _tenants: dict[str, Amount] = field(default_factory=dict)

    def of(self, tenant: str) -> Amount:
        """What is held for one tenant."""
        return self._tenants.get(tenant) or Amount()

    def take(self, tenant: str, prompts: int, size_bytes: int) -> None:
        """Prompts were accepted."""
        own = self._tenants.setdefault(tenant, Amount())
        for amount in (self.total, own):
            amount.count += prompts
            amount.bytes += size_bytes
        self._forget(tenant)

    def give_back(self, tenant: str, size_bytes: int) -> None:
        """One of them has its result."""
        for amount in (self.total, self._tenants[tenant]):
            amount.count -= 1
            amount.bytes -= size_bytes
        self._forget(tenant)

    def shortage(
        self, tenant: str, more: Amount, bounds: Bounds, own_bounds: Bounds, own_variable: Callable[[str], str]
    ) -> Shortage | None:
        """Why `more` does not fit, if it does not, within the bounds of all and within the tenant's own.

        `own_variable`: the variable that sets a field of the tenant's.
        """
        own = self.of(tenant)
        for held, limits, whose, variable in (
            (own, own_bounds, "of this tenant", own_variable),
            (self.total, bounds, "of all tenants", environment_name),
        ):
            for noun, unit, have, wanted, limit in (
                ("prompts", "prompts", held.count, more.count, limits.count),
                ("bytes of prompts", "bytes", held.bytes, more.bytes, limits.bytes),
            ):
                if not limit or have + wanted <= limit:
                    continue
                named = f"{limit:,}, {variable(f'queue_limit_{unit}')}"
                if wanted > limit:
                    return Shortage(f"{wanted:,} {noun} are more than may ever wait or run {whose} ({named})", None)
                message = f"{have:,} {noun} {whose} wait or run; {wanted:,} more exceed the bound ({named})"
                return Shortage(message, self._places(have + wanted - limit, have))
        return None

    def fitting(self, tenant: str, sizes_bytes: Iterable[int], bounds: Bounds, own_bounds: Bounds) -> int:
        """How many prompts of these sizes, from the first on, fit now. One that never will counts as taking nothing.

        It has nothing to wait for: `shortage` says why it is refused.
        """
        pairs = ((self.total, bounds), (self.of(tenant), own_bounds))
        places = min((limits.count - held.count for held, limits in pairs if limits.count), default=sys.maxsize)
        room_bytes = min((limits.bytes - held.bytes for held, limits in pairs if limits.bytes), default=sys.maxsize)
        largest = min((limits.bytes for _, limits in pairs if limits.bytes), default=sys.maxsize)
        fitting = 0
        for size_bytes in islice(sizes_bytes, max(0, places)):
            if size_bytes <= largest:
                room_bytes -= size_bytes
                if room_bytes < 0:
                    break
            fitting += 1
        return fitting

    def _places(self, missing: int, have: int) -> int:
        """How many prompts, of any tenant, end until so much of `have` is free, if what is held ends evenly."""
        return math.ceil(missing * self.total.count / have)

    def _forget(self, tenant: str) -> None:
        if not self._tenants[tenant].count:
            del self._tenants[tenant]
