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
WIDE_TOKENS = 1_000_000_000
SECOND_NS = 10**9


def measure(*, rounds: int, seed: int) -> dict[str, Any]:
    """CPU time per decision of this thread, median of `rounds`, by queue, tenants and lanes; the worst is the figure.

    A round submits 1,000 prompts in batches of 100 to a scheduler that holds the others, polls once, reads all
    decisions, and ends them. Only the poll and the reading are measured. Lanes that are on look at every prompt, but
    are wide enough for all of them: a full one would let fewer go.
    """
    cases = {
        f"{queued:,} more queued, {tenants:,} tenants, lanes {'on' if lanes else 'off'}": _case(
            queued, tenants, rounds, seed, lanes=lanes
        )
        for queued in (0, 100_000)
        for tenants in (1, 1_000)
        for lanes in (False, True)
    }
    return {
        "poll_ns_per_decision_1000": round(max(cases.values())),
        **{name: round(ns) for name, ns in cases.items()},
    }


def _case(queued: int, tenants: int, rounds: int, seed: int, *, lanes: bool) -> float:
    chance = random.Random(seed)
    core = _scheduler.Scheduler()
    now = SECOND_NS
    for backend in range(BACKENDS):
        core.update_backend(
            now,
            backend,
            cap=DECISIONS // BACKENDS,
            models=[(0, 0)],
            lanes=lanes,
            long_slots=DECISIONS,
            short_budget_tokens=WIDE_TOKENS,
        )
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
