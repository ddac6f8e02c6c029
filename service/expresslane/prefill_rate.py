"""A learned prefill time as the one number that people compare engines by."""

from __future__ import annotations

__all__ = ["RATE_TOKENS", "prefill_rate"]

RATE_TOKENS = 2_048
"""The length of prompt that the rate is for: it is another one for every length."""


def prefill_rate(prefill_ns: tuple[float, float, float]) -> float:
    """Tokens per second of a prompt whose prefill takes c0 + c1 n + c2 n^2 nanoseconds; 0.0: it takes no time."""
    fixed_ns, per_token_ns, per_square_ns = prefill_ns
    typical_ns = fixed_ns + per_token_ns * RATE_TOKENS + per_square_ns * RATE_TOKENS**2
    return RATE_TOKENS * 1e9 / typical_ns if typical_ns else 0.0
