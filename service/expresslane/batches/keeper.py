"""Keeps batches beyond the call that brought them, with all results, bounded in number, bytes and time."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from expresslane.batches.held import Amount
from expresslane.batches.log import Budget, Log
from expresslane.errors import Reason, RefusedError
from expresslane.variables import environment_name

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from expresslane.batches.batch import Batch, BatchOptions
    from expresslane.batches.held import Bounds
    from expresslane.batches.summary import Summary
    from expresslane.clock import Clock
    from expresslane.intake import Intake
    from expresslane.prompts import Prompt
    from expresslane.scheduling import Scheduling
    from expresslane.tenants import Tenant

__all__ = ["Keeper", "Kept"]

NO_EXPIRY_RETRY_NS = 10 * 10**9
"""When to look again while nothing that is kept has a time set: all of it runs, or has a reader. Room then comes from
what a caller does (it deletes, or reads to the end), which nothing foretells; a job that ends only gets its time."""
MIN_RETRY_NS = 10**9


class Kept:
    """A batch under a key, with its results; `summary` is set when it ends.

    `expires_ns`: when it will be forgotten, by the wall clock; None: no such time is set. `spent`: nobody is expected
    to come back for it, so it may go as soon as room is needed.
    """

    def __init__(self, key: Hashable, batch: Batch, log: Log) -> None:
        self.key = key
        self.batch = batch
        self.log = log
        self.summary: Summary | None = None
        self.expires_ns: int | None = None
        self.forgotten = False
        self.spent = False
        self.readers = 0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def tenant(self) -> str:
        """Whose batch it is."""
        return self.batch.options.tenant


@dataclass(slots=True)
class _Part:
    """What is kept for one tenant. `entries`: those that are not forgotten."""

    budget: Budget
    limit: int
    entries: int = 0


Entry = TypeVar("Entry", bound=Kept)


class Keeper(ABC, Generic[Entry]):
    """What is common to jobs and to batches whose callers may come back; the two differ in when their time runs.

    At its limits it refuses more rather than drop what somebody may still want. While the results fill
    `results_limit_bytes`, running batches are held: nothing of them is released until something is forgotten. What
    waits meanwhile is subject to its queue timeout, as ever. The same holds within what one tenant may have kept: who
    fills that keeps out, and holds, nobody else. `setting`: what the names of the limits begin with.
    """

    noun: str
    setting: str
    full_reason: Reason
    way_out: str

    def __init__(
        self,
        intake: Intake,
        scheduling: Scheduling,
        *,
        limit: int,
        results_limit_bytes: int,
        wall_clock: Clock = time.time_ns,
    ) -> None:
        self._intake = intake
        self._scheduling = scheduling
        self._limit = limit
        self._wall_clock = wall_clock
        self._budget = Budget(results_limit_bytes, self._budget_changed)
        self._parts: dict[str, _Part] = {}
        self._entries: dict[Hashable, Entry] = {}

    @property
    def kept_bytes(self) -> int:
        """About what the results of all of them take."""
        return self._budget.used_bytes

    def kept(self, tenant: str | None = None) -> Amount:
        """How many are kept, and about what their results take: of one tenant, or in all."""
        if tenant is None:
            return Amount(len(self._entries), self._budget.used_bytes)
        part = self._parts.get(tenant)
        return Amount() if part is None else Amount(part.entries, part.budget.used_bytes)

    def bounds_moved(self, tenant: Tenant) -> None:
        """A tenant may have more or less from now on; what is kept beyond its bounds stays."""
        part = self._parts.get(tenant.name)
        if part is not None:
            bounds = self._bounds(tenant)
            part.limit = bounds.count
            part.budget.set_limit(bounds.bytes)

    def cancel(self, entry: Entry) -> None:
        """Cancel what is unfinished."""
        if entry.batch.unfinished:
            self._intake.cancel(entry.batch)

    def delete(self, entry: Entry) -> None:
        """Cancel what is unfinished and forget the batch; readers go on to its end."""
        self.cancel(entry)
        self._forget(entry)

    @contextmanager
    def reading(self, entry: Entry) -> Iterator[None]:
        """For as long as somebody reads, the results stay, even if the batch is forgotten meanwhile."""
        entry.readers += 1
        try:
            yield
        finally:
            entry.readers -= 1
            self._let_go(entry)

    def close(self) -> None:
        """Forget everything."""
        for entry in list(self._entries.values()):
            self._forget(entry)

    @abstractmethod
    def _bounds(self, tenant: Tenant) -> Bounds:
        """What one tenant may have kept."""

    @abstractmethod
    def _ended(self, entry: Entry) -> None:
        """The last prompt of a batch has just ended."""

    def _keep(
        self,
        key: Hashable,
        options: BatchOptions,
        prompts: Sequence[tuple[Prompt, int]],
        *,
        method: str,
        make: Callable[[Batch, Log], Entry],
    ) -> Entry:
        """Accept a batch and keep it under a key that is free.

        Raises RefusedError (`full_reason`, and those of the intake).
        """
        try:
            self._make_room(options.tenant, self._part(options.tenant))
            part = self._part(options.tenant)  # only now: it may have been emptied, and forgotten
            log = Log(part.budget, lambda: self._over(entry))
            batch = self._intake.open(options, method=method, prompts=len(prompts), outbox=log)
        except RefusedError:
            self._tidy(options.tenant)
            raise
        entry = make(batch, log)
        try:
            self._intake.accept(batch, prompts)
        except RefusedError:
            self._intake.close(batch)
            self._tidy(options.tenant)
            raise
        self._entries[key] = entry
        part.entries += 1
        return entry

    def _part(self, name: str) -> _Part:
        """What is kept for a tenant, perhaps nothing yet."""
        part = self._parts.get(name)
        if part is None:
            bounds = self._bounds(self._intake.tenants.find(name))
            budget = Budget(bounds.bytes, lambda: self._part_changed(name), self._budget)
            part = self._parts[name] = _Part(budget, bounds.count)
        return part

    def _tidy(self, name: str) -> None:
        """Remember nothing about a tenant for whom nothing is kept."""
        part = self._parts.get(name)
        if part is not None and not part.entries and not part.budget.used_bytes:
            del self._parts[name]

    def _expire_in(self, entry: Entry, seconds: float, now_ns: int) -> None:
        """Forget it after this time from now on, by the wall clock, unfinished or not."""
        self._keep_on(entry)
        if not entry.forgotten:
            entry.expires_ns = now_ns + int(seconds * 1e9)
            entry.timer = asyncio.get_running_loop().call_later(seconds, self._expire, entry)

    @staticmethod
    def _keep_on(entry: Entry) -> None:
        """Set no time for it."""
        entry.expires_ns = None
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None

    def _expire(self, entry: Entry) -> None:
        self.delete(entry)

    def _make_room(self, tenant: str, part: _Part) -> None:
        """Forget what is spent, the tenant's own first, if that helps. Raises RefusedError when there is no room."""
        while (part.limit and part.entries >= part.limit) or part.budget.used_up:
            if not self._forget_spent(tenant):
                raise self._full(part.limit, part.entries, part.budget, tenant)
        while len(self._entries) >= self._limit or self._budget.full:
            if not (self._forget_spent(tenant) or self._forget_spent()):
                raise self._full(self._limit, len(self._entries), self._budget)

    def _forget_spent(self, tenant: str | None = None) -> bool:
        """Forget the oldest one that nobody is expected to come back for: of one tenant, or of all."""
        for entry in self._entries.values():
            if entry.spent and not entry.readers and tenant in (None, entry.tenant):
                self._forget(entry)
                return True
        return False

    def _full(self, limit: int, entries: int, budget: Budget, tenant: str | None = None) -> RefusedError:
        """Why there is no room, in all or for a tenant, and when there will be."""
        by_count = bool(limit) and entries >= limit
        full = f"{limit:,} {self.noun}" if by_count else f"results of {budget.limit_bytes:,} bytes"
        field = f"{self.setting}_limit" if by_count else f"{self.setting}_results_limit_bytes"
        whose, variable = "this service keeps", environment_name(field)
        if tenant is not None:
            whose, variable = "this tenant may have", self._intake.tenants.variable_of(tenant, field)
        own = [entry for entry in self._entries.values() if tenant in (None, entry.tenant)]
        expiries = [entry.expires_ns for entry in own if entry.expires_ns is not None]
        wait_ns = min(expiries) - self._wall_clock() if expiries else NO_EXPIRY_RETRY_NS
        message = f"{full} are kept, the most {whose} ({variable}); {self.way_out}"
        return RefusedError(self.full_reason, message, retry_after_ns=max(wait_ns, MIN_RETRY_NS))

    def _over(self, entry: Entry) -> None:
        self._intake.close(entry.batch)
        entry.summary = entry.batch.summary()
        self._ended(entry)

    def _forget(self, entry: Entry) -> None:
        if entry.forgotten:
            return
        entry.forgotten = True
        del self._entries[entry.key]
        self._parts[entry.tenant].entries -= 1
        self._keep_on(entry)
        self._let_go(entry)

    def _let_go(self, entry: Entry) -> None:
        if entry.forgotten and not entry.readers:
            entry.log.discard()
            self._tidy(entry.tenant)

    def _budget_changed(self) -> None:
        while self._budget.full and self._forget_spent():
            pass
        self._readers_moved()

    def _part_changed(self, tenant: str) -> None:
        part = self._parts.get(tenant)
        while part is not None and part.budget.used_up and self._forget_spent(tenant):
            pass
        self._readers_moved(tenant)

    def _readers_moved(self, tenant: str | None = None) -> None:
        for entry in self._entries.values():
            if entry.summary is None and tenant in (None, entry.tenant):
                self._scheduling.reader_moved(entry.batch)
