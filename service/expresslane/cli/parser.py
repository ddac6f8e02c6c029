"""The command line's grammar, help that teaches, and complaints with an example of what would be right (P39)."""

from __future__ import annotations

import argparse
import re
from difflib import get_close_matches
from typing import Any, NoReturn

from expresslane import __version__
from expresslane.cli.connection import add_connection
from expresslane.cli.run_options import add_run_arguments
from expresslane.policies import CLASS_NAMES, POLICY_NAMES

__all__ = ["TENANT_LIMITS", "build_parser"]

_EPILOG = """\
first steps:
  expresslane demo                                     see it work, on a simulated backend
  expresslane serve                                    start the service (configured by EXPRESSLANE_* variables)
  expresslane run prompts.jsonl -o results.jsonl       send it prompts, one JSON object a line:
      {"custom_id": "a", "prompt": "Why is the sky blue?"}
      {"custom_id": "b", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64}

exit codes: 0 all went well, 1 some prompts failed, 2 wrong usage or input, 3 service unreachable or refusing,
            130 interrupted
"""
_RUN_EPILOG = """\
input lines (known: prompt | raw_prompt | messages, model, max_tokens, temperature, top_p, top_k, presence_penalty,
frequency_penalty, seed, stop, logprobs, top_logprobs, tools, response_format, class, sequential; any other key goes to
the backend byte for byte), or OpenAI batch input:
  {"custom_id": "a", "prompt": "Why is the sky blue?", "max_tokens": 64}
  {"custom_id": "b", "messages": [{"role": "user", "content": "Hi"}], "class": "interactive"}
  {"custom_id": "c", "raw_prompt": "The sky is"}
  {"custom_id": "d", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": [...]}}

examples:
  expresslane run prompts.jsonl -o results.jsonl
  expresslane run results.failed.jsonl -o results.jsonl --append       what failed, once more
  cat prompts.jsonl | expresslane run - --in-order --quiet | jq -r .text

exit codes: 0 all succeeded, 1 some prompts failed, 2 wrong usage or input (nothing was run), 3 service unreachable or
            refusing, 130 interrupted
"""
_SERVE_EPILOG = """\
signals:
  SIGTERM, Ctrl-C   accept nothing new, finish what was accepted for up to EXPRESSLANE_DRAIN_GRACE_S, then end
  once more         end at once
  SIGHUP            read the files of API keys and certificates again

exit codes: 0 ended by a signal, 2 wrong configuration or an address in use (nothing was accepted),
            130 or 143 ended at once by a second Ctrl-C or SIGTERM

`expresslane config --reference` lists the settings.
"""
_BACKENDS_EPILOG = """\
examples:
  expresslane backends                        the table
  expresslane backends disable local          one request at a time; running work goes on, nothing is lost
  expresslane backends enable local           up to its cap again
  expresslane backends set-cap local 4        change the cap
  expresslane backends set-limits hosted --requests-per-min 600 --tokens-per-min 100000
changes last until the service ends; for good, set EXPRESSLANE_BACKENDS__LOCAL__CONCURRENCY, __CAP, __REQUESTS_PER_MIN
or __TOKENS_PER_MIN
"""
_TENANTS_EPILOG = """\
examples:
  expresslane tenants                                 those configured, changed or at work; who has what waiting
  expresslane tenants set acme --weight 3             three times the share of a tenant with weight 1
  expresslane tenants set acme --max-class standard --tokens-per-min 100000
  expresslane tenants set acme --max-open-calls 100 --unread-limit-bytes 100000000
changes last until the service ends; for good, set EXPRESSLANE_TENANTS__ACME__WEIGHT, __MAX_CLASS, __MAX_OPEN_CALLS and
so on. This command line calls as the tenant that EXPRESSLANE_TENANT names.
"""
TENANT_LIMITS = {
    "requests_per_min": "most requests in any minute",
    "tokens_per_min": "most tokens in any minute",
    "queue_limit_prompts": "most prompts that wait or run",
    "queue_limit_bytes": "most bytes of these",
    "max_open_calls": "most calls open at once",
    "max_open_sessions": "most sessions open at once",
    "unread_limit_results": "most results that wait for slow readers",
    "unread_limit_bytes": "most bytes of these",
    "job_limit": "most jobs that are kept",
    "job_results_limit_bytes": "most bytes of their results",
    "kept_limit": "most batches that are kept for who may come back",
    "kept_results_limit_bytes": "most bytes of their results",
}
"""What may be limited of a tenant, 0 for no limit of its own: the setting, and what it means."""
_POLICY_EPILOG = """\
examples:
  expresslane policy                                  the orderings that hold
  expresslane policy set sjf-aged                     everywhere that has none of its own
  expresslane policy set sjf --class batch            within a class; what waits is ordered anew, nothing is lost
  expresslane policy set fcfs --class batch --model small
  expresslane policy unset --class batch              as around it again
changes last until the service ends; for good, set EXPRESSLANE_POLICY or EXPRESSLANE_POLICIES
"""
_JOBS_EPILOG = """\
examples:
  expresslane run prompts.jsonl --job                 submit; prints the job's name
  expresslane jobs                                    the table, newest first
  expresslane jobs watch NAME -o results.jsonl        results that are there and that come, to the end
  expresslane jobs cancel NAME                        end what is unfinished
jobs live in the service's memory: they are lost when it stops, and an hour after their end
(EXPRESSLANE_JOB_RETENTION_S)
"""
_DRAIN_EPILOG = """\
From then on new batches, sessions, prompts and jobs are refused (DRAINING), and health says NOT_SERVING, so that
balancers send callers elsewhere. What was accepted waits, runs and is delivered as ever. It cannot be undone: the
process lives on, for callers to read their results, until it is ended and started anew.

examples:
  expresslane drain                                   tells how many prompts are left; once more, how many still are
  expresslane status --watch                          how they become fewer
  expresslane drain --json                            {"queued": 3, "in_flight": 1}
SIGTERM does the same, and ends the service once nothing is left or EXPRESSLANE_DRAIN_GRACE_S is over
"""
_QUOTED_OR_OPTION = re.compile(r"'[^']*'|--[\w-]+")
_ARGUMENT = re.compile(r"argument ([^:]+): ")
_COMMANDS_EXAMPLE = "expresslane run prompts.jsonl -o results.jsonl"


