"""Messages that are arriving: how many may be at once, whose turn it is, and who gives way while others wait.

How large a message is shows when all of it is there, and what gRPC has begun to read it reads to the end. So each takes
the place of the largest one before it is read; until then its bytes stay with its sender, but for 64 KiB.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import grpc.aio

from expresslane.clock import Clock, monotonic_ns
from expresslane.end_rate import EndRate
from expresslane.errors import Reason, RefusedError
from expresslane.first_message import first_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["Arrivals", "NoMessageError"]

TURN_S = 1.0
"""How long a message may take while others wait, if it is not among the half that may take all their time."""
TURN_LEAST_S = 0.1

T = TypeVar("T")


class NoMessageError(asyncio.CancelledError):
    """A call was ended, by its caller or by gRPC, before its first message was there."""


@dataclass(slots=True, eq=False)
class _Reader:
    """A call whose message is on its way."""

    whose: str
    since_s: float
    timeout: asyncio.Timeout
    gave_way: bool = False


class Arrivals:
    """So many `places`, each for one message from before it is read until it has become prompts.

    Who waits for one is served in turn, first by whose call it is. While any wait, half of the places are for messages
    that are slow to come: they keep theirs for `timeout_s`. Whoever is slow beyond that half gives way after a turn of
    a second, or less if otherwise not all who wait could have one: first the last one of whoever has most. So neither
    calls that say nothing nor large messages over thin lines keep the others out, and large ones get through.
    """

    def __init__(
        self,
        places: int,
        timeout_s: float,
        *,
        setting: str = "",
        what: str = "messages are arriving",
        clock: Clock = monotonic_ns,
    ) -> None:
        self._places = places
        self._for_slow = places // 2
        self._timeout_s = timeout_s
        self._what = what
        self._setting = f" ({setting})" if setting else ""
        self._rate = EndRate(clock)
        self._reading: dict[_Reader, None] = {}
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}
        self._most_waiting = 0
        """Since last nobody waited."""
        self._timer: asyncio.TimerHandle | None = None
        self.taken = 0
        """Places, of messages that are read or become prompts."""
        self.waiting = 0
        """Calls of which nothing is read yet."""

    async def take_in(self, context: Any, whose: str, then: Callable[[Any, Any], Awaitable[T]]) -> T:
        """Read a call's one request and give it, with `context`, to `then`; it has its place until that is done.

        Raises RefusedError (ARRIVING_FULL, FIRST_MESSAGE_TIMEOUT; PROTOCOL_VIOLATION where there is no request).
        """
        await self._enter(whose)
        try:
            return await then(await self._request(context, whose), context)
        finally:
            self._leave()

    async def take_first(self, context: Any, whose: str, then: Callable[[Any], T]) -> T:
        """The same with the first of several messages, or EOF."""
        await self._enter(whose)
        try:
            return then(await self._read(context, whose))
        finally:
            self._leave()

    async def read(self, context: Any, whose: str) -> Any:
        """Read a message that is used up at once, or EOF. Raises RefusedError as take_in does."""
        await self._enter(whose)
        try:
            return await self._read(context, whose)
        finally:
            self._leave()

    @asynccontextmanager
    async def hold(self, whose: str) -> AsyncIterator[None]:
        """A place for the whole context, for what is read all that time. Raises RefusedError (ARRIVING_FULL)."""
        if self.taken < self._places:
            self.taken += 1
        else:
            await self._turn(whose)
        try:
            yield
        finally:
            self._leave()

    async def _request(self, context: Any, whose: str) -> Any:
        request = await self._read(context, whose)
        if request is grpc.aio.EOF:
            raise RefusedError(
                Reason.PROTOCOL_VIOLATION, "the call carries no request message, or one that is too large"
            )
        return request

    async def _enter(self, whose: str) -> None:
        """Take a place, to be left by `_leave`. No context manager: thousands of calls wait in here."""
        if self.taken < self._places:
            self.taken += 1
            return
        try:
            await self._turn(whose)  # whoever leaves hands the place over
        except asyncio.CancelledError:
            raise NoMessageError from None

    async def _turn(self, whose: str) -> None:
        """Wait for a place, which is handed over. Raises RefusedError (ARRIVING_FULL)."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(whose, {})[turn] = None
        self.waiting += 1
        self._most_waiting = max(self._most_waiting, self.waiting)
        self._set_timer()
        try:
            async with asyncio.timeout(self._timeout_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it came just when nobody waited for it any more
                self._leave()
            else:
                self._forget(whose, turn)
            if isinstance(error, TimeoutError):
                raise self.full(f"no place came free within {self._timeout_s:g} s") from None
            raise
        finally:
            self.waiting -= 1
            if not self.waiting:
                self._most_waiting = 0

    def _forget(self, whose: str, turn: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(whose, {})
        waiting.pop(turn, None)
        if not waiting:
            self._waiting.pop(whose, None)

    def _leave(self) -> None:
        self._rate.ended()
        while self._waiting:
            whose = next(iter(self._waiting))
            waiting = self._waiting.pop(whose)
            turn = next(iter(waiting))
            del waiting[turn]
            if waiting:
                self._waiting[whose] = waiting  # behind all others
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1

    async def _read(self, context: Any, whose: str) -> Any:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s) as timeout:
                reader = _Reader(whose, loop.time(), timeout)
                self._reading[reader] = None
                if self._waiting:
                    self._set_timer()
                try:
                    return await first_message(context)
                finally:
                    del self._reading[reader]
        except TimeoutError:
            if reader.gave_way:
                raise self.full("this one did not come in its turn, and others wait") from None
            message = (
                f"the call's first message did not come within {self._timeout_s:g} s, or not the whole of it "
                "(EXPRESSLANE_FIRST_MESSAGE_TIMEOUT_S)"
            )
            raise RefusedError(Reason.FIRST_MESSAGE_TIMEOUT, message) from None
        except asyncio.CancelledError:
            raise NoMessageError from None

    def _set_timer(self) -> None:
        """Look again when the first reader that has no right to more is at the end of its turn."""
        reader = next(islice(self._reading, self._for_slow, None), None)
        if self._timer is None and self._waiting and reader is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(reader.since_s + self._turn_s(), self._give_way)

    def _give_way(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        now_s = asyncio.get_running_loop().time()
        since_s = now_s - self._turn_s()
        slow: dict[str, list[_Reader]] = {}
        count = 0
        for reader in self._reading:
            if reader.since_s > since_s:
                break
            count += 1
            if not reader.gave_way:
                slow.setdefault(reader.whose, []).append(reader)
        going = sum(reader.gave_way for reader in self._reading)
        for _ in range(min(count - self._for_slow, self.waiting) - going):
            last = max(slow.values(), key=len).pop()
            last.gave_way = True
            last.timeout.reschedule(now_s)
        self._set_timer()

    def _turn_s(self) -> float:
        for_quick = self._places - self._for_slow
        return min(TURN_S, max(TURN_LEAST_S, 0.5 * self._timeout_s * for_quick / max(1, self._most_waiting)))

    def full(self, why: str) -> RefusedError:
        """What is told to who finds no place, or loses it."""
        message = f"{self._places:,} {self._what}, as many as may at once{self._setting}; {why}"
        return RefusedError(
            Reason.ARRIVING_FULL, message, retry_after_ns=self._rate.retry_after_ns(max(1, self.waiting))
        )
