"""The check of a document's figures: what it reads out of the text, and when a number is right."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_figures.py"
spec = importlib.util.spec_from_file_location("check_figures", SCRIPT)
assert spec is not None
assert spec.loader is not None
check_figures = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = check_figures
spec.loader.exec_module(check_figures)
Figure, figures, is_right = check_figures.Figure, check_figures.figures, check_figures.is_right

NONE: frozenset[str] = frozenset()


def test_figures_of_a_paragraph() -> None:
    """Each value names its line and command, and must stand in the paragraph or item above, as a whole number."""
    text = "Mean 1.18, worst\n15,627 s.\n<!-- figures: compare --load 1 | mean=1.18 s:long-max=15,627 -->"
    assert list(figures(text, NONE)) == [
        Figure(3, "compare --load 1", "mean", "1.18"),
        Figure(3, "compare --load 1", "s:long-max", "15,627"),
    ]
    for prose in ("Mean 1.183.", "Mean 11.18.", "Mean 1.18.\n\nNext.", "- mean 1.18\n- other"):
        with pytest.raises(ValueError, match=r"1\.18 is not in what stands above"):
            list(figures(f"{prose}\n<!-- figures: compare | mean=1.18 -->", NONE))


def test_figures_of_a_table() -> None:
    """A row is a workload, recorded or made up, with or without chunks; a column is a figure; a dash is none."""
    rows = [
        "| workload | mean | P99 above |",
        "|---|---|---|",
        "| `a` | 0.9 | - |",
        "| `b`, chunks of 512 | 1 | 2 |",
        "",
    ]
    text = "\n".join(["<!-- table: compare -->", *rows])
    assert list(figures(text, frozenset("a"))) == [
        Figure(4, "compare --trace TRACES/a.csv", "mean", "0.9"),
        Figure(5, "compare --trace synthetic:b --threshold 512", "mean", "1"),
        Figure(5, "compare --trace synthetic:b --threshold 512", "long-p99", "2"),
    ]


def test_a_comment_that_is_misspelt_is_refused() -> None:
    """Nothing that was meant to be checked is left out in silence."""
    with pytest.raises(ValueError, match="line 2"):
        list(figures("Mean 1.\n<!-- figures: compare mean=1 -->", NONE))


@pytest.mark.parametrize(
    ("printed", "ours", "right"),
    [("1.18", 1.184, True), ("1.18", 1.186, False), ("15,627", 15_627.4, True), ("0.9", 0.85, True), ("2", 2.6, False)],
)
def test_rounding(printed: str, ours: float, right: bool) -> None:
    """A number is right when ours rounds to it, at as many decimals as are written."""
    assert is_right(printed, ours) is right