class Parser(argparse.ArgumentParser):
    """An argument parser that says where help is, shows an example, and guesses what was meant."""

    def __init__(self, *, example: str = _COMMANDS_EXAMPLE, **arguments: object) -> None:
        arguments.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **arguments)  # type: ignore[arg-type]
        self.example = example

    def parse_known_args(self, *arguments: Any, **named: Any) -> tuple[Any, list[str]]:
        """As argparse does it, but what a command does not know is told by that command, with its example.

        argparse hands it up to the first parser; none of those on the way would take it any more.
        """
        known, unknown = super().parse_known_args(*arguments, **named)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, what was probably meant, and what would be right."""
        guess = self._guess(message)
        lines = [f"expresslane: {message}", *([f"  did you mean {guess}?"] if guess else [])]
        lines += [f"  example:     {self.example}", f"  all options: {self.prog} --help"]
        self.exit(2, "\n".join(lines) + "\n")

    def _guess(self, message: str) -> str:
        """What was meant: of an argument that is right one of its values, else a command or an option."""
        argument = _ARGUMENT.match(message)
        known = self._choices(argument[1]) if argument else self._known()
        wrong = _QUOTED_OR_OPTION.search(message, argument.end() if argument else 0)
        word = wrong.group().strip("'") if wrong else ""
        close = get_close_matches(word, known, n=1)
        return close[0] if close and close[0] != word else ""

    def _choices(self, argument: str) -> list[str]:
        """The values that an argument may have, by the name that complaints call it; none where they are not listed."""
        for action in self._actions:
            if argument in {"/".join(action.option_strings), action.metavar, action.dest}:
                is_command = isinstance(action, argparse._SubParsersAction)  # noqa: SLF001 - there is no public name
                return self._known() if is_command else list(map(str, action.choices or ()))
        return []

    def _known(self) -> list[str]:
        """Every command and option from here on."""
        known = list(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - there is no public name
                known += action.choices
                known += [word for parser in action.choices.values() for word in parser._known()]  # noqa: SLF001
        return known


def build_parser() -> Parser:
    """The whole grammar."""
    parser = Parser(
        prog="expresslane",
        description="Batches of prompts to LLM backends, ordered by length under concurrency caps.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"expresslane {__version__}")
    add_connection(parser, first=True)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    serve = "run the service until SIGTERM or Ctrl-C"
    commands.add_parser("serve", help=serve, epilog=_SERVE_EPILOG, example="expresslane serve")
    run = commands.add_parser(
        "run",
        help="send the prompts of a file and write the results",
        epilog=_RUN_EPILOG,
        usage="expresslane run PROMPTS.jsonl [options]",
    )
    add_run_arguments(run)
    _add_cancel(commands)
    _add_jobs(commands)
    _add_backends(commands)
    _add_tenants(commands)
    _add_policy(commands)
    status = _add(commands, "status", "queue, work in flight and outcomes of the service", json=True)
    status.add_argument("--watch", "-w", action="store_true", help="again every second, until Ctrl-C")
    add_connection(status)
    drain = "take no more work, finish what was accepted; cannot be undone"
    add_connection(_add(commands, "drain", drain, json=True, epilog=_DRAIN_EPILOG))
    config = _add(commands, "config", "the configuration that `serve` would run with here", json=True)
    config.add_argument("--all", dest="everything", action="store_true", help="also what has its default")
    config.add_argument("--reference", action="store_true", help="every setting there is, with its meaning")
    _add_keys(commands)
    _add(commands, "version", "versions of service, core, Python and libraries", json=True)
    _add(commands, "demo", "a service of its own, a sample batch, the results")
    return parser


def _add_cancel(commands: argparse._SubParsersAction[Parser]) -> None:
    cancel = _add(
        commands, "cancel", "end what is unfinished of a batch that the service keeps (run --keep)", json=True
    )
    cancel.example = "expresslane cancel nightly-2031"
    cancel.add_argument("request_id", metavar="REQUEST_ID", help="the name that the batch was sent under")
    add_connection(cancel)


def _add_jobs(commands: argparse._SubParsersAction[Parser]) -> None:
    jobs = _add(commands, "jobs", "the jobs that the service keeps", json=True, epilog=_JOBS_EPILOG)
    add_connection(jobs)
    actions = jobs.add_subparsers(dest="action", metavar="ACTION", parser_class=Parser)
    for name, meaning in (
        ("show", "one job, with its summary"),
        ("watch", "write its results, those that are there and those that come"),
        ("cancel", "end what is unfinished; results stay"),
        ("delete", "end what is unfinished, and forget it with its results"),
    ):
        action = actions.add_parser(name, help=meaning, example=f"expresslane jobs {name} NAME")
        action.add_argument("name", metavar="NAME", help="the job, as `expresslane jobs` shows it")
        add_connection(action)
        if name == "watch":
            action.add_argument("--output", "-o", metavar="FILE", help="where results go (default: standard output)")
            action.add_argument("--overwrite", action="store_true", help="replace an output that exists")
            after = "leave out the first N results; the others are added to an output that exists (default: 0)"
            action.add_argument("--after", metavar="N", type=_count, default=0, help=after)
            action.add_argument("--quiet", "-q", action="store_true", help="no progress, no summary; errors only")


def _add_backends(commands: argparse._SubParsersAction[Parser]) -> None:
    backends = _add(commands, "backends", "the backends and their switches", json=True, epilog=_BACKENDS_EPILOG)
    add_connection(backends)
    changes = backends.add_subparsers(dest="change", metavar="CHANGE", parser_class=Parser)
    for name, meaning in (("enable", "turn concurrency on"), ("disable", "turn concurrency off: one at a time")):
        change = changes.add_parser(name, help=meaning, example=f"expresslane backends {name} local")
        change.add_argument("name", metavar="NAME", help="the backend, as `expresslane backends` shows it")
        add_connection(change)
    change = changes.add_parser("set-cap", help="change the cap", example="expresslane backends set-cap local 4")
    change.add_argument("name", metavar="NAME", help="the backend, as `expresslane backends` shows it")
    change.add_argument("cap", metavar="N", type=_cap, help="most requests in flight, 1 to 100,000")
    add_connection(change)
    example = "expresslane backends set-limits hosted --requests-per-min 600"
    change = changes.add_parser("set-limits", help="change the limits per minute", example=example)
    change.add_argument("name", metavar="NAME", help="the backend, as `expresslane backends` shows it")
    _add_limits(change)
    add_connection(change)


def _add_keys(commands: argparse._SubParsersAction[Parser]) -> None:
    keys = _add(commands, "keys", "API keys of tenants")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Parser)
    action = actions.add_parser(
        "new", help="make a key, and say what to configure", example="expresslane keys new acme --expires 90"
    )
    action.add_argument("tenant", metavar="TENANT", help="whose key it is: a-z, 0-9 and -")
    action.add_argument("--expires", metavar="DAYS", type=_days, help="days until it is refused (default: never)")


def _add_tenants(commands: argparse._SubParsersAction[Parser]) -> None:
    tenants = _add(commands, "tenants", "who has what waiting, and its share", json=True, epilog=_TENANTS_EPILOG)
    add_connection(tenants)
    changes = tenants.add_subparsers(dest="change", metavar="CHANGE", parser_class=Parser)
    change = changes.add_parser("set", help="change a tenant", example="expresslane tenants set acme --weight 3")
    change.add_argument("name", metavar="NAME", help="the tenant")
    change.add_argument("--weight", metavar="N", type=_weight, help="share relative to other tenants', 1 to 1000")
    change.add_argument("--max-class", choices=CLASS_NAMES, help="highest class that its prompts may ask for")
    for field, meaning in TENANT_LIMITS.items():
        change.add_argument(f"--{field.replace('_', '-')}", metavar="N", type=_limit, help=f"{meaning}, 0 for no limit")
    add_connection(change)


def _add_limits(change: Parser) -> None:
    for what in ("requests", "tokens"):
        meaning = f"most {what} in any minute, 0 for no limit"
        change.add_argument(f"--{what}-per-min", metavar="N", type=_limit, help=meaning)


def _add_policy(commands: argparse._SubParsersAction[Parser]) -> None:
    policy = _add(commands, "policy", "in which order prompts wait", json=True, epilog=_POLICY_EPILOG)
    add_connection(policy)
    changes = policy.add_subparsers(dest="change", metavar="CHANGE", parser_class=Parser)
    for name, meaning in (("set", "order by another policy"), ("unset", "as around it again")):
        example = f"expresslane policy {name}{' sjf' * (name == 'set')} --class batch"
        change = changes.add_parser(name, help=meaning, example=example)
        if name == "set":
            change.add_argument("policy", metavar="POLICY", choices=POLICY_NAMES, help=", ".join(POLICY_NAMES))
        change.add_argument("--class", dest="prompt_class", default="", choices=CLASS_NAMES, help="only this class")
        change.add_argument("--model", default="", metavar="NAME", help="only this model")
        add_connection(change)


def _add(
    commands: argparse._SubParsersAction[Parser], name: str, meaning: str, *, json: bool = False, epilog: str = ""
) -> Parser:
    parser = commands.add_parser(name, help=meaning, description=meaning, epilog=epilog, example=f"expresslane {name}")
    if json:
        parser.add_argument("--json", dest="as_json", action="store_true", help="for programs")
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 2**31 - 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of results; example: 100")
    return int(text)


def _days(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 36_500:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days from 1 to 36500; example: 90")
    return int(text)


def _weight(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1000")
    return int(text)


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _cap(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 100000")
    return int(text)
