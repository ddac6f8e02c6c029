"""Where results and failures are written, and what cannot be a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from expresslane.cli.console import CommandError
from expresslane.cli.failures_file import failures_path
from expresslane.cli.result_file import open_output


@pytest.mark.parametrize(
    ("source", "output", "expected"),
    [
        ("prompts.jsonl", "out/results.jsonl", "out/results.failed.jsonl"),
        ("prompts.jsonl", None, "prompts.failed.jsonl"),
        ("prompts.jsonl", "same.v1", "same.v1.failed.jsonl"),
        ("prompts.jsonl", "same.v2", "same.v2.failed.jsonl"),
        ("results.failed.jsonl", None, "results.failed.jsonl"),
        ("-", None, "expresslane.failed.jsonl"),
        (".", None, "expresslane.failed.jsonl"),
        ("/", None, "expresslane.failed.jsonl"),
        ("prompts.jsonl", ".", "expresslane.failed.jsonl"),
    ],
)
def test_failures_go_beside_the_output(source: str, output: str | None, expected: str) -> None:
    """Failures are written next to the output, or else the input, whatever their names are (A30)."""
    assert failures_path(source, output) == Path(expected)


@pytest.mark.parametrize("mode", ["refuse", "append", "overwrite"])
def test_a_folder_is_no_output(tmp_path: Path, mode: str) -> None:
    """A folder as output is refused as one, in every mode (P39)."""
    with pytest.raises(CommandError, match="it is a folder"):
        open_output(tmp_path, mode)
