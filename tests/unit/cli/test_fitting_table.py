"""Tables in narrow terminals."""

from __future__ import annotations

import io

import pytest
from expresslane.cli.backends import backends_table
from expresslane.cli.fitting_table import FittingTable
from expresslane_client import Backend
from expresslane_client.v1 import admin_pb2
from rich.console import Console
from rich.text import Text

WORDS = "local llamacpp on 10 4 7 3.5 9 up qwen2.5-coder-32b-instruct"
HEADINGS = "backend kind concurrency cap slots in flight mean peak state models"


def shown(width: int) -> list[str]:
    """The lines of a table of one backend."""
    backend = admin_pb2.Backend(
        name="backends/local",
        kind="llamacpp",
        models=[admin_pb2.BackendModel(model="qwen2.5-coder-32b-instruct")],
        can_run_concurrently=True,
        concurrency_enabled=True,
        cap=10,
        effective_cap=10,
        discovered_slots=4,
        in_flight=7,
        mean_in_flight=3.5,
        peak_in_flight=9,
        available=True,
    )
    file = io.StringIO()
    Console(file=file, width=width).print(*backends_table([Backend.from_proto(backend)]), sep="\n")
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", range(35, 161))
def test_no_word_is_broken(width: int) -> None:
    """At any width every word of the table is whole, and the state is there."""
    lines = shown(width)
    assert all(len(line) <= width for line in lines)
    assert set(lines[0].split()) <= set(HEADINGS.split())
    assert set(" ".join(lines[1:]).replace("●", "").split()) <= set(WORDS.split())
    assert {"backend", "state"} <= set(lines[0].split())


def test_averages_go_first() -> None:
    """What is given up first are the mean, then the peak (A28)."""
    assert "mean" in shown(160)[0]
    narrower = next(lines for width in range(160, 0, -1) if "mean" not in (lines := shown(width))[0])
    assert all(name in narrower[0] for name in ("kind", "slots", "peak", "models"))
    assert "in flight" in shown(50)[0]


def test_what_is_never_given_up_is_cut() -> None:
    """A name that is wider than the terminal is cut in its one line."""
    table = FittingTable(("name", "more"), gives_up=("more",))
    table.add_row(Text("x" * 50), Text("y"))
    file = io.StringIO()
    Console(file=file, width=20).print(table)
    assert file.getvalue().splitlines()[1].strip() == "x" * 19 + "…"
