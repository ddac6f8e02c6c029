"""One poll that releases 1,000 prompts, as the driver calls it: from Python, with what Python then does to read it."""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

from expresslane import _scheduler

__all__ = ["measure"]

DECISIONS = 1_000
BATCH = 100
BACKENDS = 4
SECOND_NS = 10**9


def measure(*, rounds: int, seed: int) -> dict[str, Any]:
    """CPU time per decision of this thread, median of `rounds`, by prompts queued and tenants; the worst is the figure.

    A round submits 1,000 prompts in batches of 100 to a scheduler that holds the others, polls once, reads all
    decisions, and ends them. Only the poll and the reading are measured.
    """
    cases = {
        (queued, tenants): _case(queued, tenants, rounds, seed) for queued in (0, 100_000) for tenants in (1, 1_000)
    }
    return {
        "poll_ns_per_decision_1000": round(max(cases.values())),
        **{f"{queued:,} more queued, {tenants:,} tenants": round(ns) for (queued, tenants), ns in cases.items()},
    }


def _case(queued: int, tenants: int, rounds: int, seed: int) -> float:
    chance = random.Random(seed)
    core = _scheduler.Scheduler()
    now = SECOND_NS
    for backend in range(BACKENDS):
        core.update_backend(now, backend, cap=DECISIONS // BACKENDS, models=[(0, 0)], lanes=False)
    batch = 0

    def submit(prompts: int) -> None:
        nonlocal batch
        for _ in range(prompts // BATCH):
            batch += 1
            lengths = (min(100_000, max(1, round(chance.lognormvariate(6.5, 1.3)))) for _ in range(BATCH))
            rows = [(0, 1, tokens, 0, index, 200, False, 0) for index, tokens in enumerate(lengths)]
            core.submit(now, batch, rows, tenant=batch % tenants)

    submit(queued)
    spent = []
    for _ in range(rounds):
        submit(DECISIONS)
        start = time.thread_time_ns()
        released = [number for number, _backend, _attempt in zip(*core.poll(now).dispatches, strict=True)]
        spent.append((time.thread_time_ns() - start) / DECISIONS)
        assert len(released) == DECISIONS
        now += SECOND_NS // 1_000
        for number in released:
            core.finish(now, number, "success")
    return statistics.median(spent)
