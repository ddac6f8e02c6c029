"""What `expresslane run` was asked to do, from its command line."""

from __future__ import annotations

import argparse
import re
import shlex
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expresslane_client import BatchOptions, PromptClass

from expresslane.cli.connection import Connection, add_connection, connection
from expresslane.cli.console import CommandError
from expresslane.cli.failures_file import failures_path, is_special

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RunOptions", "add_run_arguments", "run_options"]

_SWITCHES = ("in_order", "fail_fast", "no_resume", "quiet")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|)")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """A run. `mode` says what happens to an output that exists: refuse, append or overwrite.

    `failures_named`: whether --failures says where failures go. `words` are the options that hold for a further run
    too, as they were given.
    """

    source: str
    output: str | None
    failures: Path
    failures_named: bool
    service: Connection
    model: str
    max_tokens: int | None
    prompt_class: PromptClass | None
    timeout_s: float | None
    mode: str
    quiet: bool
    job: bool
    resume: bool
    batch: BatchOptions
    words: tuple[str, ...] = ()

    @property
    def adds_failures(self) -> bool:
        """Whether failures go to those in their file, from which what has a new end is taken out."""
        return self._keeps_results and (self.mode == "append" or self.runs_failures)

    @property
    def runs_failures(self) -> bool:
        """Whether the input is the failures file itself."""
        return self.source != "-" and _same(Path(self.source), self.failures)

    @property
    def finds_a_name(self) -> bool:
        """Whether failures go to a file of their own, whatever there is of an earlier run."""
        return not self.adds_failures and (self.mode != "overwrite" or self.runs_failures)

    @property
    def clears_failures(self) -> bool:
        """Whether what has succeeded leaves the file of failures, which goes once nothing of it is left."""
        if self.output is None:  # --overwrite can only mean that file then
            return self.mode == "overwrite" and not self.runs_failures
        return self._keeps_results and (self.mode != "refuse" or self.runs_failures)

    @property
    def _keeps_results(self) -> bool:
        """Whether results go to a file: of standard output or /dev/null nobody knows here whether they were kept."""
        return self.output is not None and not is_special(Path(self.output))

    def again(self, failures: Path) -> str:
        """The command that runs the failed prompts of a file again, keeping the results there are."""
        # A batch that is kept has its request_id for itself: other prompts need another.
        name = self.batch.get("request_id") if "keep_s" not in self.batch else ""
        goes_there = failures == failures_path(str(failures), self.output)
        return self._command(str(failures), name, None if goes_there else failures)

    @property
    def attach(self) -> str:
        """The command that comes back to this run's batch, if the service keeps it."""
        return self._command(self.source, self.batch.get("request_id"), self._named, *self._over_failures)

    @property
    def anew(self) -> str:
        """The command that runs what has no success yet as a batch of another name."""
        return self._command(self.source, None, self._named, *self._over_failures)

    @property
    def cancel(self) -> str:
        """The command that ends this run's batch, if the service keeps it."""
        return shlex.join(["expresslane", "cancel", self.batch.get("request_id", ""), *self.service.words])

    @property
    def _named(self) -> Path | None:
        return self.failures if self.failures_named else None

    @property
    def _over_failures(self) -> tuple[str, ...]:
        """What a further run of the same input needs, that it is not kept out by failures that this one replaces."""
        needs_it = self.mode == "overwrite" and self.output is None and self.failures_named
        return ("--overwrite",) if needs_it else ()

    def _command(self, source: str, request_id: str | None, failures: Path | None, *more: str) -> str:
        """This run's command with another source, adding to the results there are."""
        words = ["expresslane", "run", source]
        words += ["--output", self.output, "--append"] if self.output else []
        words += ["--request-id", request_id] if request_id else []
        words += ["--failures", str(failures)] if failures else []
        return shlex.join([*words, *more, *self.words, *self.service.words])


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("source", metavar="PROMPTS.jsonl", help="one prompt a line; - for standard input")
    _add_files(parser.add_argument_group("files").add_argument)
    _add_defaults(parser.add_argument_group("for prompts that do not say it themselves").add_argument)
    batch = parser.add_argument_group("for the whole run")
    _add_batch(batch.add_argument)
    add_connection(batch)


def _add_files(add: Callable[..., object]) -> None:
    add("--output", "-o", metavar="FILE", help="where results go (default: standard output)")
    failures = "where the lines without success go, if there are any (default: OUTPUT's name with .failed.jsonl; with"
    failures += " .2.failed.jsonl and so on where an earlier run has left some)"
    add("--failures", metavar="FILE", help=failures)
    add("--append", action="store_true", help="add to an output that exists what has not succeeded there")
    add("--overwrite", action="store_true", help="replace an output, or a file of failures, that exists")


