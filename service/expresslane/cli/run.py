"""`expresslane run`: the prompts of a file through the service, each result written as it comes."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from expresslane_client import Accepted, ExpresslaneClientError, MessageTooLargeError, RateLimited, RefusedError

from expresslane.cli.console import CommandError, Exit, one_line, problem, report
from expresslane.cli.earlier_results import mend_end, succeeded_in
from expresslane.cli.failures_file import add_failures, new_failures, replace_failures
from expresslane.cli.full_queue import Patience, is_full
from expresslane.cli.progress import RunProgress
from expresslane.cli.prompt_file import InputFileError, PromptFile
from expresslane.cli.prompt_options import Defaults
from expresslane.cli.result_file import ResultFile
from expresslane.cli.service_calls import explained
from expresslane.cli.signals import stopping_on_signals
from expresslane.cli.submit_job import submit_job
from expresslane.cli.summary_table import print_summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from expresslane_client import BatchCall, Client, Event, PromptSession, Result, Summary

    from expresslane.cli.run_options import RunOptions

__all__ = ["run"]

ONE_BATCH_BYTES_MAX = 16 * 1024 * 1024
"""A file up to this size goes as one batch, which the scheduler sees whole; a larger one as a stream, of any length."""

_EXAMPLES_MAX = 8
_EXISTS = "REQUEST_EXISTS"


def run(options: RunOptions) -> Exit:
    """Check the whole file, then run it. Raises CommandError for what stops it before anything is sent."""
    defaults = Defaults(options.model, options.max_tokens, options.prompt_class)
    try:
        prompts = PromptFile.open(options.source, defaults)
    except OSError as error:
        raise CommandError(f"cannot read {options.source}: {error.strerror}") from None
    try:
        _refuse_failures(options)
        prompts.check(_succeeded_before(options))
        if options.job:
            return submit_job(options, prompts)
        if prompts.done:
            _leave_out_done(prompts, options)
        if not len(prompts):
            _leave(options, 0, (), prompts)
            return Exit.OK
        with _results(prompts, options) as results:
            return asyncio.run(Run(options, prompts, results).run())
    except InputFileError as error:
        raise _bad_input(error) from None
    finally:
        prompts.close()


class Run:
    """One run: sends, writes, counts, and leaves behind what can be run again."""

    def __init__(self, options: RunOptions, prompts: PromptFile, results: ResultFile) -> None:
        self._options = options
        self._prompts = prompts
        self._results = results
        work = sum(map(prompts.work, range(len(prompts))))
        self._progress = RunProgress(len(prompts), work, quiet=options.quiet)
        self._summary: Summary | None = None
        self._interrupted = False
        self._sent_kept = False
        self._asked_whole = False
        self._accepted = False
        self._error: CommandError | None = None
        self._examples: dict[str, str] = {}

    async def run(self) -> Exit:
        """Run all prompts; whatever happens, the failures file is written and the end is told."""
        with self._progress:
            task = asyncio.create_task(self._send_all())
            with stopping_on_signals(lambda: self._interrupt(task)):
                try:
                    await task
                except asyncio.CancelledError:
                    if not self._interrupted:
                        raise
                except CommandError as error:
                    self._error = error
                except ExpresslaneClientError as error:
                    self._error = self._explained(error)
                except BrokenPipeError:
                    raise  # whoever read our output has had enough
                except OSError as error:
                    self._error = CommandError(f"cannot write results: {error.strerror}", code=Exit.PROMPTS_FAILED)
        return self._finish()

    async def _send_all(self) -> None:
        async with self._options.service.client() as client:
            patience = Patience(self._options.timeout_s, quiet=self._options.quiet)
            as_batch = self._prompts.size <= ONE_BATCH_BYTES_MAX
            while True:
                ask = self._as_batch if as_batch else self._as_stream
                try:
                    await self._take(ask(client, patience.left_s))
                except MessageTooLargeError:
                    if not as_batch:
                        raise
                    as_batch = False
                except RefusedError as error:
                    as_batch = await self._after_refusal(error, patience, as_batch=as_batch)
                else:
                    return

    async def _after_refusal(self, error: RefusedError, patience: Patience, *, as_batch: bool) -> bool:
        """Whether what was refused is to be sent as one batch now. Raises the error where it is not to be sent."""
        if as_batch and error.reason == _EXISTS and self._sent_kept and self._prompts.done and not self._asked_whole:
            # A service that still keeps the batch wants to be asked for the whole of it.
            self._asked_whole = True
            self._results.take_whole()
            return True
        if as_batch and error.reason == "BATCH_TOO_LARGE":
            return False
        if not is_full(error) or self._accepted:  # once accepted it is the client that asks again
            raise error
        if as_batch and not self._sent_kept:
            if not self._options.quiet:
                report().print("the service's queue is full: sent as a stream, as it has room", soft_wrap=True)
            return False
        kept, self._sent_kept = self._sent_kept, False  # a refused batch is not kept, should the run end meanwhile
        await patience.wait(error)
        self._sent_kept = kept
        return as_batch

    def _explained(self, error: ExpresslaneClientError) -> CommandError:
        told = explained(error, self._options.service, self._prompts.renamed)
        if not isinstance(error, RefusedError) or error.reason != _EXISTS:
            return told
        return CommandError(
            told.message,
            "they are neither all of this input nor what is left of it now: maybe what was left at an earlier run",
            f"end it:              {one_line(self._options.cancel)}",
            f"run what is left:    {one_line(self._options.anew)}",
            code=told.code,
        )

    def _as_batch(self, client: Client, timeout_s: float | None) -> BatchCall:
        was_told, self._sent_kept = self._sent_kept, "keep_s" in self._options.batch
        if self._sent_kept and not was_told and not self._options.quiet:
            name = one_line(self._options.batch["request_id"])
            report().print(f"kept under --request-id {name}, for whoever comes back with it", soft_wrap=True)
        return client.generate_batch(
            self._prompts.prompts(),
            timeout_s=timeout_s,
            on_event=self._on_event,
            resume=self._options.resume,
            on_resume=self._progress.resuming,
            **self._options.batch,
        )

    def _as_stream(self, client: Client, timeout_s: float | None) -> PromptSession:
        self._sent_kept = False
        options = self._options.batch.copy()
        if options.pop("keep_s", None) is not None:
            report().print("too large for one batch: sent as a stream, which the service does not keep")
        return client.stream_prompts(
            self._prompts.prompts(),
            timeout_s=timeout_s,
            on_event=self._on_event,
            resume=self._options.resume,
            on_resume=self._progress.resuming,
            **options,
        )

    async def _take(self, call: BatchCall | PromptSession) -> None:
        async with call:
            async for result in call:
                if self._results.write(result):
                    self._progress.count(ok=result.ok, work=self._prompts.work(result.index))
                    self._remember(result)
            self._summary = call.summary

    def _remember(self, result: Result) -> None:
        """Keep one example of each reason, for the end."""
        if result.error is not None and len(self._examples) < _EXAMPLES_MAX:
            shown = f"{result.custom_id}: {result.error.message}"
            self._examples.setdefault(result.error.reason, one_line(shown, 400))

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RateLimited):
            self._progress.limited(one_line(event.whose, 40), event.reset_in_ms / 1e3)
        self._accepted |= isinstance(event, Accepted)
        self._progress.tick()

    def _interrupt(self, task: asyncio.Task[None]) -> None:
        self._interrupted = True
        task.cancel()

    def _finish(self) -> Exit:
        console = report()
        if self._summary is not None and not self._options.quiet:
            print_summary(console, self._summary, self._examples)
        if self._interrupted:
            console.print(f"interrupted: {self._results.succeeded} succeeded, {self._results.unfinished} not finished")
        code = problem(self._error) if self._error else Exit.OK
        cut_short = self._interrupted or (self._accepted and self._error is not None and self._results.unfinished > 0)
        left = self._say_how_to_come_back() if self._sent_kept and cut_short else self._leave_failures()
        if self._interrupted:
            return Exit.INTERRUPTED
        return code or (Exit.PROMPTS_FAILED if left else Exit.OK)

    def _say_how_to_come_back(self) -> int:
        """Of a batch that the service may go on with; returns how many prompts have no success here."""
        console = report()
        console.print("the service goes on with the batch for as long as --keep says; to come back to it:")
        if self._options.source == "-":
            console.print("  (the same prompts on standard input)")
        console.print(f"  {one_line(self._options.attach)}", soft_wrap=True)
        console.print("to end it:")
        console.print(f"  {one_line(self._options.cancel)}", soft_wrap=True)
        return self._results.unfinished + self._results.failed

    def _leave_failures(self) -> int:
        """Write what can be run again and say so; returns how many prompts that are."""
        console = report()
        earlier = self._options.failures
        started = self._results.succeeded + self._results.failed
        if not started and self._options.source != "-":
            console.print("no prompt has a result: the input is still what there is to run", soft_wrap=True)
            return len(self._prompts)
        left = self._results.left
        path = _leave(self._options, left, self._results.left_lines(), self._prompts)
        if left:
            prompts = "1 prompt" if left == 1 else f"{left} prompts"
            kept = "stays as it was" if self._options.runs_failures else "has those of an earlier run"
            beside = f" ({earlier} {kept})" if path != earlier else ""
            console.print(f"{prompts} without success in {path}{beside}; once more:", soft_wrap=True)
            console.print(f"  {one_line(self._options.again(path))}", soft_wrap=True)
        return left


def _leave(options: RunOptions, left: int, lines: Iterable[bytes], prompts: PromptFile) -> Path:
    """Write the lines of prompts without success, of which there are `left`; returns where."""
    path = options.failures
    try:
        if left and options.finds_a_name:
            path = new_failures(path, lines)
        elif left and not options.adds_failures:
            replace_failures(path, lines)
        elif left or (options.clears_failures and path.is_file()):
            gone = add_failures(path, lines, prompts.custom_ids())
            if gone and not options.quiet:
                report().print(f"{path}: nothing left to run, removed", soft_wrap=True)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}", code=Exit.PROMPTS_FAILED) from None
    return path


def _refuse_failures(options: RunOptions) -> None:
    """A file that was named and holds a work list is not overwritten unless that was asked for.

    One that was not named is no obstacle: these go beside it.
    """
    path = options.failures
    if options.mode != "refuse" or options.runs_failures or not (options.failures_named and path.is_file()):
        return
    if not path.stat().st_size or (options.output is not None and _has_results(Path(options.output))):
        return  # of an output that has results is told there
    raise CommandError(
        f"{path} holds prompts of an earlier run without success, and this one may leave some there too",
        *(["add to them:         --append"] if options.output is not None else []),
        "throw them away:     --overwrite",
        "leave them there:    leave out --failures, or name another file",
    )


def _has_results(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _succeeded_before(options: RunOptions) -> set[bytes]:
    """What has succeeded in an output that is added to, which ends with a whole line then."""
    if options.output is None or options.mode != "append":
        return set()
    path = Path(options.output)
    try:
        if cut := mend_end(path):
            report().print(f"{path}: half a line at its end, {cut} bytes, cut off", soft_wrap=True)
        return succeeded_in(path)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None


def _leave_out_done(prompts: PromptFile, options: RunOptions) -> None:
    whole = len(prompts)
    prompts.leave_out_done()
    if not options.quiet:
        done = f"{len(prompts.done)} of {whole} prompts have succeeded in {options.output} before"
        report().print(f"{done}: left out", soft_wrap=True)


@contextmanager
def _results(prompts: PromptFile, options: RunOptions) -> Iterator[ResultFile]:
    results = ResultFile(prompts, options.output, mode=options.mode)
    try:
        yield results
    finally:
        results.close()


def _bad_input(error: InputFileError) -> CommandError:
    lines: list[str] = []
    for complaint in error.complaints:
        lines += [str(complaint), f"    example: {complaint.error.example}"]
    more = error.count - len(error.complaints)
    if more:
        lines.append(f"and {more} more")
    if not error.count:  # no line is at fault: there are none
        return CommandError(f"nothing was sent: {lines[0]}", lines[1])
    count = f"{error.count} line{'s' if error.count > 1 else ''}"
    return CommandError(f"nothing was sent: {count} of the input cannot be", *lines)
