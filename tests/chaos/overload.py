"""Three times what the service can do: it does as much as at capacity, and what it accepts does not wait too long."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tests.chaos.faults import CALM
from tests.chaos.world import World, say

__all__ = ["Overload"]

BACKENDS = 3
CAP = 20
LATENCY_S = 0.5
"""As short answers of a model take; long beside what a busy machine adds to it."""
BOUND_S = 10.0
DEADLINE_S = 15.0
"""The caller's deadline: the bound, and what a caller would leave for the answer itself."""
LOADS = (1.0, 3.0)
CLIENTS = 8


@dataclass(frozen=True, slots=True)
class Overload:
    """Open loop, single prompts; `seconds` at each load, of which the first are not counted while the queue fills.

    The bound is given to the service in seconds, as an operator writes it; how much work that is it finds out itself.
    """

    seconds: float
    seed: int

    def run(self) -> dict[str, Any]:
        """Find the capacity, then offer it once and three times, each to a service of its own."""
        capacity = self._capacity()
        say(f"capacity {capacity:.1f} prompts/s; queue bound {BOUND_S:g} s")
        at = {load: self._offer(load, load * capacity) for load in LOADS}
        once, thrice = (at[load] for load in LOADS)
        return {
            "goodput_ratio": round(thrice["goodput_per_s"] / once["goodput_per_s"], 4),
            "queue_wait_p99_over_bound": round(thrice["queue_wait_s"]["p99"] / BOUND_S, 4),
            "capacity_per_s": round(capacity, 1),
            "queue_bound_s": BOUND_S,
            "loads": {f"{load:g}x": values for load, values in at.items()},
            "conditions": {
                "seconds_at_each_load": self.seconds,
                "caller_deadline_s": DEADLINE_S,
                "backends": f"{BACKENDS} x cap {CAP}, {LATENCY_S} s, no faults",
                "arrivals": "Poisson, single prompts of one tenant, no call repeated",
                "goodput": "completions within the caller's deadline after the queue bound's time, per second",
            },
        }

    def _world(self, **settings: str) -> World:
        calm = replace(CALM, latency_s=(LATENCY_S, LATENCY_S))
        return World([calm] * BACKENDS, cap=CAP, seed=self.seed, settings=settings)

    def _capacity(self) -> float:
        """Prompts a second when there is always one waiting, start and end of the run not counted."""
        calls, size = 120, 20
        with self._world() as world:
            command = {"name": "c", "size": size, "tenants": 1, "at_once": 20, "misbehave": 0.0}
            log = str(world.folder / "capacity.jsonl")
            world.call(heading="warm-up", do="storm", calls=5, log=log, **command)
            return world.steady_per_s(calls=calls, log=log, **command)

    def _offer(self, load: float, rate: float) -> dict[str, Any]:
        with self._world(QUEUE_LIMIT_S=f"{BOUND_S:g}") as world:
            return world.call(
                heading=f"{load:g}x",
                do="open_loop",
                rate=rate,
                size=1,
                seconds=self.seconds,
                skip_s=BOUND_S,
                deadline_s=DEADLINE_S,
                clients=CLIENTS,
            )
