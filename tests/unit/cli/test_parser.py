"""The command line's grammar: what is understood, and what is said of what is not (P39)."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from expresslane.cli.connection import Connection, connection
from expresslane.cli.console import CommandError
from expresslane.cli.parser import build_parser
from expresslane.cli.run_options import run_options

if TYPE_CHECKING:
    from pathlib import Path

WRONG = [
    (["bakends"], ["'bakends'", "did you mean backends?"]),
    (["run"], ["PROMPTS.jsonl", "example:     expresslane run"]),
    (["run", "p", "--in-oder"], ["--in-oder", "did you mean --in-order?", "example:     expresslane run"]),
    (["tenants", "set", "acme", "--wieght", "3"], ["--wieght 3", "example:     expresslane tenants set acme"]),
    (["tenants", "set", "acme", "more"], ["arguments: more", "all options: expresslane tenants set --help"]),
    (["status", "--wtch"], ["did you mean --watch?", "example:     expresslane status\n"]),
    (["--wtch", "status"], ["--wtch", "all options: expresslane --help"]),
    (["run", "p", "--max-tokens", "0"], ["--max-tokens", "'0' is not a whole number above 0; example: 64"]),
    (["run", "p", "--timeout", "soon"], ["--timeout", "'soon' is not a time; examples: 90, 90s, 10m, 1h"]),
    (["run", "p", "--max-failure-rate", "2"], ["'2' is not above 0 and at most 1"]),
    (["run", "p", "--class", "urgent"], ["--class", "interactive"]),
    (["backends", "set-cap", "local", "many"], ["'many' is not a whole number", "backends set-cap local 4"]),
    (["keys", "new"], ["TENANT", "example:     expresslane keys new acme"]),
    (["keys", "new", "acme", "--expires", "soon"], ["'soon' is not a number of days", "example: 90"]),
    (["backends", "disable"], ["NAME", "example:     expresslane backends disable local"]),
]


@pytest.mark.parametrize(("argv", "said"), WRONG, ids=[" ".join(argv) for argv, _ in WRONG])
def test_a_wrong_command_line_is_told_with_an_example(
    argv: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, the word at fault, and what would be right."""
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(argv)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert all(part in error for part in said)
    assert "--help" in error


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["run", "p", "--class", "vip"], ""),
        (["tenants", "set", "acme", "--weight", "-1"], ""),
        (["tenants", "set", "acme", "--weight", "status"], ""),
        (["tenants", "set", "acme", "--max-class"], ""),
        (["tenants", "set", "acme", "--max-class", "standart"], "standard"),
        (["tenants", "set", "acme", "--wieght", "3"], "--weight"),
        (["policy", "set", "fcsf"], "fcfs"),
        (["tenants", "sett"], "set"),
    ],
)
def test_a_guess_is_about_what_is_wrong(argv: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an option that is right and its value wrong a value is guessed or nothing, never the option itself (P39)."""
    with pytest.raises(SystemExit):
        build_parser().parse_args(argv)
    guesses = [line.strip() for line in capsys.readouterr().err.splitlines() if "did you mean" in line]
    assert guesses == ([f"did you mean {meant}?"] if meant else [])


def test_times_have_units() -> None:
    """Seconds without a unit."""
    parse = build_parser().parse_args
    times = [parse(["run", "p", "--timeout", text]).timeout for text in ("90", "1.5s", "10m", "1h")]
    assert times == [90.0, 1.5, 600.0, 3600.0]


def test_the_address_has_an_order_of_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Option, then EXPRESSLANE_ADDRESS, then the default; before or after the command and the subcommand."""
    monkeypatch.delenv("EXPRESSLANE_ADDRESS", raising=False)

    def parse(argv: list[str]) -> Connection:
        return connection(build_parser().parse_args(argv))

    assert parse(["status"]).address == "127.0.0.1:50051"
    monkeypatch.setenv("EXPRESSLANE_ADDRESS", "there:1")
    assert parse(["run", "p"]).address == "there:1"
    assert parse(["backends", "--address", "here:2", "enable", "x"]).address == "here:2"
    assert parse(["backends", "enable", "x", "--address", "here:2"]).address == "here:2"
    assert parse(["--address", "here:2", "backends", "enable", "x"]).address == "here:2"
    assert parse(["--address", "here:2", "status"]).address == "here:2"
    assert parse(["--address", "one:1", "status", "--address", "two:2"]).address == "two:2"


def options(*argv: str) -> str:
    """Where the failures of a run go."""
    return str(run_options(build_parser().parse_args(["run", *argv])).failures)


def test_failures_go_next_to_the_results() -> None:
    """`<output stem>.failed.jsonl`, else after the input; a second round keeps the name (A30)."""
    assert options("in/p.jsonl", "-o", "out/r.jsonl") == "out/r.failed.jsonl"
    assert options("in/p.jsonl") == "in/p.failed.jsonl"
    assert options("out/r.failed.jsonl") == "out/r.failed.jsonl"
    assert options("-") == "expresslane.failed.jsonl"
    assert options("p", "--failures", "f") == "f"


@pytest.mark.parametrize(
    "given",
    [
        "--address here:2",
        "--model 'a b' --max-tokens 7 --class batch --max-failure-rate 0.5 --timeout 90s",
        "--in-order --fail-fast --no-resume --quiet --ca-file 'my ca.pem' --api-key-file k",
        "--failures f --server-name there --tls",
    ],
)
def test_a_suggested_command_repeats_what_was_given(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command for the rest means the same as the first one, but for its files; no key is in it (A30)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPRESSLANE_API_KEY", "hidden")
    (tmp_path / "k").write_text("hidden too")
    first = run_options(build_parser().parse_args(["run", "p", "-o", "r.jsonl", *shlex.split(given)]))
    again = run_options(build_parser().parse_args(shlex.split(first.again(first.failures))[1:]))
    assert again.source == str(first.failures)
    assert again.mode == "append"
    differ = {"source": "p", "mode": "refuse"}
    assert replace(again, **differ) == first  # type: ignore[arg-type]
    assert "hidden" not in first.again(first.failures)


def test_a_kept_batch_has_its_name_for_itself() -> None:
    """The rest of a kept run is kept too, under another request_id; without --keep the name goes on."""
    first = run_options(build_parser().parse_args(["run", "p", "--keep", "10m", "--request-id", "n"]))
    assert first.again(first.failures) == "expresslane run p.failed.jsonl --keep 600s"
    first = run_options(build_parser().parse_args(["run", "p", "--request-id", "n"]))
    assert first.again(first.failures) == "expresslane run p.failed.jsonl --request-id n"


@pytest.mark.parametrize(
    "argv",
    [
        ["p", "-o", "p"],
        ["p", "-o", "./p"],
        ["p", "-o", "r", "--failures", "r"],
        ["p", "--append", "--overwrite"],
        ["p", "--append"],
    ],
)
def test_files_that_would_destroy_each_other_are_refused(argv: list[str]) -> None:
    """Input, output and failures are three files; --append says to what."""
    with pytest.raises(CommandError):
        options(*argv)
