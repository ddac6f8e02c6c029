"""`expresslane status`: queue, work in flight and outcomes of the running service at a glance (A28)."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from expresslane.cli.backends import backend_fields, backends_table
from expresslane.cli.console import Exit, joined, json_text, one_line, output
from expresslane.cli.limits import size_text
from expresslane.cli.service_calls import connected
from expresslane.cli.summary_table import seconds
from expresslane.cli.tenants import DEFAULT_TENANT, tenants_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from expresslane_client import Holdings, Snapshot
    from rich.console import Console, RenderableType

    from expresslane.cli.connection import Connection

__all__ = ["fitting", "status"]

_REFRESH_S = 1.0
_TENANTS_MAX = 10


def status(service: Connection, *, watch: bool, as_json: bool) -> Exit:
    """Show the service once, or again every second until Ctrl-C."""
    asyncio.run(_watch(service, as_json=as_json) if watch else _once(service, as_json=as_json))
    return Exit.OK


async def _once(service: Connection, *, as_json: bool) -> None:
    async with connected(service, admin=True) as client:
        snapshot = await client.get_snapshot()
    if as_json:
        print(json_text(_fields(snapshot)))  # noqa: T201
    else:
        output().print(_panel(snapshot, None))


async def _watch(service: Connection, *, as_json: bool) -> None:
    before: Snapshot | None = None
    console = output()
    is_live = console.is_terminal and not as_json
    async with connected(service, admin=True) as client:
        with Live(console=console, auto_refresh=False) if is_live else nullcontext() as live:
            while True:
                snapshot = await client.get_snapshot()
                if as_json:
                    print(json_text(_fields(snapshot)), flush=True)  # noqa: T201
                elif live is not None:
                    live.update(fitting(console, snapshot, before), refresh=True)
                else:  # a pipe or a file: one frame after the other
                    console.print(_panel(snapshot, before), Text(), sep="\n")
                    sys.stdout.flush()
                before = snapshot
                await asyncio.sleep(_REFRESH_S)


def _fields(snapshot: Snapshot) -> dict[str, object]:
    fields = {field.name: getattr(snapshot, field.name) for field in dataclasses.fields(snapshot)}
    return fields | {
        "queued_by_class": dict(snapshot.queued_by_class),
        "queued_by_model": dict(snapshot.queued_by_model),
        "refused_by_reason": dict(snapshot.refused_by_reason),
        "calls_refused_by_reason": dict(snapshot.calls_refused_by_reason),
        "policies": [dataclasses.asdict(one) for one in snapshot.policies],
        "tenants": [dataclasses.asdict(one) for one in snapshot.tenants],
        "holdings": dataclasses.asdict(snapshot.holdings),
        "backends": [backend_fields(backend) for backend in snapshot.backends],
    }


def fitting(console: Console, snapshot: Snapshot, before: Snapshot | None) -> RenderableType:
    """The panel, shortened where the window is too low, because what does not fit at its end would not be seen."""
    for shortened in (0, 1, 2):
        panel = _panel(snapshot, before, shortened)
        if len(console.render_lines(panel, pad=False)) < console.height:
            break
    return panel


def _panel(snapshot: Snapshot, before: Snapshot | None, shortened: int = 0) -> RenderableType:
    """All there is; shortened by 1 without details and tenants, by 2 also without all that is not of now."""
    state = ("draining: takes no more work", "bold yellow") if snapshot.draining else ("serving", "green")
    head = Text.assemble(
        ("expresslane ", "bold"),
        f"{one_line(snapshot.version)}  ",
        state,
        f"  for {seconds(snapshot.uptime_ms)}  policy {one_line(snapshot.policy)}",
    )
    numbers = _numbers(snapshot, before, shortened)
    parts: list[RenderableType] = [head, numbers, *([] if shortened else [Text()]), *backends_table(snapshot.backends)]
    if not shortened and any(one.tenant != DEFAULT_TENANT for one in snapshot.tenants):
        shown = snapshot.tenants[:_TENANTS_MAX]
        parts += [Text(), *tenants_table(shown, snapshot.tenants_total - len(shown), snapshot.fairness)]
    return Group(*parts)


def _numbers(snapshot: Snapshot, before: Snapshot | None, shortened: int) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    classes = joined(f"{name} {count:,}" for name, count in snapshot.queued_by_class.items() if count)
    models = joined(f"{one_line(name, 40)} {count:,}" for name, count in snapshot.queued_by_model.items() if count)
    limit = f"of {snapshot.queue_limit:,}"
    longest_ms = snapshot.queue_time_limit_ms
    longest = f"none foreseen to wait more than {seconds(longest_ms)}" if longest_ms is not None else ""
    waiting = f"{snapshot.queued_tokens:,} tokens" if snapshot.queued else ""
    retries = f"{snapshot.retry_waiting:,} wait for a retry" if snapshot.retry_waiting else ""
    table.add_row("queued", f"{snapshot.queued:,}", joined((limit, waiting, retries, longest)))
    if classes and not shortened:
        table.add_row("  by class", "", classes)
    if models and not shortened:
        table.add_row("  by model", "", models)
    if snapshot.policies and not shortened:
        policies = joined(f"{one_line(one.scope, 60)} {one_line(one.policy)}" for one in snapshot.policies)
        table.add_row("policies", "", policies)
    cap = f"of {snapshot.in_flight_limit:,}" if snapshot.in_flight_limit else ""
    if not shortened and (held := _held(snapshot.holdings)):
        table.add_row("held", "", held)
    table.add_row("in flight", f"{snapshot.in_flight:,}", joined((cap, f"{snapshot.open_batches:,} open batches")))
    rate = snapshot.finish_rate_per_s if before is None else _rate(snapshot, before)
    left = f"queue empty in {seconds(snapshot.queued / rate * 1e3)}" if rate and snapshot.queued else ""
    if shortened > 1:
        return table
    table.add_row("rate", f"{rate:.1f}/s", left)
    ends = ("succeeded", "failed", "cancelled", "expired", "retried", "retries_denied")
    counts = joined(f"{getattr(snapshot, name):,} {name.replace('_', ' ')}" for name in ends if getattr(snapshot, name))
    table.add_row("since start", f"{snapshot.submitted:,}", joined(("submitted", counts)))
    if snapshot.refused and not shortened:
        table.add_row("refused", f"{snapshot.refused:,}", joined(("prompts", _by_count(snapshot.refused_by_reason))))
    if (calls := snapshot.calls_refused_by_reason) and not shortened:
        table.add_row("calls refused", f"{sum(calls.values()):,}", _by_count(calls))
    return table


def _by_count(counts: Mapping[str, int]) -> str:
    """Reasons with their counts, the most frequent first."""
    ranked = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return joined(f"{one_line(reason, 40)} {count:,}" for reason, count in ranked)


def _held(holdings: Holdings) -> str:
    """What else is in memory for callers, as far as there is any."""
    parts = (
        (holdings.jobs, f"{holdings.jobs:,} jobs with {size_text(holdings.job_result_bytes)}"),
        (holdings.kept_batches, f"{holdings.kept_batches:,} kept batches with {size_text(holdings.kept_result_bytes)}"),
        (holdings.unread_results, f"{holdings.unread_results:,} unread results of {size_text(holdings.unread_bytes)}"),
    )
    return joined(text for count, text in parts if count)


def _rate(snapshot: Snapshot, before: Snapshot) -> float:
    """Finished prompts per second between two looks."""
    finished = _finished(snapshot) - _finished(before)
    elapsed_ms = snapshot.uptime_ms - before.uptime_ms
    return finished / elapsed_ms * 1e3 if elapsed_ms > 0 else 0.0


def _finished(snapshot: Snapshot) -> int:
    """What a cancel or a deadline takes away is no work done: at that rate no queue would empty."""
    return snapshot.succeeded + snapshot.failed
