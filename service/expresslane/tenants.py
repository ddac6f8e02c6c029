"""Tenants: by name outside and by number in the core, each with its share and the highest class it may use."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expresslane.prompts import PromptClass
from expresslane.rate_limits import Tally
from expresslane.settings import TenantDefaults

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from expresslane.settings import TenantSettings

__all__ = ["Tenant", "Tenants"]

IDLE_MAX = 4_096
NUMBERS = 2**32


@dataclass(slots=True, eq=False)
class Tenant:
    """One tenant. `number`: its name in the core. `open`: its calls and running jobs."""

    name: str
    number: int
    weight: int
    max_class: PromptClass
    tally: Tally
    open: int = 0


class Tenants:
    """Every tenant that has a call open, and a bounded number of those that had one.

    Names are what callers say, so they must not cost memory for good: 4,096 idle ones are remembered, the one that left
    first is forgotten first. Its number is not given again before all others were, so that no tenant inherits what the
    core remembers of another.
    """

    def __init__(
        self, configured: Mapping[str, TenantSettings] | None = None, defaults: TenantDefaults | None = None
    ) -> None:
        self._configured = configured or {}
        self._defaults = defaults or TenantDefaults()
        self._known: dict[str, Tenant] = {}
        self._names: dict[int, str] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._next = 0

    def find(self, name: str) -> Tenant:
        """The tenant of this name, which may be new."""
        tenant = self._known.get(name)
        if tenant is None:
            tenant = self._known[name] = self._make(name)
            self._names[tenant.number] = name
            self._rest(tenant)
        return tenant

    def enter(self, name: str) -> Tenant:
        """A call of this tenant begins. Every `enter` has its `leave`."""
        tenant = self.find(name)
        tenant.open += 1
        self._idle.pop(name, None)
        return tenant

    def leave(self, tenant: Tenant) -> None:
        """A call has ended."""
        tenant.open -= 1
        if not tenant.open:
            self._rest(tenant)

    def by_number(self, number: int) -> Tenant | None:
        """The tenant with this number in the core, if it is remembered."""
        name = self._names.get(number)
        return None if name is None else self._known[name]

    def known(self) -> Sequence[Tenant]:
        """All that are remembered."""
        return list(self._known.values())

    def _make(self, name: str) -> Tenant:
        own = self._configured.get(name)
        weight = own.weight if own is not None and own.weight is not None else self._defaults.weight
        max_class = own.max_class if own is not None and own.max_class is not None else self._defaults.max_class
        while self._next in self._names:
            self._next = (self._next + 1) % NUMBERS
        number, self._next = self._next, (self._next + 1) % NUMBERS
        return Tenant(name, number, weight, PromptClass[max_class.upper()], Tally())

    def _rest(self, tenant: Tenant) -> None:
        self._idle[tenant.name] = None
        if len(self._idle) > IDLE_MAX:
            forgotten, _ = self._idle.popitem(last=False)
            del self._names[self._known.pop(forgotten).number]
