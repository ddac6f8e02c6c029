"""The log of a kept batch: its results in the order in which they came, for any number of readers, within a budget."""

from __future__ import annotations

import asyncio
from sys import getsizeof
from typing import TYPE_CHECKING

from expresslane.batches.outbox import Delta, Outbox, Parcel

if TYPE_CHECKING:
    from collections.abc import Callable

    from expresslane.results import Result

__all__ = ["Budget", "Cursor", "Log"]

READ_AT_ONCE = 1_024
RESULT_BYTES = 1_024
"""What a result takes besides its texts, rounded up."""


class Budget:
    """Bytes that logs together may keep; `changed` is called soon after they are used up or there is room again.

    Being full holds what has not been released. Answers that are under way still come, so `used` may exceed `limit`.
    `limit_bytes` 0: no bound of its own. `whole`: what this is a tenant's part of.
    """

    def __init__(self, limit_bytes: int, changed: Callable[[], object], whole: Budget | None = None) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._changed = changed
        self._whole = whole

    @property
    def used_up(self) -> bool:
        """Whether its own bound is reached."""
        return 0 < self.limit_bytes <= self.used_bytes

    @property
    def full(self) -> bool:
        """Whether nothing more should be started."""
        return self.used_up or (self._whole is not None and self._whole.full)

    def add(self, size_bytes: int) -> None:
        """Count bytes that are kept from now on; a negative number, that are no longer."""
        was_used_up = self.used_up
        self.used_bytes += size_bytes
        self._tell(was_used_up)
        if self._whole is not None:
            self._whole.add(size_bytes)

    def set_limit(self, limit_bytes: int) -> None:
        """Go by another bound from now on; what is kept beyond it stays."""
        was_used_up = self.used_up
        self.limit_bytes = limit_bytes
        self._tell(was_used_up)

    def _tell(self, was_used_up: bool) -> None:
        if self.used_up != was_used_up:
            asyncio.get_running_loop().call_soon(self._changed)


class Log(Outbox):
    """Takes the place of the outbox in a batch without a reader of its own; read it through cursors.

    Holds its batch while the budget is full. `over` is called once, soon after the last result: what the batch decides
    when that result comes (FAIL_FAST) is settled by then.
    """

    def __init__(self, budget: Budget, over: Callable[[], object]) -> None:
        super().__init__(window=0, limit=1)
        self._budget = budget
        self._over = over
        self._results: list[Result] | None = []
        self._bytes = 0
        self._closing = False
        self._waiters: set[asyncio.Future[bool]] = set()
        self.nudges = 0
        """How often there was news that is not kept here."""
        self.live: dict[int, Delta] = {}
        """All output so far of each prompt that is at a backend, by index; only in batches that stream it."""

    @property
    def count(self) -> int:
        """Results kept."""
        return len(self._results or ())

    def put(self, result: Result) -> None:
        """Keep a finished prompt's result."""
        self.live.pop(result.index, None)
        if self._results is None:
            return
        size_bytes = _size_bytes(result)
        self._results.append(result)
        self._bytes += size_bytes
        self._budget.add(size_bytes)
        self._tell()

    def nudge(self) -> None:
        """Let every reader look once, those that come later too: there is news that is not kept here."""
        self.nudges += 1
        self._tell()

    def put_delta(self, custom_id: str, index: int, text: str, reasoning: str) -> None:
        """Add a piece of a running prompt's output. The attempt holds the same pieces, so they cost next to nothing."""
        delta = self.live.get(index)
        if delta is None:
            delta = self.live[index] = Delta(custom_id, index)
        if text:
            delta.text.append(text)
        if reasoning:
            delta.reasoning.append(reasoning)
        self._tell()

    def close(self) -> None:
        """Nothing more will come."""
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._settle)

    def leave(self) -> None:
        """Nothing to do: it is not for one reader, and its keeper decides when it goes."""

    def discard(self) -> None:
        """Give everything up, also what is still to come; there must be no reader left."""
        self._results = None
        self._budget.add(-self._bytes)
        self._bytes = 0

    def horizon(self) -> int | None:
        """Nothing more may start while the budget is full."""
        return 0 if self._budget.full else None

    def read(self, position: int) -> list[Result]:
        """Some of the results from a position on, all of them if they are few."""
        return (self._results or [])[position : position + READ_AT_ONCE]

    async def news(self, timeout_s: float) -> bool:
        """Return True at the next result, at a nudge and at the end, False when `timeout_s` went by without."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_later(timeout_s, waiter.set_result, False)
        self._waiters.add(waiter)
        try:
            return await waiter
        finally:
            timer.cancel()
            self._waiters.discard(waiter)

    def _settle(self) -> None:
        self.closed = True
        self._over()
        self._tell()

    def _tell(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(True)


class Cursor:
    """One reader's place in a log; offers what the reader of an outbox needs."""

    def __init__(self, log: Log, position: int) -> None:
        self._log = log
        self._nudges = 0
        self.position = position

    @property
    def closed(self) -> bool:
        """Whether the log will get nothing more."""
        return self._log.closed

    @property
    def empty(self) -> bool:
        """Whether nothing is there to read."""
        return self._log.count <= self.position

    async def wait(self, timeout_s: float) -> bool:
        """Return True once something can be read, at a nudge and at the end, False when `timeout_s` went by without."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        while self.empty and not self.closed and self._nudges == self._log.nudges:
            if not await self._log.news(end_s - loop.time()):
                return False
        return True

    def written(self) -> None:
        """Nothing to do: the log keeps what was read."""

    def take(self) -> Parcel:
        """The next results, perhaps none."""
        self._nudges = self._log.nudges
        results = self._log.read(self.position)
        self.position += len(results)
        return Parcel(results, [])


def _size_bytes(result: Result) -> int:
    """About what a result takes in memory."""
    texts = [result.custom_id, result.text, result.reasoning, result.logprobs_json]
    for call in result.tool_calls:
        texts += (call.id, call.name, call.arguments)
    if (error := result.error) is not None:
        texts += (error.message, error.provider_body, error.provider_code, error.provider_request_id)
    texts += (attempt.message for attempt in result.history)
    return RESULT_BYTES + sum(map(getsizeof, texts))