def _add_defaults(add: Callable[..., object]) -> None:
    add("--model", default="", metavar="NAME", help="model (default: the service's)")
    add("--max-tokens", type=_positive, metavar="N", help="most output tokens")
    classes = [str(one) for one in PromptClass]
    add("--class", dest="prompt_class", choices=classes, help="scheduling class (default: the service's, standard)")


def _add_batch(add: Callable[..., object]) -> None:
    add("--in-order", action="store_true", help="results in the order of the input")
    add("--fail-fast", action="store_true", help="cancel the rest when one prompt fails")
    rate = "cancel the rest once more than this share has failed"
    add("--max-failure-rate", type=_rate, metavar="SHARE", help=rate)
    timeout = "longest time for all: 90, 90s, 10m or 1h; what is unfinished then expires"
    add("--timeout", type=_seconds, metavar="TIME", help=timeout)
    add("--request-id", default="", metavar="TEXT", help="name of this run in the service's logs and traces")
    add("--job", action="store_true", help="submit it as a job, print the job's name and leave it running")
    keep = "let the service go on for so long, and keep the results, when the connection is lost"
    add("--keep", type=_seconds, metavar="TIME", help=keep)
    add("--no-resume", action="store_true", help="give up at once when the connection is lost")
    add("--quiet", "-q", action="store_true", help="no progress, no summary; errors only")


def run_options(arguments: argparse.Namespace) -> RunOptions:
    """The options. Raises CommandError for combinations that make no sense."""
    source, output = arguments.source, arguments.output
    if arguments.append and arguments.overwrite:
        raise CommandError("--append and --overwrite exclude each other", "keep one of them")
    if arguments.append and output is None and not arguments.job:
        raise CommandError("--append needs --output: what it is to add to", "example: --output results.jsonl --append")
    if arguments.job:
        _refuse_with_job(arguments)
    failures = Path(arguments.failures) if arguments.failures else failures_path(source, output)
    _refuse_same_files(source, output, failures)
    batch = BatchOptions(in_order=arguments.in_order, fail_fast=arguments.fail_fast, request_id=arguments.request_id)
    if arguments.max_failure_rate is not None:
        batch["max_failure_rate"] = arguments.max_failure_rate
    if arguments.keep is not None:
        batch["keep_s"] = arguments.keep
        batch["request_id"] = arguments.request_id or uuid.uuid4().hex  # for whoever wants to cancel it
    return RunOptions(
        source=source,
        output=output,
        failures=failures,
        failures_named=bool(arguments.failures),
        service=connection(arguments),
        model=arguments.model,
        max_tokens=arguments.max_tokens,
        prompt_class=PromptClass(arguments.prompt_class) if arguments.prompt_class else None,
        timeout_s=arguments.timeout,
        mode="append" if arguments.append else "overwrite" if arguments.overwrite else "refuse",
        quiet=arguments.quiet,
        job=arguments.job,
        resume=not arguments.no_resume,
        batch=batch,
        words=_words(arguments),
    )


def _words(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The options that a further run needs as well: all but those that say where prompts come from and results go."""
    values = {"model": arguments.model, "max_tokens": arguments.max_tokens, "class": arguments.prompt_class}
    values |= {"max_failure_rate": arguments.max_failure_rate}
    times = {"timeout": arguments.timeout, "keep": arguments.keep}
    values |= {name: f"{value:.16g}s" for name, value in times.items() if value is not None}
    words = [word for name, value in values.items() if value for word in (_option(name), str(value))]
    return (*words, *(_option(name) for name in _SWITCHES if getattr(arguments, name)))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _refuse_with_job(arguments: argparse.Namespace) -> None:
    """A job has no reader here: what is about one makes no sense with it."""
    for option in ("output", "failures", "append", "overwrite", "in_order", "timeout", "keep", "no_resume"):
        if getattr(arguments, option):
            wrong = f"--job and {_option(option)} exclude each other"
            raise CommandError(wrong, "results of a job:    expresslane jobs watch NAME --output results.jsonl")


def _refuse_same_files(source: str, output: str | None, failures: Path) -> None:
    if output is None:
        return
    if source != "-" and _same(Path(source), Path(output)):
        raise CommandError(f"--output {output} is the input itself", "example: --output results.jsonl")
    if _same(Path(output), failures):
        raise CommandError(f"--failures {failures} is the output itself", "example: --failures failed.jsonl")


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0; example: 64")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0 and at most 1; example: 0.1")
    return rate


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None or not float(match.group(1)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; examples: 90, 90s, 10m, 1h")
    return float(match.group(1)) * _UNITS[match.group(2)]
