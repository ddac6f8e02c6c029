"""Sessions that are read: how many at once, whose turn it is, and which idle one goes while others wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from expresslane.errors import Reason, RefusedError
from expresslane.session_places import SessionPlaces, sessions_limit_bytes
from expresslane.settings import Settings

from tests.support.virtual_time import now_ns, virtual_time

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 30.0


class Session:
    """One that stays for so long, and is idle from so long after its beginning. Its name begins with its tenant."""

    def __init__(self, name: str, stays_s: float = 1e6, idle_after_s: float = 1e6, *, ends_in_s: float = 0.0) -> None:
        self.name = name
        self._ends_in_s = ends_in_s
        self._stays_s = stays_s
        self._idle_after_s = idle_after_s
        self._end = asyncio.Event()
        self.begun_s = -1.0
        self.refusal: RefusedError | None = None

    async def run(self, places: SessionPlaces) -> None:
        """From its beginning to its end."""
        async with places.hold(self, self.name[0]):
            loop = asyncio.get_running_loop()
            self.begun_s = loop.time()
            loop.call_later(self._stays_s, self._end.set)
            await self._end.wait()

    def idle_s(self) -> float:
        """As sessions count it."""
        return max(0.0, asyncio.get_running_loop().time() - self.begun_s - self._idle_after_s)

    def give_way(self, refusal: RefusedError) -> None:
        """It ends in so many seconds: 0 is the next turn of the loop."""
        assert self.refusal is None
        self.refusal = refusal
        asyncio.get_running_loop().call_later(self._ends_in_s, self._end.set)


class Opened:
    """Sessions that come in this order, all at once."""

    def __init__(self, places: SessionPlaces, *sessions: Session) -> None:
        self.begin_s = asyncio.get_running_loop().time()
        self.sessions = sessions
        self.tasks = [asyncio.ensure_future(one.run(places)) for one in sessions]

    def begun(self) -> Iterator[tuple[str, float]]:
        """Those that got a place, in that order, with the seconds it took."""
        started = [one for one in self.sessions if one.begun_s >= 0]
        for one in sorted(started, key=lambda one: one.begun_s):
            yield one.name, one.begun_s - self.begin_s

    async def ended(self) -> None:
        """All of them."""
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


def session_places(count: int) -> SessionPlaces:
    """On virtual time."""
    return SessionPlaces(count, TIMEOUT_S, setting="THE_SETTING", clock=now_ns)


@virtual_time
async def test_turns_of_tenants() -> None:
    """A place that comes free goes to the tenant whose turn it is, not to the one that has most waiting."""
    places = session_places(1)
    opened = Opened(places, *(Session(name, stays_s=2) for name in ("a0", "a1", "a2", "b0")))
    await asyncio.wait(opened.tasks)
    assert list(opened.begun()) == [("a0", 0), ("a1", 2), ("b0", 4), ("a2", 6)]
    assert (places.taken, places.waiting) == (0, 0)


@virtual_time
async def test_a_turn_that_does_not_come() -> None:
    """Sessions that have work keep their places; who waits in vain is told the setting and when to come back."""
    places = session_places(2)
    opened = Opened(places, Session("a0"), Session("a1"), Session("b0"))
    (refused,), _ = await asyncio.wait(opened.tasks, return_when=asyncio.FIRST_COMPLETED)
    error = refused.exception()
    assert isinstance(error, RefusedError)
    assert (error.reason, error.retry_after_ns) == (Reason.ARRIVING_FULL, 10**9)
    assert error.message.startswith("2 sessions are read, as many as may at once (THE_SETTING)")
    assert asyncio.get_running_loop().time() - opened.begin_s == pytest.approx(TIMEOUT_S)
    assert [one.refusal for one in opened.sessions] == [None] * 3
    await opened.ended()
    assert (places.taken, places.waiting) == (0, 0)


@virtual_time
async def test_idle_sessions_stay_while_nobody_waits() -> None:
    """For an hour nobody is ended for saying nothing."""
    places = session_places(2)
    opened = Opened(places, Session("a0", idle_after_s=0), Session("a1", idle_after_s=0))
    await asyncio.sleep(3_600)
    assert [one.refusal for one in opened.sessions] == [None, None]
    assert places._timer is None
    await opened.ended()


@virtual_time
async def test_an_idle_session_gives_way() -> None:
    """One for each that waits: of the tenant that has most, the one that has been idle longest."""
    places = session_places(4)
    idle = [Session("a0", idle_after_s=9), Session("a1", idle_after_s=5), Session("a2"), Session("b0", idle_after_s=0)]
    opened = Opened(places, *idle)
    await asyncio.sleep(100)
    waiting = Opened(places, Session("c0"))
    await asyncio.sleep(1)
    assert list(waiting.begun()) == [("c0", 0)]
    assert [one.name for one in idle if one.refusal] == ["a1"]
    assert idle[1].refusal is not None
    assert idle[1].refusal.reason is Reason.ARRIVING_FULL
    assert "idle" in idle[1].refusal.message
    await asyncio.sleep(100)
    assert sum(one.refusal is not None for one in idle) == 1, "nobody waits any more"
    await opened.ended()
    await waiting.ended()
    assert (places.taken, places.waiting, places._holders, places._going) == (0, 0, {}, {})


@virtual_time
async def test_a_session_that_becomes_idle_while_another_waits() -> None:
    """It gives way when it has been idle for half of the time that others wait, and not before."""
    places = session_places(1)
    opened = Opened(places, Session("a0", idle_after_s=10))
    await asyncio.sleep(5)
    waiting = Opened(places, Session("b0"))
    await asyncio.sleep(30)
    ((_, after_s),) = waiting.begun()
    assert after_s == pytest.approx(10 - 5 + TIMEOUT_S / 2, abs=0.01)
    await opened.ended()
    await waiting.ended()


@virtual_time
async def test_one_that_was_told_to_go_and_stays() -> None:
    """It is not waited for: another idle one goes instead, after a second. One that goes in time is enough."""
    for ends_in_s, told in ((1e6, ["a0", "a1"]), (0.3, ["a0"])):
        places = session_places(3)
        stuck = Session("a0", idle_after_s=0, ends_in_s=ends_in_s)
        opened = Opened(places, stuck, Session("a1", idle_after_s=1), Session("a2", idle_after_s=2))
        await asyncio.sleep(100)
        waiting = Opened(places, Session("b0"))
        await asyncio.sleep(TIMEOUT_S / 2)
        ((_, after_s),) = waiting.begun()
        assert after_s == pytest.approx(min(1.0, ends_in_s), abs=0.01)
        assert [one.name for one in opened.sessions if one.refusal] == told
        await opened.ended()
        await waiting.ended()
        assert (places.taken, places.waiting, places._going) == (0, 0, {})


@virtual_time
async def test_whoever_leaves_takes_no_place() -> None:
    """A session whose caller goes while it waits leaves nothing behind."""
    places = session_places(1)
    opened = Opened(places, Session("a0", stays_s=5), Session("b0"), Session("c0"))
    await asyncio.sleep(1)
    opened.tasks[1].cancel()
    await asyncio.sleep(10)
    assert list(opened.begun()) == [("a0", 0), ("c0", 5)]
    await opened.ended()
    assert (places.taken, places.waiting) == (0, 0)


@pytest.mark.parametrize(("set_to", "memory", "limit"), [(5_000, 2**30, 5_000), (0, 2**30, 2**29), (0, 0, 2**20)])
def test_the_bound(monkeypatch: pytest.MonkeyPatch, set_to: int, memory: int, limit: int) -> None:
    """As it is set, else half of the memory, else what calls have."""
    monkeypatch.setattr("expresslane.memory.usable_bytes", lambda: memory)
    backends = {"simulated": {"kind": "simulated"}}
    given = {"sessions_limit_bytes": set_to, "arriving_limit_bytes": 2**20, "backends": backends}
    assert sessions_limit_bytes(Settings.model_validate(given)) == limit
