"""How many calls are open, in all and by tenant, and where it ends."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from expresslane.errors import Reason, RefusedError
from expresslane.variables import environment_name

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OpenCalls"]

RETRY_NS = 10**9


class OpenCalls:
    """Counts calls from their arrival to their end, those too that have sent nothing yet.

    `limit`: in all; `setting` is its name. `limit_of`: for a tenant, 0 where it has no bound of its own.
    """

    def __init__(self, limit: int, limit_of: Callable[[str], int] = lambda _: 0, *, setting: str = "") -> None:
        self._limit = limit
        self._setting = f" ({setting})" if setting else ""
        self._limit_of = limit_of
        self._of: Counter[str] = Counter()
        self.total = 0

    def enter(self, tenant: str) -> None:
        """One more call. Raises RefusedError (TOO_MANY_CALLS); whoever got in must leave."""
        own = self._limit_of(tenant)
        if own and self._of[tenant] >= own:
            setting = environment_name(f"tenants.{tenant}.max_open_calls")
            raise self._refusal(f"{own:,} calls of this tenant are open, the most it may have ({setting})")
        if self.total >= self._limit:
            raise self._refusal(f"{self._limit:,} calls are open, the most this service serves at once{self._setting}")
        self.total += 1
        self._of[tenant] += 1

    def of(self, tenant: str) -> int:
        """How many calls of a tenant are open."""
        return self._of.get(tenant, 0)

    def leave(self, tenant: str) -> None:
        """The call is over."""
        self.total -= 1
        self._of[tenant] -= 1
        if not self._of[tenant]:
            del self._of[tenant]

    @staticmethod
    def _refusal(message: str) -> RefusedError:
        return RefusedError(Reason.TOO_MANY_CALLS, message, retry_after_ns=RETRY_NS)
