"""What callers were promised and what they got, counted from their own log alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Ledger"]

SHOWN = 10
ATTEMPTS = 3
_TIMEOUTS = frozenset({"FIRST_TOKEN_TIMEOUT", "IDLE_TIMEOUT", "ATTEMPT_TIMEOUT"})


@dataclass(slots=True)
class Ledger:
    """A caller that left is owed nothing more: what it did not get counts as `abandoned`, not as lost."""

    calls: Counter[str] = field(default_factory=Counter)
    """Calls by what their caller did."""
    sent: int = 0
    lost: list[str] = field(default_factory=list)
    """Sent, not given up, and never answered."""
    duplicated: list[str] = field(default_factory=list)
    """Answered more than once."""
    foreign: list[str] = field(default_factory=list)
    """Answered to a call that never sent them, or with another prompt's answer."""
    abandoned: int = 0
    cancelled_unasked: list[str] = field(default_factory=list)
    """Cancelled, though their caller has not asked for it."""
    held: int = 0
    """Calls whose reader has seen its batch held, sessions left out."""
    held_sessions: int = 0
    """Sessions whose reader has seen them held."""
    cancelled_held: int = 0
    """Prompts that were cancelled in these."""
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """Of prompts that failed or expired."""
    attempts: Counter[int] = field(default_factory=Counter)
    gave_up: list[str] = field(default_factory=list)
    """Failed or expired before all their attempts were made."""
    repeated: list[str] = field(default_factory=list)
    """Tried again at a backend where an attempt had timed out before. All backends serve the one model of a storm."""
    after_timeout: int = 0
    """Attempts at prompts of which one had timed out before."""
    errors: list[str] = field(default_factory=list)
    """Of calls that ended with an error of their own."""

    @classmethod
    def read(cls, log: Path) -> Ledger:
        """From a file with one call on each line."""
        ledger = cls()
        with log.open("rb") as lines:
            for line in lines:
                ledger.add(orjson.loads(line))
        return ledger

    def add(self, call: dict[str, Any]) -> None:
        """One call.

        {behaviour, sent: [custom_id], results: [[custom_id, outcome, reason, attempts, own, tried]], cancelled:
        [custom_id], left, held, error}; `cancelled` is what its caller asked to be, `tried` [backend, reason] of each
        attempt there was, oldest first, where there was more than one.
        """
        self.calls[call["behaviour"]] += 1
        if call["behaviour"] == "slow session":
            self.held_sessions += call["held"]
            if call["held"]:
                self.cancelled_held += sum(outcome == "cancelled" for _, outcome, *_ in call["results"])
        else:
            self.held += call["held"]
        sent, asked = set(call["sent"]), set(call["cancelled"])
        got = Counter(custom_id for custom_id, *_ in call["results"])
        missing = [custom_id for custom_id in call["sent"] if custom_id not in got]
        self.sent += len(call["sent"])
        if call["left"]:
            self.abandoned += len(missing)
        else:
            self.lost += missing
        self.duplicated += [custom_id for custom_id, times in got.items() if times > 1]
        for custom_id, outcome, reason, attempts, own, tried in call["results"]:
            self.outcomes[outcome] += 1
            self.attempts[attempts] += 1
            if reason:
                self.reasons[f"{outcome}: {reason}"] += 1
            if outcome in ("failed", "expired") and attempts < ATTEMPTS:
                self.gave_up.append(custom_id)
            if outcome == "cancelled" and custom_id not in asked:
                self.cancelled_unasked.append(custom_id)
            if custom_id not in sent or not own:
                self.foreign.append(custom_id)
            self._follow(custom_id, tried)
        if call["error"]:
            self.errors.append(call["error"])

    def _follow(self, custom_id: str, tried: list[tuple[str, str]]) -> None:
        """From one attempt to the next."""
        timed_out: list[str] = []
        for backend, reason in tried:
            self.after_timeout += bool(timed_out)
            if backend in timed_out:
                self.repeated.append(custom_id)
            if reason in _TIMEOUTS:
                timed_out.append(backend)

    @property
    def mismatch_rate(self) -> float:
        """Of all answers, those of another call or prompt."""
        return len(self.foreign) / max(1, sum(self.outcomes.values()))

    @property
    def success_ratio(self) -> float:
        """Of the prompts that their callers did not cancel and stayed for, those that succeeded."""
        asked = self.outcomes["cancelled"] - len(self.cancelled_unasked)
        wanted = sum(self.outcomes.values()) - asked + len(self.lost)
        return self.outcomes["succeeded"] / wanted if wanted else 0.0

    def report(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "calls": dict(self.calls),
            "sent": self.sent,
            "abandoned_by_leaving_callers": self.abandoned,
            "outcomes": dict(self.outcomes),
            "reasons": dict(self.reasons),
            "attempts": {str(number): count for number, count in sorted(self.attempts.items())},
            "errors_of_calls": self.errors[:SHOWN],
            "gave_up": self.gave_up[:SHOWN],
            "repeated_after_timeout": self.repeated[:SHOWN],
            "cancelled_unasked": self.cancelled_unasked[:SHOWN],
            "lost": self.lost[:SHOWN],
            "duplicated": self.duplicated[:SHOWN],
            "foreign": self.foreign[:SHOWN],
        }
