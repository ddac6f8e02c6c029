"""Tenants: by name outside and by number in the core, each with its share and the highest class it may use."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from expresslane.batches.held import Bounds
from expresslane.batches.unread import Unread
from expresslane.clock import Clock, monotonic_ns
from expresslane.errors import Reason, RefusedError
from expresslane.prompts import PromptClass
from expresslane.rate_limits import Limit, Tally
from expresslane.settings import TenantDefaults, TenantSettings
from expresslane.variables import environment_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Tenant", "Tenants"]

IDLE_MAX = 4_096
CONFIGURED_MAX = 16_384
NUMBERS = 2**32
UNBOUNDED = Bounds()


@dataclass(slots=True, eq=False)
class Tenant:
    """One tenant.

    `number`: its name in the core. `queue_bounds`: of what it has waiting and running. `job_bounds`, `kept_bounds`: of
    its jobs and kept batches, and of their results. `unread`: its results that wait for slow readers. `open`: its calls
    and running jobs. `limit`: the last used up.
    """

    name: str
    number: int
    weight: int = 1
    max_class: PromptClass = PromptClass.INTERACTIVE
    requests_per_min: int = 0
    tokens_per_min: int = 0
    queue_bounds: Bounds = UNBOUNDED
    job_bounds: Bounds = UNBOUNDED
    kept_bounds: Bounds = UNBOUNDED
    max_open_calls: int = 0
    max_open_sessions: int = 0
    unread: Unread = field(default_factory=lambda: Unread(UNBOUNDED))
    open: int = 0
    tally: Tally = field(default_factory=Tally)
    limit: Limit | None = None

    def limited(self, limit: Limit, now_ns: int) -> None:
        """Its work waits for a limit of its own."""
        self.limit = limit
        self.tally.add(now_ns, limit.reset_ns)


class Tenants:
    """Every tenant that is configured or has a call open, and a bounded number of those that had one.

    Names are what callers say, so they must not cost memory for good: 4,096 idle ones are remembered, the one that left
    first is forgotten first. Its number is not given again before all others were, so that no tenant inherits what the
    core remembers of another. `put_in_force` is told whenever a tenant's limits may have changed.

    `unread_bounds`: of the results of all of them that wait for slow readers; `readers_moved` is told when those, or a
    tenant's own, are used up or have room again; `bounds_moved`, when a tenant was updated, for what goes by its other
    bounds and does not ask for them each time.
    """

    def __init__(
        self,
        configured: Mapping[str, TenantSettings] | None = None,
        defaults: TenantDefaults | None = None,
        put_in_force: Callable[[Tenant], None] = lambda _: None,
        *,
        unread_bounds: Bounds = UNBOUNDED,
        readers_moved: Callable[[Tenant | None], None] = lambda _: None,
        bounds_moved: Callable[[Tenant], None] = lambda _: None,
        clock: Clock = monotonic_ns,
    ) -> None:
        self.unread = Unread(unread_bounds, lambda: readers_moved(None), clock=clock)
        self._clock = clock
        self._readers_moved = readers_moved
        self._bounds_moved = bounds_moved
        self._configured = dict(configured or {})
        self._defaults = defaults or TenantDefaults()
        self._put_in_force = put_in_force
        self._known: dict[str, Tenant] = {}
        self._names: dict[int, str] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._next = 0
        for name in self._configured:
            self.find(name)

    def find(self, name: str) -> Tenant:
        """The tenant of this name, which may be new."""
        tenant = self._known.get(name)
        if tenant is None:
            tenant = self._make(name)
            if tenant.requests_per_min or tenant.tokens_per_min:
                self._put_in_force(tenant)
            self._known[name] = tenant
            self._names[tenant.number] = name
            self._rest(tenant)
        return tenant

    def update(self, name: str, changes: Mapping[str, Any]) -> Tenant:
        """Change settings of a tenant, by the names of TenantSettings, until the process ends.

        Raises RefusedError (INVALID_FIELD: what the core refuses; TENANTS_FULL), and nothing has changed.
        """
        if name not in self._configured and len(self._configured) >= CONFIGURED_MAX:
            message = f"{CONFIGURED_MAX:,} tenants have settings of their own, the most this service keeps"
            raise RefusedError(Reason.TENANTS_FULL, message)
        before = self._configured.get(name)
        tenant = self.find(name)
        self._configured[name] = (before or TenantSettings()).model_copy(update=changes)
        try:
            self._describe(tenant)
            self._put_in_force(tenant)
        except RefusedError:
            if before is None:
                del self._configured[name]
            else:
                self._configured[name] = before
            self._describe(tenant)
            raise
        self._idle.pop(name, None)
        tenant.limit = None
        self._bounds_moved(tenant)
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

    def max_open_calls(self, name: str) -> int:
        """The most calls that a tenant, known or not, may have open; 0: no bound of its own."""
        most: int = self._setting(name, "max_open_calls")
        return most

    def max_open_sessions(self, name: str) -> int:
        """The same of its sessions."""
        most: int = self._setting(name, "max_open_sessions")
        return most

    def is_configured(self, tenant: Tenant) -> bool:
        """Whether it has settings of its own, from the configuration or by `update`."""
        return tenant.name in self._configured

    def configured(self, most: int) -> Sequence[Tenant]:
        """Up to so many of those with settings of their own, the first ones."""
        return [self._known[name] for name in list(self._configured)[:most]]

    def known(self) -> Sequence[Tenant]:
        """All that are remembered."""
        return list(self._known.values())

    def variable_of(self, name: str, field: str) -> str:
        """The variable that sets what holds for a tenant: its own, or that of the defaults."""
        own = getattr(self._configured.get(name), field, None) is not None
        return environment_name(f"tenants.{name}.{field}" if own else f"tenant_defaults.{field}")

    def _make(self, name: str) -> Tenant:
        while self._next in self._names:
            self._next = (self._next + 1) % NUMBERS
        number, self._next = self._next, (self._next + 1) % NUMBERS
        tenant = Tenant(name, number)
        tenant.unread = Unread(UNBOUNDED, lambda: self._readers_moved(tenant), self.unread, clock=self._clock)
        self._describe(tenant)
        return tenant

    def _describe(self, tenant: Tenant) -> None:
        def held(field: str) -> Any:
            return self._setting(tenant.name, field)

        tenant.weight = held("weight")
        tenant.max_class = PromptClass[held("max_class").upper()]
        tenant.requests_per_min = held("requests_per_min")
        tenant.tokens_per_min = held("tokens_per_min")
        tenant.queue_bounds = Bounds(held("queue_limit_prompts"), held("queue_limit_bytes"))
        tenant.job_bounds = Bounds(held("job_limit"), held("job_results_limit_bytes"))
        tenant.kept_bounds = Bounds(held("kept_limit"), held("kept_results_limit_bytes"))
        tenant.max_open_calls = held("max_open_calls")
        tenant.max_open_sessions = held("max_open_sessions")
        tenant.unread.set_bounds(Bounds(held("unread_limit_results"), held("unread_limit_bytes")))

    def _setting(self, name: str, field: str) -> Any:
        value = getattr(self._configured.get(name), field, None)
        return getattr(self._defaults, field) if value is None else value

    def _rest(self, tenant: Tenant) -> None:
        if tenant.name in self._configured:
            return
        self._idle[tenant.name] = None
        if len(self._idle) > IDLE_MAX:
            name, _ = self._idle.popitem(last=False)
            forgotten = self._known.pop(name)
            del self._names[forgotten.number]
            if forgotten.requests_per_min or forgotten.tokens_per_min:
                forgotten.requests_per_min = forgotten.tokens_per_min = 0
                self._put_in_force(forgotten)
