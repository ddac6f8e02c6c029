"""The file of prompts without success: each run has its own, and one that is taken is never written over (A30)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from expresslane.cli.failures_file import new_failures
from expresslane.cli.parser import build_parser
from expresslane.cli.run_options import run_options

if TYPE_CHECKING:
    from pathlib import Path


def test_each_has_a_name_of_its_own(tmp_path: Path) -> None:
    """The first free name is taken, an empty file counts as free, nothing else is left behind."""
    path = tmp_path / "r.failed.jsonl"
    names = [new_failures(path, [b"%d\n" % number]).name for number in range(3)]
    assert names == ["r.failed.jsonl", "r.2.failed.jsonl", "r.3.failed.jsonl"]
    (tmp_path / names[1]).write_bytes(b"")
    assert new_failures(path, [b"4\n"]).name == names[1]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == dict(
        zip(names, [b"0\n", b"4\n", b"2\n"], strict=True)
    )


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system may know none: what is there is not written over all the same."""

    def no_links(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.link", no_links)
    path = tmp_path / "f"
    assert [new_failures(path, [b"%d\n" % number]).name for number in range(2)] == ["f", "f.2"]
    assert path.read_bytes() == b"0\n"


@pytest.mark.parametrize("output", [[], ["-o", "r.jsonl"]])
def test_the_command_for_another_name_keeps_it(output: list[str], tmp_path: Path) -> None:
    """What is left of a second round stays in the file that the round came from."""
    first = run_options(build_parser().parse_args(["run", "p.jsonl", *output]))
    other = tmp_path / first.failures.name.replace(".failed", ".2.failed")
    again = run_options(build_parser().parse_args(first.again(other).split()[1:]))
    assert (again.failures, again.runs_failures) == (other, True)


def test_a_kept_batch_is_come_back_to_over_its_failures() -> None:
    """Where a run replaces failures that it was told to, so does the command that comes back to it."""
    words = ["run", "p", "--keep", "1m", "--request-id", "n", "--failures", "f", "--overwrite"]
    first = run_options(build_parser().parse_args(words))
    assert "--overwrite" in first.attach.split()
    assert "--overwrite" not in first.again(first.failures).split()
