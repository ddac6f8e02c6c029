"""When a batch must end so that its summary still reaches the caller before the caller's deadline."""

from __future__ import annotations

__all__ = ["batch_deadline_ns"]

MARGIN_SHARE = 0.05
MARGIN_MIN_S = 0.05
MARGIN_MAX_S = 2.0
NONE_BEYOND_S = 10 * 365 * 86_400.0


def batch_deadline_ns(now_ns: int, remaining_s: float | None) -> int:
    """The batch's own monotonic deadline, 0 for none: 5 % of `remaining_s` (50 ms to 2 s) before the caller's."""
    if remaining_s is None or remaining_s > NONE_BEYOND_S:
        return 0
    margin_s = min(MARGIN_MAX_S, max(MARGIN_MIN_S, remaining_s * MARGIN_SHARE))
    return now_ns + max(1, int((remaining_s - margin_s) * 1e9))
