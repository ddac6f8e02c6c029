"""Prompts files: checked as a whole, read lazily, kept byte for byte."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from expresslane.cli.console import CommandError
from expresslane.cli.prompt_file import COMPLAINTS_MAX, InputFileError, PromptFile
from expresslane.cli.prompt_options import Defaults

if TYPE_CHECKING:
    from pathlib import Path


def opened(path: Path, content: bytes) -> PromptFile:
    """A prompts file with this content."""
    path.write_bytes(content)
    return PromptFile.open(str(path), Defaults())


def line(custom_id: str) -> bytes:
    """A right line, without its end."""
    return f'{{"custom_id":"{custom_id}",  "prompt":"x"}}'.encode()


def test_lines_are_kept_as_they_are(tmp_path: Path) -> None:
    """Blank lines, line ends, a byte order mark and a missing last line end do no harm; numbers are the file's own."""
    file = opened(tmp_path / "p", b"\xef\xbb\xbf" + line("a") + b"\r\n\n  \n" + line("b") + b"\n" + line("c"))
    file.check()
    assert [prompt.custom_id for prompt in file.prompts()] == ["a", "b", "c"]
    assert [file.line(index) for index in range(3)] == [line("a") + b"\r\n", line("b") + b"\n", line("c") + b"\n"]
    assert [file.where(index).rpartition(":")[2] for index in range(3)] == ["1", "4", "5"]
    file.close()


def test_all_mistakes_are_listed_up_to_a_bound(tmp_path: Path) -> None:
    """Each complaint says where; beyond 20 they are only counted."""
    file = opened(tmp_path / "p", line("a") + b"\n" + b"{bad}\n" * 30)
    with pytest.raises(InputFileError) as caught:
        file.check()
    assert (len(caught.value.complaints), caught.value.count) == (COMPLAINTS_MAX, 30)
    assert str(caught.value.complaints[0]).startswith(f"{tmp_path}/p:2:2: is not a JSON object")
    file.close()


def test_a_name_is_taken_only_once(tmp_path: Path) -> None:
    """A duplicate names the line that had it first (A04)."""
    file = opened(tmp_path / "p", b"\n".join([line("a"), line("b"), line("a")]))
    with pytest.raises(InputFileError, match=r"p:3: custom_id: 'a' is taken by line 1"):
        file.check()
    file.close()


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_a_mistake(tmp_path: Path, content: bytes) -> None:
    """Nothing to send is told, not done."""
    file = opened(tmp_path / "p", content)
    with pytest.raises(InputFileError, match="has no prompts"):
        file.check()
    file.close()


def test_utf16_is_told(tmp_path: Path) -> None:
    """Another encoding is a mistake of the first line."""
    file = opened(tmp_path / "p", line("a").decode().encode("utf-16"))
    with pytest.raises(InputFileError, match="not valid UTF-8"):
        file.check()
    file.close()


def test_a_pipe_is_read_twice(tmp_path: Path) -> None:
    """What cannot be rewound is copied first."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(line("a") + b"\n"))
    writer.start()
    file = PromptFile.open(str(pipe), Defaults())
    writer.join()
    file.check()
    assert [prompt.custom_id for prompt in file.prompts()] == ["a"]
    file.close()


def test_a_file_that_changes_meanwhile_is_told(tmp_path: Path) -> None:
    """The second reading finds what the first has checked, or says so."""
    path = tmp_path / "p"
    file = opened(path, line("a") + b"\n")
    file.check()
    path.write_bytes(b"something else entirely\n")
    with pytest.raises(CommandError, match="changed while it was read"):
        list(file.prompts())
    file.close()
