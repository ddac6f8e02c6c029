"""How many calls are open, in all and by tenant, and where it ends."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from expresslane.clock import Clock, monotonic_ns
from expresslane.end_rate import EndRate
from expresslane.errors import Reason, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OpenCalls"]


class OpenCalls:
    """Counts calls from their arrival to their end, those too that have sent nothing yet.

    `limit`: in all; `setting` is its name. `limit_of`: for a tenant, 0 where it has no bound of its own; `setting_of`
    is its name. `what` is counted, `whose`: words for who has a bound of its own.
    """

    def __init__(
        self,
        limit: int,
        limit_of: Callable[[str], int] = lambda _: 0,
        *,
        setting: str = "",
        setting_of: Callable[[str], str] = lambda _: "",
        what: str = "calls",
        whose: str = "this tenant",
        clock: Clock = monotonic_ns,
    ) -> None:
        self._what = what
        self._whose = whose
        self._setting_of = setting_of
        self._rate = EndRate(clock)
        self._limit = limit
        self._setting = f" ({setting})" if setting else ""
        self._limit_of = limit_of
        self._of: Counter[str] = Counter()
        self.total = 0

    def enter(self, tenant: str) -> None:
        """One more call. Raises RefusedError (TOO_MANY_CALLS); whoever got in must leave."""
        own = self._limit_of(tenant)
        if own and self._of[tenant] >= own:
            # Calls of all tenants that end until one of this one does, if they end evenly.
            places = math.ceil(self.total / own)
            setting = self._setting_of(tenant)
            which = f" ({setting})" if setting else ""
            raise self._refusal(f"{own:,} {self._what} of {self._whose} are open, the most it may have{which}", places)
        if self.total >= self._limit:
            message = f"{self._limit:,} {self._what} are open, the most this service serves at once{self._setting}"
            raise self._refusal(message, 1)
        self.total += 1
        self._of[tenant] += 1

    def of(self, tenant: str) -> int:
        """How many calls of a tenant are open."""
        return self._of.get(tenant, 0)

    def leave(self, tenant: str) -> None:
        """The call is over."""
        self._rate.ended()
        self.total -= 1
        self._of[tenant] -= 1
        if not self._of[tenant]:
            del self._of[tenant]

    def _refusal(self, message: str, places: int) -> RefusedError:
        return RefusedError(Reason.TOO_MANY_CALLS, message, retry_after_ns=self._rate.retry_after_ns(places))
