"""Callers that come at a rate of their own, whatever the service answers, each with a deadline."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

from expresslane_client import CallError, Client, Outcome, Prompt

from tests.bench import child

__all__ = ["OpenLoop", "quantile"]

TELL_S = 5.0


def quantile(values: list[float], share: float) -> float:
    """The nearest-rank quantile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class OpenLoop:
    """Poisson arrivals of calls of `size` prompts; counts what completes within the caller's deadline."""

    def __init__(self, address: str, seed: int) -> None:
        self._address = address
        self._chance = Random(seed)
        self._counts: Counter[str] = Counter()
        self._offered = 0
        self._refusals: Counter[str] = Counter()
        self._in_time_s: list[float] = []
        self._queue_ms: list[float] = []
        self._late_start_s = 0.0

    async def run(
        self, *, rate: float, size: int, seconds: float, skip_s: float, deadline_s: float, clients: int
    ) -> dict[str, Any]:
        """Offer `rate` prompts a second for `seconds`. Goodput counts completions after the first `skip_s` of them."""
        loop = asyncio.get_running_loop()
        channels = [Client(self._address) for _ in range(clients)]
        calls: set[asyncio.Task[None]] = set()
        begun = due = told = loop.time()
        number = 0
        while due - begun < seconds:
            now = loop.time()
            self._late_start_s = max(self._late_start_s, now - due)
            await asyncio.sleep(max(0.0, due - now))
            call = asyncio.create_task(self._call(channels[number % clients], number, size, deadline_s, begun))
            calls.add(call)
            call.add_done_callback(calls.discard)
            number += 1
            due += self._chance.expovariate(rate / size)
            if loop.time() - told > TELL_S:
                told = loop.time()
                child.reply(ended=sum(self._counts.values()), offered=self._offered)
        while calls:
            await asyncio.wait(list(calls))
        for channel in channels:
            await channel.close()
        counted = [at for at in self._in_time_s if skip_s <= at < seconds]
        return {
            "offered": self._offered,
            "offered_per_s": round(self._offered / seconds, 1),
            "outcomes": dict(self._counts),
            "refusals": dict(self._refusals),
            "goodput_per_s": round(len(counted) / (seconds - skip_s), 2),
            "queue_wait_s": {
                name: round(quantile(self._queue_ms, share) / 1e3, 3)
                for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
            },
            "latest_arrival_s": round(self._late_start_s, 3),
        }

    async def _call(self, client: Client, number: int, size: int, deadline_s: float, begun: float) -> None:
        self._offered += size
        loop = asyncio.get_running_loop()
        sent = loop.time()
        prompts = [Prompt(f"o{number}-{item}", f"o{number}-{item} please", model="m") for item in range(size)]
        left = size
        try:
            async for result in client.generate_batch(prompts, timeout_s=deadline_s, resume=False):
                left -= 1
                self._queue_ms.append(result.queue_ms)
                now = loop.time()
                outcome = result.outcome.value
                if result.outcome is Outcome.SUCCEEDED:
                    if now - sent <= deadline_s:
                        self._in_time_s.append(now - begun)
                    else:
                        outcome = "late"
                self._counts[outcome] += 1
        except CallError as error:
            self._counts["refused"] += left
            self._refusals[getattr(error, "reason", "") or type(error).__name__] += left
