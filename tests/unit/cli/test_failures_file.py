"""The file of prompts without success: each run has its own, and one that is taken is never written over (A30)."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

import pytest
from expresslane.cli.failures_file import add_failures, new_failures, replace_failures
from expresslane.cli.parser import build_parser
from expresslane.cli.run_options import run_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

A, B = b'{"custom_id": "a"}\n', b'{"custom_id": "b"}\n'


def before_the_lock(monkeypatch: pytest.MonkeyPatch, another_run: Callable[[], object]) -> None:
    """Let another run have the lock of a file first, once."""
    lock, others = fcntl.flock, [another_run]

    def after_the_other(file: int, operation: int) -> None:
        if others:
            others.pop()()
        lock(file, operation)

    monkeypatch.setattr("fcntl.flock", after_the_other)


def locked_meanwhile(path: Path, line: bytes) -> Iterator[bytes]:
    """The line, once it is clear that nobody else can lock the file while lines are read."""
    with path.open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield line


def test_each_has_a_name_of_its_own(tmp_path: Path) -> None:
    """The first free name is taken, also an empty file has its own, nothing else is left behind."""
    path = tmp_path / "r.failed.jsonl"
    names = [new_failures(path, [b"%d\n" % number]).name for number in range(3)]
    assert names == ["r.failed.jsonl", "r.2.failed.jsonl", "r.3.failed.jsonl"]
    (tmp_path / names[1]).write_bytes(b"")
    names.append(new_failures(path, [b"4\n"]).name)
    assert names[3:] == ["r.4.failed.jsonl"]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == dict(
        zip(names, [b"0\n", b"", b"2\n", b"4\n"], strict=True)
    )


def test_two_that_write_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is taken before it has lines; in two containers both runs may have the same pid, on one volume."""
    monkeypatch.setattr("os.getpid", lambda: 1)
    monkeypatch.setattr("os.link", lambda *_: pytest.fail("not every file system has links"))
    path, names = tmp_path / "f", list[str]()

    def lines() -> Iterator[bytes]:
        yield b"0\n"
        names.append(new_failures(path, [b"1\n"]).name)

    names.insert(0, new_failures(path, lines()).name)
    assert names == ["f", "f.2"]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"f": b"0\n", "f.2": b"1\n"}


def test_a_name_that_another_run_has_added_to_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the name and its lock another run may find the file and add to it."""
    path = tmp_path / "f"
    before_the_lock(monkeypatch, lambda: add_failures(path, [B], ["b"]))
    assert new_failures(path, [A]).name == "f.2"
    assert (path.read_bytes(), (tmp_path / "f.2").read_bytes()) == (B, A)


@pytest.mark.parametrize("left", [[], [A]])
def test_what_another_run_adds_is_never_lost(
    left: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose prompts have all ended finds what another one has put in the file's place just before."""
    path = tmp_path / "f"
    path.write_bytes(A)
    before_the_lock(monkeypatch, lambda: add_failures(path, [B], ["b"]))
    assert not add_failures(path, left, ["a"])
    assert path.read_bytes() == b"".join([B, *left])


def test_a_file_that_another_run_has_removed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of a file that nobody finds any more is of no use."""
    path = tmp_path / "f"
    path.write_bytes(B)
    before_the_lock(monkeypatch, lambda: add_failures(path, [], ["b"]))
    add_failures(path, [A], ["a"])
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("f", A)]


def test_each_change_is_under_the_lock(tmp_path: Path) -> None:
    """Adding, replacing and a new file: nobody else changes it meanwhile, and its mode is that of any new file."""
    path, usual = tmp_path / "f", tmp_path / "usual"
    usual.touch()
    assert new_failures(path, locked_meanwhile(path, A)) == path
    assert path.stat().st_mode == usual.stat().st_mode
    path.chmod(0o640)
    add_failures(path, locked_meanwhile(path, B), [])
    assert path.read_bytes() == A + B
    replace_failures(path, locked_meanwhile(path, A))
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (A, 0o640)
    assert add_failures(path, [], ["a"])
    assert list(tmp_path.iterdir()) == [usual]


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


def test_a_named_file_is_named_once() -> None:
    """Where failures of a named file go beside it, the command for them names only where they are."""
    first = run_options(build_parser().parse_args(["run", "f", "--failures", "f"]))
    other = first.failures.with_name("f.2")
    again = run_options(build_parser().parse_args(first.again(other).split()[1:]))
    assert first.again(other).count("--failures") == 1
    assert (again.failures, again.runs_failures) == (other, True)
