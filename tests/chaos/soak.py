"""Hours of faults at four fifths of what the service can do: all of it is done, and memory stays where it was."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from tests.bench.processes import BenchError, rss_bytes
from tests.chaos.storm import AT_ONCE, CAP, PLANS, SETTINGS, SHORT_PLANS, TENANTS
from tests.chaos.world import World, say

__all__ = ["Soak", "growth", "success_ratio"]

LOAD = 0.8
SIZE = 10
LATENCY_S = (0.25, 0.75)
"""Slow enough that the backends' slots are the capacity, not the processors of a machine that others use too: what was
four fifths at the start is four fifths half an hour later."""
CALIBRATION_CALLS = 600
WARM_SHARE = 1 / 6
"""Five minutes of thirty."""
SAMPLE_S = 1.0
DEADLINE_S = 120.0
CLIENTS = 20


def growth(samples: list[tuple[float, int]], warm_s: float, end_s: float, window_s: float) -> float:
    """How far the last window's median lies above that of the window which begins at `warm_s`, as a part of it.

    Samples are (seconds, bytes); a median, because single samples catch a batch on its way.
    """
    early = median(size for at, size in samples if warm_s <= at < warm_s + window_s)
    late = median(size for at, size in samples if end_s - window_s <= at < end_s)
    return late / early - 1


def success_ratio(offered: dict[str, Any]) -> float:
    """Of all prompts that were offered, those that succeeded within their caller's deadline.

    What was refused, came late or never came counts against it; nobody cancels here.
    """
    return float(offered["outcomes"].get("succeeded", 0) / max(1, offered["offered"]))


@dataclass(frozen=True, slots=True)
class Soak:
    """Open loop in calls of 10 prompts through the storm's backends.

    The first sixth is warm-up, as five minutes are of thirty. A shorter run is held to the same 2 %, over fewer
    prompts: it finds less, and says by `bytes_per_prompt` what it would have found.
    """

    minutes: float
    seed: int

    def run(self) -> dict[str, Any]:
        """Find the capacity, soak, and compare memory early and late."""
        seconds = self.minutes * 60
        plans = [replace(plan, latency_s=LATENCY_S) for plan in (PLANS if self.minutes > 5 else SHORT_PLANS)]
        with World(plans, cap=CAP, seed=self.seed, settings=SETTINGS) as world:
            capacity = self._capacity(world)
            if not capacity:
                raise BenchError("the service completes nothing: it has no capacity that a soak could be a part of")
            say(f"capacity {capacity:.0f} prompts/s with faults")
            world.begin()
            samples: list[tuple[float, int]] = []
            stop = threading.Event()
            sampler = threading.Thread(target=self._sample, args=(world.service.pid, samples, stop))
            sampler.start()
            try:
                done = world.call(
                    heading="soak",
                    do="open_loop",
                    rate=LOAD * capacity,
                    size=SIZE,
                    seconds=seconds,
                    skip_s=seconds * WARM_SHARE,
                    deadline_s=DEADLINE_S,
                    clients=CLIENTS,
                )
            finally:
                stop.set()
                sampler.join()
            records = world.records()
        warm_s, window_s = seconds * WARM_SHARE, min(60.0, seconds / 8)
        grown = growth(samples, warm_s, seconds, window_s)
        early = median(size for at, size in samples if warm_s <= at < warm_s + window_s)
        counted = done["offered_per_s"] * (seconds - warm_s)
        return {
            "rss_growth": round(grown, 4),
            "success_ratio": round(success_ratio(done), 5),
            "bytes_per_prompt": round(grown * early / counted, 2),
            "rss_after_warm_up": early,
            "capacity_per_s": round(capacity, 1),
            "offered": done,
            "cap_exceeded": sum(len(record["exceeded"]) for record in records.values()),
            "backends": {name: record["did"] for name, record in records.items()},
            "conditions": {
                "minutes": self.minutes,
                "load": LOAD,
                "warm_up_s": warm_s,
                "window_s": window_s,
                "plans": [plan.values() for plan in plans],
                "service": SETTINGS,
                "found_from_bytes_per_prompt": round(0.02 * early / counted, 2),
            },
        }

    def _capacity(self, world: World) -> float:
        """Prompts a second with faults, storms and flaps, as the storm's callers get them."""
        world.begin()
        return world.steady_per_s(
            name="c",
            calls=CALIBRATION_CALLS,
            size=SIZE,
            tenants=TENANTS,
            at_once=AT_ONCE,
            misbehave=0.0,
            log=str(world.folder / "capacity.jsonl"),
        )

    @staticmethod
    def _sample(pid: int, samples: list[tuple[float, int]], stop: threading.Event) -> None:
        begun = time.monotonic()
        while not stop.wait(SAMPLE_S):
            samples.append((time.monotonic() - begun, rss_bytes(pid)))
