"""Very many prompts through faulty backends: every one ends once, no cap is exceeded, and nothing stays behind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tests.chaos import slow_reader
from tests.chaos.caller import SILENT_S
from tests.chaos.faults import LONG_ANSWER_BYTES, Plan
from tests.chaos.ledger import Ledger
from tests.chaos.world import World, say

__all__ = ["FAULTY", "PLANS", "SETTINGS", "Storm"]

FAULTY = Plan(latency_s=(0.05, 0.14), server_errors=0.10, disconnects=0.05, hangs=0.02, storm_every_s=15.0, storm_s=1.0)
PLANS = (FAULTY, replace(FAULTY, storm_every_s=11.0), replace(FAULTY, flap_every_s=13.0, flap_s=1.5))
SHORT_BELOW = 20_000
HASTY = Plan(server_errors=0.05, disconnects=0.03, hangs=0.01, storm_s=0.5, keep_alive_s=1.0)
SHORT_PLANS = (
    replace(HASTY, storm_every_s=3.0),
    replace(HASTY, storm_every_s=2.5),
    replace(HASTY, storm_every_s=0.0, flap_every_s=4.0, flap_s=0.5),
)
"""For runs of fewer prompts than SHORT_BELOW, which are over before the first storm of the others. Half the faults: of
2,000 prompts at the full rate fewer than 99 % succeed now and then by chance alone. The backends close idle
connections: a service that does so itself takes its time."""
TENANTS = 20
AT_ONCE = 4
CAP = 32
SHORT_CAP = 12
"""So that also on a busy machine it is the cap that holds work back: only then would one too many be seen."""
WARM_UP_TURNS = 2
"""So many calls of each of those at once: the queue is once as full as it will be, and the pools and buffers that are
there for good are filled."""
WARM_UP_MISBEHAVE = 0.03
"""More read slowly than in the storm, so that as many do so at once: what they leave unread needs memory too."""
PATIENCE_S = 90.0
"""Pooled connections are closed after 15 to 30 idle seconds, and once a minute the service asks each backend for its
models: a moment without any comes within a minute."""
SETTINGS = {
    **{f"BACKENDS__B{number}__FIRST_TOKEN_TIMEOUT_S": "2" for number in range(len(PLANS))},
    **{f"BACKENDS__B{number}__IDLE_TIMEOUT_S": "2" for number in range(len(PLANS))},
    # One is an engine, whose lanes are in use; hosted APIs, as the others are, have none.
    "BACKENDS__B0__KIND": "vllm",
    "BACKENDS__B0__LONG_THRESHOLD_TOKENS": "4096",
    "OUTBOX_LIMIT_RESULTS": "16",
    "OUTBOX_LIMIT_BYTES": str(slow_reader.OUTBOX_BYTES),
}


@dataclass(frozen=True, slots=True)
class Storm:
    """How many prompts; each caller sends a thousandth of them, at least 10 and at most 100, and some misbehave.

    A slow reader sends 100, which are more in a short run.
    """

    prompts: int
    seed: int
    misbehave: float = 0.01
    """So large a part of the callers leaves or cancels, and as many read slowly."""
    cancel_after_s: float | None = None
    """When they leave or cancel, from their first prompt on. None: at their first result, or at half of them."""

    @property
    def size(self) -> int:
        """Prompts of one call."""
        return max(10, min(100, self.prompts // 1_000))

    @property
    def cap(self) -> int:
        """Most requests in flight at one backend."""
        return CAP if self.prompts >= SHORT_BELOW else SHORT_CAP

    @property
    def warm_up(self) -> int:
        """Prompts before anything is measured."""
        return WARM_UP_TURNS * TENANTS * AT_ONCE * self.size

    @property
    def misbehave_before(self) -> float:
        """The part of the warm-up's callers."""
        return max(self.misbehave, WARM_UP_MISBEHAVE) if self.misbehave else 0.0

    @property
    def plans(self) -> tuple[Plan, ...]:
        """What the backends do."""
        return PLANS if self.prompts >= SHORT_BELOW else SHORT_PLANS

    def run(self) -> dict[str, Any]:
        """Start everything, let it storm, and look at what is left."""
        with World(self.plans, cap=self.cap, seed=self.seed, settings=SETTINGS) as world:
            empty = world.settled(None, 0)
            done = self._callers(world, "warm-up", self.warm_up, misbehave=self.misbehave_before)
            if done["stood_still"]:
                return self._broken_off(world, "warm-up", done)
            # Memory as it is when warm, all else as it was before anything was asked for, less the pooled connections.
            before = empty.without_connections(rss_bytes=world.levels().rss_bytes)
            world.begin()
            done = self._callers(world, "storm", self.prompts, misbehave=self.misbehave)
            if done["stood_still"]:
                return self._broken_off(world, "storm", done)
            records = world.records()
            after = world.settled(before, PATIENCE_S)
            ledger = Ledger.read(world.folder / "storm.jsonl")
            snapshot = world.snapshot()
        leaks = after.above(before)
        say(f"left above the level before: {', '.join(leaks) or 'nothing'}")
        return {
            "stood_still": 0,
            **self._promised(ledger),
            "cap_exceeded": sum(len(record["exceeded"]) for record in records.values()),
            "cap_check_sees": min(record["seen_if_one_less"] for record in records.values()),
            "limited_above": sum(record["limited"]["above"] for record in records.values()),
            "limited_seen": sum(record["limited"]["storms"] for record in records.values()),
            "leaked": len(leaks),
            "rss_bytes_per_prompt": round((after.rss_bytes - before.rss_bytes) / ledger.sent, 2),
            "after_timeout_seen": ledger.after_timeout,
            **(self._held(ledger) if self.misbehave else {}),
            "success_ratio": round(ledger.success_ratio, 5),
            "prompts": ledger.sent,
            "wall_s": done["wall_s"],
            "callers": ledger.report(),
            "backends": records,
            "service": {"retried": snapshot.retried, "submitted": snapshot.submitted, "refused": snapshot.refused},
            "levels": {"before": before.values(), "after": after.values(), "leaked": leaks},
            "conditions": self._conditions(),
        }

    def _callers(self, world: World, name: str, prompts: int, *, misbehave: float) -> dict[str, Any]:
        return world.call(
            heading=name,
            do="storm",
            name=name[0],
            calls=max(1, prompts // self.size),
            size=self.size,
            tenants=TENANTS,
            at_once=AT_ONCE,
            misbehave=misbehave,
            cancel_after_s=self.cancel_after_s,
            slow_size=slow_reader.SIZE,
            log=str(world.folder / f"{name}.jsonl"),
        )

    def _broken_off(self, world: World, when: str, done: dict[str, Any]) -> dict[str, Any]:
        """What is known of a run in which no caller had a result for too long: what callers were promised, and got.

        Calls that were never made have lost nothing.
        """
        ledger = Ledger.read(world.folder / f"{when}.jsonl")
        say(f"{when}: no caller has had a result for {SILENT_S:g} s; lost {len(ledger.lost):,} of {ledger.sent:,}")
        return {
            "stood_still": 1,
            "stood_still_in": when,
            **self._promised(ledger),
            "prompts": ledger.sent,
            "wall_s": done["wall_s"],
            "callers": ledger.report(),
            "conditions": self._conditions(),
        }

    @staticmethod
    def _promised(ledger: Ledger) -> dict[str, float]:
        """What the callers' logs alone tell."""
        return {
            "lost": len(ledger.lost),
            "duplicated": len(ledger.duplicated),
            "broken_calls": len(ledger.errors),
            "foreign": len(ledger.foreign),
            "mismatch_rate": round(ledger.mismatch_rate, 6),
            "gave_up": len(ledger.gave_up),
            "cancelled_unasked": len(ledger.cancelled_unasked),
            "repeated_after_timeout": len(ledger.repeated),
        }

    @staticmethod
    def _held(ledger: Ledger) -> dict[str, int]:
        """What slow readers have seen. A prompt of a held session ends by its cancel alone: nothing of it runs."""
        return {
            "held_seen": ledger.held,
            "held_sessions_seen": ledger.held_sessions,
            "cancelled_while_held": ledger.cancelled_held,
        }

    def _conditions(self) -> dict[str, Any]:
        return {
            "tenants": TENANTS,
            "calls_at_once": TENANTS * AT_ONCE,
            "prompts_per_call": self.size,
            "cap_per_backend": self.cap,
            "misbehaving": {
                "cancel_or_leave": self.misbehave,
                "after_s": self.cancel_after_s,
                "read_slowly": self.misbehave,
                "in_the_warm_up": self.misbehave_before,
            },
            "slow_readers": {"prompts_per_call": slow_reader.SIZE, "bytes_per_answer": LONG_ANSWER_BYTES},
            "plans": [plan.values() for plan in self.plans],
            "service": SETTINGS,
            "warm_up_prompts": self.warm_up,
            "longest_silence_s": SILENT_S,
        }
