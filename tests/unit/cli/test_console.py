"""What the command line shows of text that others have written."""

from __future__ import annotations

import json

import pytest
from expresslane.cli.console import json_text, one_line
from expresslane.cli.summary_table import seconds
from hypothesis import given
from hypothesis import strategies as st

HARMFUL = [chr(code) for code in (*range(32), *range(0x7F, 0xA0), 0x2028, 0x202E, 0x2066, 0xFEFF)]


@given(st.text(alphabet=st.sampled_from(HARMFUL) | st.characters(exclude_categories=["Cs"])))
def test_json_lines_obey_nobody(text: str) -> None:
    """A line of JSON holds no character that a terminal acts on, and means the same."""
    line = json_text({"text": text})
    assert not set(line) & set(HARMFUL)
    assert json.loads(line) == {"text": text}


@given(st.text(alphabet=st.sampled_from(HARMFUL) | st.characters()))
def test_shown_text_obeys_nobody(text: str) -> None:
    """Text on a terminal has neither control characters nor line ends."""
    assert not set(one_line(text)) & set(HARMFUL)


def test_an_escape_sequence_is_seen_and_not_done() -> None:
    """The reader sees that something was there."""
    assert one_line("\x1b[31mred\nnext") == "␛[31mred⏎next"
    assert one_line("abcdef", 4) == "abc…"


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(None, "-"), (0, "0 ms"), (0.34, "0.3 ms"), (12.3, "12 ms"), (1_234, "1.23 s"), (3_600_000, "60 min 00 s")],
)
def test_durations_for_a_person(milliseconds: float | None, text: str) -> None:
    """Units follow the size."""
    assert seconds(milliseconds) == text
