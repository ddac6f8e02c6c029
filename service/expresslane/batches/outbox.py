"""The outbox of a batch: what is ready for its reader, in the order it asked for, and bounded when it is slow."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from expresslane.batches.held import Bounds
from expresslane.batches.unread import Unread

if TYPE_CHECKING:
    from expresslane.results import Result

__all__ = ["Delta", "Outbox", "Parcel"]


@dataclass(slots=True)
class Delta:
    """Pieces of one prompt's output that the reader has not taken yet, merged."""

    custom_id: str
    index: int
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Parcel:
    """Everything that was ready at once. A prompt's deltas come no later than its result."""

    results: list[Result]
    deltas: list[Delta]


class Outbox:
    """Collects results and deltas for one reader.

    `window` > 0: results are handed out by index, and `horizon` lets at most `window` or `limit` prompts be ahead of
    the reader; else as they complete, and the horizon falls to 0 while `limit` results or more wait. While
    `limit_bytes` of answers or more wait, nothing starts but an in-order batch's next due. One reader at a time.

    `unread`: where what waits here is counted together with the rest of its tenant's and all others', until its reader
    comes back for more. While that is full, anything that waits holds the batch as the limits do.
    """

    def __init__(
        self, *, window: int, limit: int, limit_bytes: int = 64 * 1024 * 1024, unread: Unread | None = None
    ) -> None:
        self._unread = unread or Unread(Bounds())
        self._counted = 0
        self._counted_bytes = 0
        self._taken = 0
        self._taken_bytes = 0
        self._left = False
        self._window = min(window, limit)
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._ready_bytes = 0
        self._early_bytes = 0
        self._ready: list[Result] = []
        self._early: dict[int, Result] = {}
        self._deltas: dict[int, Delta] = {}
        self._next = 0
        self._held = False
        self._waiter: asyncio.Future[bool] | None = None
        self._news = False
        self.closed = False

    def put(self, result: Result) -> None:
        """Add a finished prompt's result."""
        if self._left:
            return
        self._count(1, result.answer_bytes)
        if self._window and result.index != self._next:
            self._early[result.index] = result
            self._early_bytes += result.answer_bytes
            return
        self._ready.append(result)
        self._ready_bytes += result.answer_bytes
        if self._window:
            self._next += 1
            while (following := self._early.pop(self._next, None)) is not None:
                self._ready.append(following)
                self._ready_bytes += following.answer_bytes
                self._early_bytes -= following.answer_bytes
                self._next += 1
        self._wake()

    def put_delta(self, custom_id: str, index: int, text: str, reasoning: str) -> None:
        """Add a piece of a running prompt's output."""
        if self._left:
            return
        self._count(0, len(text) + len(reasoning))
        delta = self._deltas.get(index)
        if delta is None:
            delta = self._deltas[index] = Delta(custom_id, index)
        if text:
            delta.text.append(text)
        if reasoning:
            delta.reasoning.append(reasoning)
        self._ready_bytes += len(text) + len(reasoning)
        self._wake()

    def nudge(self) -> None:
        """Let `wait` return once: there is news for the reader that is not kept here."""
        self._news = True
        self._wake()

    def close(self) -> None:
        """Nothing more will come."""
        self.closed = True
        self._wake()

    def leave(self) -> None:
        """Its reader is gone for good: what waits, and what still comes, is for nobody."""
        self._left = True
        self._ready, self._early, self._deltas = [], {}, {}
        self._ready_bytes = self._early_bytes = self._taken = self._taken_bytes = 0
        self._count(-self._counted, -self._counted_bytes)

    @property
    def empty(self) -> bool:
        """Whether nothing is ready."""
        return not self._ready and not self._deltas

    def take(self) -> Parcel:
        """Everything that is ready now, perhaps nothing."""
        self._news = False
        self._taken += len(self._ready)
        self._taken_bytes += self._ready_bytes
        self._ready_bytes = 0
        results, self._ready = self._ready, []
        deltas, self._deltas = self._deltas, {}
        return Parcel(results, list(deltas.values()))

    def written(self) -> None:
        """The reader has got rid of what it took."""
        if self._taken or self._taken_bytes:
            self._counted -= self._taken
            self._counted_bytes -= self._taken_bytes
            self._unread.read(self._taken, self._taken_bytes)
            self._taken = self._taken_bytes = 0

    async def wait(self, timeout_s: float) -> bool:
        """Return True once something is ready or the outbox is closed, False when `timeout_s` went by without."""
        if self._ready or self._deltas or self._news or self.closed:
            return True
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(timeout_s, self._wake, False)
        try:
            return await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def horizon(self) -> int | None:
        """Prompts numbered from here on must not start yet; None: no bound.

        Ask after `put`, `take` and `written`, and when `unread` becomes full or has room again.
        """
        waiting_bytes = self._ready_bytes + self._early_bytes
        waiting = len(self._ready)
        pressed = self._unread.pressed and bool(self._counted or self._counted_bytes)
        if self._window:
            held_on = self._held and waiting_bytes > self._limit_bytes // 2
            self._held = pressed or waiting_bytes >= self._limit_bytes or held_on
            horizon = self._next - waiting + self._window
            # With nothing to read, only the next due can bring the reader on: it is never held.
            return min(horizon, self._next if waiting else self._next + 1) if self._held else horizon
        full = pressed or waiting >= self._limit or waiting_bytes >= self._limit_bytes
        half_full = waiting > self._limit // 2 or waiting_bytes > self._limit_bytes // 2
        self._held = full or (self._held and half_full)
        return 0 if self._held else None

    def _count(self, results: int, size_bytes: int) -> None:
        self._counted += results
        self._counted_bytes += size_bytes
        self._unread.add(results, size_bytes)

    def _wake(self, ready: bool = True) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(ready)
