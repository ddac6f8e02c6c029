"""How far a run is, on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from expresslane.cli.console import report

if TYPE_CHECKING:
    from types import TracebackType

    from expresslane_client import Resuming

__all__ = ["RunProgress"]

_LINE_EVERY_S = 10.0


class RunProgress:
    """Counts results and shows done, failed, rate and time left."""

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        self._total = total
        self._done = 0
        self._failed = 0
        self._started = self._last_line = time.monotonic()
        console = report()
        self._quiet = quiet
        self._bar: Progress | None = None
        if console.is_terminal and not quiet:
            columns = (
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} done", markup=False),
                TextColumn("{task.fields[failed]} failed", markup=False),
                TextColumn("{task.fields[rate]:.1f}/s", markup=False),
                TimeElapsedColumn(),
                TextColumn("left", markup=False),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task("", total=total, failed=0, rate=0.0)
        self._console = console

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def count(self, *, ok: bool) -> None:
        """One more result is here."""
        self._done += 1
        self._failed += not ok
        rate = self._done / max(time.monotonic() - self._started, 1e-3)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, failed=self._failed, rate=rate)
        else:
            self.tick()

    def resuming(self, resuming: Resuming) -> None:
        """The connection is lost, and the rest is asked for again: said once for each loss."""
        if resuming.attempt == 1 and not self._quiet:
            rest = f"{resuming.unfinished} of {resuming.total} prompts"
            self._console.print(f"connection lost, resuming {rest}", soft_wrap=True)

    def tick(self) -> None:
        """Write a line where there is no bar, if the last one was long ago."""
        now = time.monotonic()
        if self._bar is not None or self._quiet or now - self._last_line < _LINE_EVERY_S:
            return
        self._last_line = now
        rate = self._done / (now - self._started)
        left = f", {(self._total - self._done) / rate:.0f} s left" if rate else ""
        self._console.print(f"{self._done}/{self._total} done, {self._failed} failed, {rate:.1f}/s{left}")
