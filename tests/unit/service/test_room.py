"""Room for sessions: how many prompts fit, and whose turn it is when some do."""

from __future__ import annotations

import pytest
from expresslane.batches.held import Bounds, Held
from expresslane.room import Admit, Room


@pytest.mark.parametrize(
    ("sizes", "bounds", "own_bounds", "fitting"),
    [
        ([100] * 9, Bounds(), Bounds(), 9),
        ([100] * 9, Bounds(count=6), Bounds(), 4),
        ([100] * 9, Bounds(count=6), Bounds(count=4), 3),
        ([100] * 9, Bounds(), Bounds(count=1), 0),
        ([100] * 9, Bounds(bytes=700), Bounds(), 2),
        ([100] * 9, Bounds(bytes=700), Bounds(bytes=100), 0),
        ([100, 800, 100, 100], Bounds(bytes=700), Bounds(), 3),
        ([800], Bounds(count=2, bytes=700), Bounds(), 0),
        ([300, 100], Bounds(bytes=700), Bounds(), 0),
        ([], Bounds(), Bounds(), 0),
    ],
)
def test_how_many_fit(sizes: list[int], bounds: Bounds, own_bounds: Bounds, fitting: int) -> None:
    """As many as all bounds allow, in order; what is larger than a whole bound waits for its place only."""
    held = Held()
    held.take("other", 1, 400)
    held.take("own", 1, 100)
    assert held.fitting("own", sizes, bounds, own_bounds) == fitting


class Queue:
    """Places that sessions of tenants wait for, each for as many as it wants."""

    def __init__(self) -> None:
        self.room = Room()
        self.places = 0
        self.served: list[str] = []

    def waits(self, tenant: str, name: str, wanted: int, *, at_its_bound: bool = False) -> None:
        """One that takes a place at a time."""
        left = [wanted]

        def admit() -> int:
            if at_its_bound or not self.places:
                return 0
            self.places -= 1
            left[0] -= 1
            self.served.append(name)
            if not left[0]:
                self.room.leave(tenant, again)
            return 1

        again: Admit = admit
        self.room.wait(tenant, again)
        self.room.wait(tenant, again)

    def freed(self, places: int) -> str:
        """Who gets them, in order."""
        self.places += places
        self.served.clear()
        self.room.freed()
        return "".join(self.served)


def test_turns_within_a_tenant() -> None:
    """Whoever got room goes behind the others, also from one poll to the next; nobody is called in vain at the end."""
    queue = Queue()
    queue.waits("t", "a", 3)
    queue.waits("t", "b", 2)
    queue.waits("t", "c", 1)
    assert [queue.freed(places) for places in (0, 1, 2, 1, 9)] == ["", "a", "bc", "a", "ba"]
    assert not queue.room._waiting


def test_turns_of_tenants() -> None:
    """One place at a time goes round the tenants; one at its own bound keeps no other waiting."""
    queue = Queue()
    queue.waits("bound", "x", 1, at_its_bound=True)
    queue.waits("s", "a", 2)
    queue.waits("t", "b", 2)
    assert [queue.freed(1) for _ in range(5)] == ["a", "b", "a", "b", ""]
