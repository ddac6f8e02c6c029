"""How many 429s a backend may give in one of its storms to whom it asks to be left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.faults import SHORTEST_PAUSE_S

if TYPE_CHECKING:
    from tests.chaos.faults import Plan

__all__ = ["allowed"]


def allowed(plan: Plan, cap: int) -> int:
    """Most 429s in one storm of a plan, to a service that heeds Retry-After with at most `cap` requests in flight.

    The first 429 that the service reads begins a pause. Until then it has read no other, so all the others of this
    burst are to requests that are in flight at that moment: the burst is no larger than the cap. The next one comes
    when the pause is over, SHORTEST_PAUSE_S later at the least, and again begins a pause. In a storm of `storm_s`
    there is the first burst, and one more for each shortest pause that fits into it. A service that is slow only makes
    it fewer.

    A request that is cancelled while its 429 is on the way leaves its place to one more. That is not allowed for: it
    takes a full burst, and a cancel within the milliseconds that it lasts.
    """
    return cap * (1 + int(plan.storm_s / SHORTEST_PAUSE_S))
