"""Limits in one line: what is used of them, what is closed now, and what that has cost so far (T11, T14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expresslane.cli.console import joined, one_line
from expresslane.cli.summary_table import seconds

if TYPE_CHECKING:
    from expresslane_client import Backend, Tenant

__all__ = ["limits_text"]


def limits_text(one: Backend | Tenant) -> str:
    """The limits of a backend or a tenant; empty where there are none and never were."""
    requests = f"{one.requests_in_window:,} of {one.requests_per_min:,} requests/min"
    tokens = f"{one.tokens_in_window:,} of {one.tokens_per_min:,} tokens/min"
    limit = one.limited_by
    now = f"rate limited ({one_line(limit.limit)}), {seconds(limit.reset_in_ms)} left" if limit else ""
    times, total = one.rate_limited_times, seconds(one.rate_limited_ms)
    since = f"rate limited {times:,} time{'s' * (times != 1)}, {total} in all" if times else ""
    return joined((requests * bool(one.requests_per_min), tokens * bool(one.tokens_per_min), now, since))
