"""The order in which the documented policies put prompts, and whether a backend was asked in it."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.virtual_prompts import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.support.virtual_service import VirtualBackend

__all__ = ["EXACT", "SCORES", "Sent", "Waiter", "check_order", "edge", "prefill_s", "sent_of"]

EXACT = 1e-6
"""Seconds, and parts of a score: what rounding to nanoseconds can do."""
EDGES = sorted({round(2 ** (fifth / 5)) for fifth in range(120)})


def edge(tokens: int) -> int:
    """The upper edge of the bucket that holds a prompt of so many tokens: 2^(k/5), rounded."""
    return EDGES[bisect_left(EDGES, tokens)]


def prefill_s(tokens: float) -> float:
    """What the core believes of a backend that it knows nothing of: 5,000 tokens/s and 5 ms."""
    return 0.005 + tokens / 5_000


@dataclass(frozen=True, slots=True)
class Waiter:
    """A prompt that waits: its tokens, when it came and within which time it is wanted, in virtual seconds."""

    name: str
    tokens: int
    came_s: float
    target_s: float | None = None

    @property
    def service_s(self) -> float:
        """Its predicted service time, where answers have no decode time."""
        return prefill_s(edge(self.tokens))

    def due_s(self, otherwise_s: float) -> float:
        """When it is wanted."""
        return self.came_s + (otherwise_s if self.target_s is None else self.target_s)


SCORES: dict[str, Callable[[Waiter, float], float]] = {
    "fcfs": lambda one, _: -one.came_s,
    "edf": lambda one, _: -one.due_s(60.0),
    "hrrn": lambda one, now_s: (now_s - one.came_s) / one.service_s,
    "lars": lambda one, now_s: (now_s - one.due_s(10 * one.service_s)) / one.service_s,
    "ljf": lambda one, _: one.service_s - 0.01 * one.came_s,
    "sjf": lambda one, _: -one.service_s,
    "sjf-aged": lambda one, _: -(one.came_s + edge(one.tokens) / 1_000),
}
"""What each policy's documentation says: of all that wait the largest goes first.

A model of its own, in seconds and without buckets or heaps: of the core it shares nothing but the edges' formula.
"""


@dataclass(frozen=True, slots=True)
class Sent:
    """A prompt as the backend saw it."""

    prompt: Waiter
    at_s: float


def sent_of(fake: VirtualBackend, waiters: Mapping[str, Waiter]) -> list[Sent]:
    """What the backend was asked for, in order; what is not among the waiters is left out."""
    asked = [(name_of(request), request.begun_ns / 1e9) for request in fake.generations]
    return [Sent(waiters[name], at_s) for name, at_s in asked if name in waiters]


def check_order(policy: str, sent: Sequence[Sent]) -> int:
    """Fail where one went before another that had waited too and scored higher. Returns how often one was passed."""
    passed, score = 0, SCORES[policy]
    for place, one in enumerate(sent):
        for other in sent[place + 1 :]:
            if other.prompt.came_s >= one.at_s - EXACT:
                continue
            passed += other.prompt.came_s < one.prompt.came_s
            ours, theirs = score(one.prompt, one.at_s), score(other.prompt, one.at_s)
            assert ours >= theirs - EXACT * max(1.0, abs(theirs)), (
                f"{policy}: at {one.at_s} s {one.prompt} went before {other.prompt}: {ours} is below {theirs}"
            )
    return passed
