"""Limits and bounds in one line: what is used of them, what is closed now, and what that has cost (T11, T14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expresslane.cli.console import joined, one_line
from expresslane.cli.summary_table import seconds

if TYPE_CHECKING:
    from expresslane_client import Backend, Tenant

__all__ = ["bounds_text", "limits_text", "size_text"]


def limits_text(one: Backend | Tenant) -> str:
    """The limits of a backend or a tenant; empty where there are none and never were."""
    requests = f"{one.requests_in_window:,} of {one.requests_per_min:,} requests/min"
    tokens = f"{one.tokens_in_window:,} of {one.tokens_per_min:,} tokens/min"
    limit = one.limited_by
    now = f"rate limited ({one_line(limit.limit)}), {seconds(limit.reset_in_ms)} left" if limit else ""
    times, total = one.rate_limited_times, seconds(one.rate_limited_ms)
    since = f"rate limited {times:,} time{'s' * (times != 1)}, {total} in all" if times else ""
    return joined((requests * bool(one.requests_per_min), tokens * bool(one.tokens_per_min), now, since))


def bounds_text(one: Tenant) -> str:
    """What is held for a tenant, of how much, as far as it has bounds of its own."""
    held = one.holdings
    counts = (
        (one.queued + one.in_flight, one.queue_limit_prompts, "prompts"),
        (held.open_calls, one.max_open_calls, "open calls"),
        (held.open_sessions, one.max_open_sessions, "open sessions"),
        (held.unread_results, one.unread_limit_results, "unread results"),
        (held.jobs, one.job_limit, "jobs"),
        (held.kept_batches, one.kept_limit, "kept batches"),
    )
    sizes = (
        (held.unread_bytes, one.unread_limit_bytes, "unread"),
        (held.job_result_bytes, one.job_results_limit_bytes, "results of jobs"),
        (held.kept_result_bytes, one.kept_results_limit_bytes, "results of kept batches"),
    )
    prompts = f"at most {size_text(one.queue_limit_bytes)} of prompts" if one.queue_limit_bytes else ""
    return joined(
        (
            *(f"{have:,} of {most:,} {what}" for have, most, what in counts if most),
            prompts,
            *(f"{size_text(have)} of {size_text(most)} {what}" for have, most, what in sizes if most),
        )
    )


def size_text(count: int) -> str:
    """Bytes for a person."""
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.1f} KiB"
