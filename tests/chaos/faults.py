"""What a faulty backend does with its next request: drawn from one seed, at the rates of a plan."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING, Any

from tests.support.fake_backend import Script, SeenRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["AT_LENGTH", "CALM", "LONG_ANSWER_BYTES", "SHORTEST_PAUSE_S", "Faults", "Plan"]

LIMITED = b'{"error":{"message":"too many requests","type":"requests","code":"rate_limit_exceeded"}}'
BROKEN = b'{"error":{"message":"it broke","type":"server_error"}}'
SERVER_ERRORS = (500, 502, 503, 504, 529)
CUT_AFTER = (1, 2, 3)
"""After the headers and some pieces, always before the finish reason."""
AT_LENGTH = "at length"
LONG_ANSWER_BYTES = 200_000
SHORTEST_PAUSE_S = 0.7
"""The least that a 429 asks for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Rates are parts of all requests; the times of storms and flaps are seconds since the backend's start."""

    latency_s: tuple[float, float] = (0.03, 0.09)
    """The time to an answer is uniform between these."""
    server_errors: float = 0.0
    disconnects: float = 0.0
    """The connection is cut in the middle of the stream."""
    hangs: float = 0.0
    """Half of them before the headers, half in the middle of the stream."""
    storm_every_s: float = 0.0
    """How often a storm of 429 with Retry-After begins. 0: never."""
    storm_s: float = 1.0
    """How long it lasts."""
    flap_every_s: float = 0.0
    """How often the backend cuts everything and refuses connections. 0: never."""
    flap_s: float = 1.0
    """How long it refuses them."""
    keep_alive_s: float = 0.0
    """After how much idle time it closes a connection, without a word. 0: never."""

    def values(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return asdict(self)


CALM = Plan()


class Faults:
    """Decides request by request. `begin` starts the clock of storms."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self._plan = plan
        self._chance = Random(seed)
        self._asked = self._ask()
        self._begun_s = 0.0
        self.counts: dict[str, int] = {}
        self.limited: Counter[int] = Counter()
        """Answers with 429 by storm, from 0."""

    def begin(self) -> None:
        """Storms count from now, and so does the record."""
        self._begun_s = asyncio.get_running_loop().time()
        self.counts.clear()
        self.limited.clear()

    def script(self, request: SeenRequest) -> Script:
        """What to do with this request."""
        kind = self._kind()
        self.counts[kind] = self.counts.get(kind, 0) + 1
        plan, chance = self._plan, self._chance
        never = asyncio.Event()
        match kind:
            case "limited":
                return Script(status=429, headers=next(self._asked), body=LIMITED)
            case "server_error":
                return Script(status=chance.choice(SERVER_ERRORS), body=BROKEN)
            case "disconnect":
                return Script(cut_after=chance.choice(CUT_AFTER))
            case "hang_at_once":
                return Script(before_headers=never)
            case "hang_in_stream":
                return Script(gates={2: never})
        asyncio.get_running_loop().call_later(chance.uniform(*plan.latency_s), never.set)
        return Script(before_headers=never, reasoning=reasoning_to(request.body))

    def _kind(self) -> str:
        plan = self._plan
        since_s = asyncio.get_running_loop().time() - self._begun_s
        if plan.storm_every_s and since_s % plan.storm_every_s > plan.storm_every_s - plan.storm_s:
            self.limited[int(since_s // plan.storm_every_s)] += 1
            return "limited"
        roll = self._chance.random()
        for kind, share in (
            ("server_error", plan.server_errors),
            ("disconnect", plan.disconnects),
            ("hang_at_once", plan.hangs / 2),
            ("hang_in_stream", plan.hangs / 2),
        ):
            if roll < share:
                return kind
            roll -= share
        return "answered"

    @staticmethod
    def _ask() -> Iterator[Mapping[str, str]]:
        """Every form in which a provider says when to come back, in turn."""
        for form in cycle(("seconds", "milliseconds", "date")):
            if form == "seconds":
                yield {"Retry-After": "1"}
            elif form == "milliseconds":
                yield {"retry-after-ms": f"{SHORTEST_PAUSE_S * 1e3:.0f}"}
            else:  # cut to whole seconds, so at least one
                yield {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)}


def reasoning_to(body: bytes) -> str:
    """LONG_ANSWER_BYTES before the echo, where the prompt asks to be answered at length; else nothing.

    Reasoning, because the backend's usage leaves it out: were it counted, a slow reader's tenant would have had its
    share after a few answers, and its prompts would wait for that and not for their reader.
    """
    return "r" * LONG_ANSWER_BYTES if AT_LENGTH.encode() in body else ""
