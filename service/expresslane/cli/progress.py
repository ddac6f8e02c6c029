"""How far a run is, on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from expresslane_client import RefusedError
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.text import Text

from expresslane.cli.console import report

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from expresslane_client import Resuming
    from rich.progress import Task

__all__ = ["RunProgress"]

_LINE_EVERY_S = 10.0


class RunProgress:
    """Counts results and shows done, failed, rate and time left, and which limit keeps the rest waiting (T15).

    `work` is that of all prompts together, in any unit; 0: every prompt is as much. The time left goes by it, since
    short prompts come first and would promise an early end.
    """

    def __init__(self, total: int, work: int = 0, *, quiet: bool = False) -> None:
        self._total = total
        self._work = work or total
        self._work_done = 0
        self._done = 0
        self._failed = 0
        self._started = self._last_line = time.monotonic()
        console = report()
        self._quiet = quiet
        self._limits: dict[str, float] = {}
        self._bar: Progress | None = None
        if console.is_terminal and not quiet:
            columns = (
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} done", markup=False),
                TextColumn("{task.fields[failed]} failed", markup=False),
                TextColumn("{task.fields[rate]:.1f}/s", markup=False),
                _LiveColumn(self.times),
                _LiveColumn(self.waiting, style="yellow"),
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

    def count(self, *, ok: bool, work: int = 1) -> None:
        """One more result is here, of a prompt with so much work."""
        self._done += 1
        self._work_done += work
        self._failed += not ok
        rate = self._done / max(time.monotonic() - self._started, 1e-3)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, failed=self._failed, rate=rate)
        else:
            self.tick()

    def times(self) -> str:
        """`20 s elapsed, about 60 s left`: as long as nothing is done nobody knows how much is left."""
        elapsed_s = time.monotonic() - self._started
        shown = f"{_duration(elapsed_s)} elapsed"
        if not self._work_done:
            return shown
        return f"{shown}, about {_duration(elapsed_s * (self._work - self._work_done) / self._work_done)} left"

    def limited(self, whose: str, reset_in_s: float) -> None:
        """Prompts wait for a limit, about so long."""
        self._limits[whose] = time.monotonic() + reset_in_s
        if self._bar is None and not self._quiet:
            self._console.print(self.waiting())

    def waiting(self) -> str:
        """The limits that prompts wait for, with the time that is left: `rate limited by hosted, 12 s`."""
        now = time.monotonic()
        left = [f"rate limited by {whose}, {end - now:.0f} s" for whose, end in self._limits.items() if end > now]
        return "; ".join(left)

    def resuming(self, resuming: Resuming) -> None:
        """The connection is lost, or the service stops, and the rest is asked for again: said once for each loss."""
        if resuming.attempt == 1 and not self._quiet:
            rest = f"{resuming.unfinished} of {resuming.total} prompts"
            stopping = isinstance(resuming.error, RefusedError) and resuming.error.reason == "DRAINING"
            what = "the service is stopping" if stopping else "connection lost"
            self._console.print(f"{what}, resuming {rest}", soft_wrap=True)

    def tick(self) -> None:
        """Write a line where there is no bar, if the last one was long ago."""
        now = time.monotonic()
        if self._bar is not None or self._quiet or now - self._last_line < _LINE_EVERY_S:
            return
        self._last_line = now
        rate = self._done / (now - self._started)
        waiting = f", {limits}" if (limits := self.waiting()) else ""
        counts = f"{self._done}/{self._total} done, {self._failed} failed, {rate:.1f}/s"
        self._console.print(f"{counts}, {self.times()}{waiting}")


class _LiveColumn(ProgressColumn):
    """Text that is asked for at every refresh of the bar, also while no event comes."""

    def __init__(self, text: Callable[[], str], *, style: str = "") -> None:
        super().__init__()
        self._text = text
        self._style = style

    def render(self, task: Task) -> Text:  # noqa: ARG002
        """What there is to say now."""
        return Text(self._text(), style=self._style)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
