"""`expresslane jobs watch`: a job's results, those that are there and those that come, each written as it comes."""

from __future__ import annotations

import asyncio
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from expresslane_client import ExpresslaneClientError

from expresslane.cli.console import CommandError, Exit, problem, report
from expresslane.cli.progress import RunProgress
from expresslane.cli.result_file import count_lines, open_output
from expresslane.cli.result_lines import result_line
from expresslane.cli.service_calls import explained
from expresslane.cli.signals import stopping_on_signals
from expresslane.cli.summary_table import print_summary

if TYPE_CHECKING:
    from expresslane_client import Client, Job, Summary

    from expresslane.cli.connection import Connection

__all__ = ["WatchOptions", "watch_job"]


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """A watch. `after` results are left out; those that come are added to an output that holds the earlier ones."""

    service: Connection
    name: str
    output: str | None
    after: int
    overwrite: bool
    quiet: bool

    def again(self, position: int) -> str:
        """The command that goes on behind so many results."""
        words = ["expresslane", "jobs", "watch", self.name, "--after", str(position)]
        words += ["--output", self.output] if self.output else []
        return shlex.join([*words, *self.service.words])


def watch_job(options: WatchOptions) -> Exit:
    """Watch a job to its end; what cuts that short says how to go on."""
    return asyncio.run(_Watch(options).run())


class _Watch:
    def __init__(self, options: WatchOptions) -> None:
        self._options = options
        self._position = options.after
        self._interrupted = False

    async def run(self) -> Exit:
        options = self._options
        task = asyncio.create_task(self._take_all())
        with stopping_on_signals(lambda: self._interrupt(task)):
            try:
                summary = await task
            except asyncio.CancelledError:
                if not self._interrupted:
                    raise
                return self._cut_short(Exit.INTERRUPTED)
            except ExpresslaneClientError as error:
                return self._cut_short(problem(explained(error, options.service)))
            except BrokenPipeError:
                raise
            except OSError as error:
                raise CommandError(f"cannot write results: {error.strerror}", code=Exit.PROMPTS_FAILED) from None
        if not options.quiet:
            print_summary(report(), summary)
        return Exit.OK if summary.succeeded == summary.total_prompts else Exit.PROMPTS_FAILED

    async def _take_all(self) -> Summary:
        async with self._options.service.client() as client:
            job = await client.get_job(self._options.name)
            output = self._output()
            try:
                return await self._take(client, job, output)
            finally:
                if output is not sys.stdout.buffer:
                    output.close()

    async def _take(self, client: Client, job: Job, output: BinaryIO) -> Summary:
        progress = RunProgress(job.total - self._options.after, quiet=self._options.quiet)
        with progress:
            watch = client.watch_job(
                job.name, self._options.after, on_event=lambda _: progress.tick(), on_resume=progress.resuming
            )
            async with watch:
                async for result in watch:
                    output.write(result_line(result).encode() + b"\n")
                    output.flush()
                    progress.count(ok=result.ok)
                    self._position = watch.position
                return watch.summary

    def _output(self) -> BinaryIO:
        options = self._options
        if options.output is None:
            return sys.stdout.buffer
        path = Path(options.output)
        mode = "append" if options.after else "overwrite" if options.overwrite else "refuse"
        there = count_lines(path) if mode == "refuse" and path.is_file() else 0
        return open_output(path, mode, add=f"--after {there}")

    def _interrupt(self, task: asyncio.Task[Summary]) -> None:
        self._interrupted = True
        task.cancel()

    def _cut_short(self, code: Exit) -> Exit:
        """Say how to go on, if there is a job to go on with."""
        if self._interrupted or self._position > self._options.after:
            report().print("while its service runs, the job goes on without this watch; the rest of its results:")
            report().print(f"  {self._options.again(self._position)}", soft_wrap=True)
        return code
