"""What became of a run, as a table for a person."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from rich.table import Table

from expresslane.cli.console import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from expresslane_client import ErrorCount, Percentiles, Summary
    from rich.console import Console

__all__ = ["SIMULATED", "print_summary", "seconds"]

SIMULATED = "SIMULATED"
_CONSEQUENCES = frozenset({"BATCH_FAILED", "CANCELLED"})


def seconds(milliseconds: float | None) -> str:
    """A duration for a person: two or three digits that matter."""
    if milliseconds is None:
        return "-"
    if 0 < milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 1_000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 120_000:
        return f"{milliseconds / 1e3:.2f} s"
    minutes, rest = divmod(round(milliseconds / 1e3), 60)
    return f"{minutes} min {rest:02d} s"


def print_summary(console: Console, summary: Summary, examples: Mapping[str, str] = MappingProxyType({})) -> None:
    """Counts, times, percentiles, and why prompts did not succeed, with an example for each reason there is one for."""
    title = f"{summary.succeeded} of {summary.total_prompts} prompts succeeded"
    if summary.state != "completed":
        title += f" ({summary.state.replace('_', ' ')})"
    if summary.simulated:
        title += f"   {SIMULATED}: made-up text, no model has answered"
    console.print(f"\n{title}", style="bold")
    console.print(_facts(summary))
    if any(values.count for values in (summary.queue_wait, summary.ttft, summary.total)):
        console.print(_percentiles(summary))
    told: set[str] = set()
    # What ended the others comes first, however few these were.
    for error in sorted(summary.errors, key=lambda error: error.reason in _CONSEQUENCES):
        example = f", for example {examples[error.reason]}" if error.reason in examples.keys() - told else ""
        told.add(error.reason)
        console.print(f"  {error.count} x {_kind(error)}{example}", style="red", soft_wrap=True)


def _kind(error: ErrorCount) -> str:
    status = f" (HTTP {error.http_status})" if error.http_status else ""
    backend = f" at {one_line(error.backend.removeprefix('backends/'))}" if error.backend else ""
    return f"{one_line(error.reason)}{status}{backend}"


def _facts(summary: Summary) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(style="dim")
    outcomes = [("failed", summary.failed), ("cancelled", summary.cancelled), ("expired", summary.expired)]
    rest = ", ".join(f"{count} {name}" for name, count in outcomes if count)
    if rest:
        table.add_row("  not succeeded", rest)
    table.add_row("  wall time", seconds(summary.wall_ms), f"{summary.throughput_per_s:.1f} prompts/s")
    if summary.succeeded:
        estimate = "sum of the last attempts"
        table.add_row("  sequential estimate", seconds(summary.sequential_estimate_ms), estimate)
        table.add_row("  speed-up, at most", f"{summary.speed_up:.1f} x", "sequential estimate / wall time")
    if summary.first_result_ms is not None:
        middle = f"half of the results by {seconds(summary.median_result_ms)}"
        table.add_row("  first result", seconds(summary.first_result_ms), middle)
    usage = summary.usage
    if usage.input_tokens or usage.output_tokens:
        cached = f", {usage.cached_input_tokens:,} cached" if usage.cached_input_tokens else ""
        table.add_row("  tokens", f"{usage.input_tokens:,} in", f"{usage.output_tokens:,} out{cached}")
    return table


def _percentiles(summary: Summary) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("", "P50", "P99", "max", "mean", "prompts"):
        table.add_column(name, justify="left" if not name else "right", header_style="dim")
    _row(table, "  queue wait", summary.queue_wait)
    _row(table, "  first token (wait included)", summary.ttft)
    _row(table, "  total (wait included)", summary.total)
    return table


def _row(table: Table, name: str, values: Percentiles) -> None:
    if not values.count:
        return
    durations = (values.p50_ms, values.p99_ms, values.max_ms, values.mean_ms)
    table.add_row(name, *map(seconds, durations), str(values.count))
