"""The targets, and which of them a result misses."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TARGETS", "missed"]

TARGETS: dict[str, tuple[str, float]] = {
    # No caller had a result for so long that all of them broke off: what they wait for is lost.
    "stood_still": ("at most", 0),
    "lost": ("at most", 0),
    "duplicated": ("at most", 0),
    # A call that is cut off by the service, or refused by it: the callers do not resume.
    "broken_calls": ("at most", 0),
    "foreign": ("at most", 0),
    "cap_exceeded": ("at most", 0),
    # With the cap judged as one less than it is, something must be found, or the check was blind.
    "cap_check_sees": ("at least", 1),
    # Answers with 429 to a service that has been told to stay away; without a storm of them, there were none to count.
    "limited_above": ("at most", 0),
    "limited_seen": ("at least", 1),
    # And without an attempt after a time-out, none that could have gone back to where it was.
    "repeated_after_timeout": ("at most", 0),
    "after_timeout_seen": ("at least", 1),
    "leaked": ("at most", 0),
    "gave_up": ("at most", 0),
    "cancelled_unasked": ("at most", 0),
    # Without a batch that its reader held, the storm would prove nothing of holding.
    "held_seen": ("at least", 1),
    "held_sessions_seen": ("at least", 1),
    # Their readers cancel prompts that wait: the service must have read that, or it would be no cancel.
    "cancelled_while_held": ("at least", 1),
    "success_ratio": ("at least", 0.99),
    "goodput_ratio": ("at least", 0.95),
    "queue_wait_p99_over_bound": ("at most", 1.0),
    "rss_growth": ("at most", 0.02),
    "late_cancels": ("at most", 0),
    # Cancels that a prompt has not outrun, in a transport that can stand still.
    "heeded_ratio": ("at least", 0.95),
    # Of the cancels that were carried out, those whose result came next: a prompt may have begun to run meanwhile.
    "cancelled_at_once_ratio": ("at least", 0.95),
    # Of the prompts that waited before it, the part that a cancel has overtaken.
    "overtook_p50": ("at least", 0.5),
}
_HOLDS: dict[str, Callable[[float, float], bool]] = {"at most": operator.le, "at least": operator.ge}


def missed(result: dict[str, Any]) -> list[str]:
    """A line for each target that the result speaks of and misses."""
    return [
        f"{name} = {result[name]}, {how} {target}"
        for name, (how, target) in TARGETS.items()
        if name in result and not _HOLDS[how](result[name], target)
    ]
