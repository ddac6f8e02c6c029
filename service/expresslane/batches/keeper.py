"""Keeps batches beyond the call that brought them, with all results, bounded in number, bytes and time."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from expresslane.batches.log import Budget, Log
from expresslane.errors import Reason, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from expresslane.batches.batch import Batch, BatchOptions
    from expresslane.batches.summary import Summary
    from expresslane.clock import Clock
    from expresslane.intake import Intake
    from expresslane.prompts import Prompt
    from expresslane.scheduling import Scheduling

__all__ = ["Keeper", "Kept"]

NO_EXPIRY_RETRY_NS = 10 * 10**9
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


Entry = TypeVar("Entry", bound=Kept)


class Keeper(ABC, Generic[Entry]):
    """What is common to jobs and to batches whose callers may come back; the two differ in when their time runs.

    At its limits it refuses more rather than drop what somebody may still want. While the results fill
    `results_limit_bytes`, running batches are held: nothing of them is released until something is forgotten. What
    waits meanwhile is subject to its queue timeout, as ever.
    """

    noun: str
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
        self._entries: dict[Hashable, Entry] = {}

    @property
    def kept_bytes(self) -> int:
        """About what the results of all of them take."""
        return self._budget.used_bytes

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
        self._make_room()
        log = Log(self._budget, lambda: self._over(entry))
        batch = self._intake.open(options, method=method, prompts=len(prompts), outbox=log)
        entry = make(batch, log)
        try:
            self._intake.accept(batch, prompts)
        except RefusedError:
            self._intake.close(batch)
            raise
        self._entries[key] = entry
        return entry

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

    def _make_room(self) -> None:
        """Forget what is spent, if that helps. Raises RefusedError when there is no room even so."""
        while len(self._entries) >= self._limit or self._budget.full:
            if not self._forget_spent():
                raise self._full()

    def _forget_spent(self) -> bool:
        """Forget the oldest one that nobody is expected to come back for."""
        spent = next((one for one in self._entries.values() if one.spent and not one.readers), None)
        if spent is not None:
            self._forget(spent)
        return spent is not None

    def _full(self) -> RefusedError:
        full = f"{self._limit:,} {self.noun}"
        if len(self._entries) < self._limit:
            full = f"results of {self._budget.limit_bytes:,} bytes"
        expiries = [entry.expires_ns for entry in self._entries.values() if entry.expires_ns is not None]
        wait_ns = min(expiries) - self._wall_clock() if expiries else NO_EXPIRY_RETRY_NS
        message = f"{full} are kept, the most this service keeps; {self.way_out}"
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
        self._keep_on(entry)
        self._let_go(entry)

    def _let_go(self, entry: Entry) -> None:
        if entry.forgotten and not entry.readers:
            entry.log.discard()

    def _budget_changed(self) -> None:
        while self._budget.full and self._forget_spent():
            pass
        for entry in self._entries.values():
            if entry.summary is None:
                self._scheduling.reader_moved(entry.batch)
